"""The list of sessions in the admin: who sees what, and what it costs."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from html import unescape

from asgiref.sync import async_to_sync
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.test import TestCase, override_settings
from django.urls import reverse
from django.utils import timezone

from agent_sessions import store
from agent_sessions.admin import paginator, search
from agent_sessions.admin.session_list import relative_time
from agent_sessions.identifiers import uuid7
from agent_sessions.models import AgentSession, SessionAccess, SessionItem
from tests.projects.cases import say
from tests.test_access import create_staff

LIST = reverse("admin:agent_sessions_agentsession_changelist")
PAYLOADS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg/onload=alert(1)>",
    "</title><script>alert(1)</script>",
    "javascript:alert(1)",
    "{{ 7|add:7 }}{% debug %}",
    "<a href=//evil.example>x</a>",
    "%(count)d %s {0}",
]
ACTIONS = {
    "archive_selected": "change_agentsession",
    "restore_selected": "change_agentsession",
    "remove_owner_selected": "change_agentsession",
    "delete_selected": "delete_agentsession",
    "export_selected": "export_session",
}


def call(call_id="c1"):
    return {"type": "function_call", "call_id": call_id, "name": "f", "arguments": "{}"}


def output(call_id="c1"):
    return {"type": "function_call_output", "call_id": call_id, "output": "1"}


class AdminTestCase(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.viewer = create_staff("viewer", "view_agentsession")
        cls.reader = create_staff("reader", "view_agentsession", "read_transcript")
        cls.root = User.objects.create(
            username="root", is_staff=True, is_superuser=True
        )
        cls.alice = User.objects.create(username="alice", email="Alice@example.com")
        cls.bob = User.objects.create(username="bob", email="bob@example.com")

    def append(self, session_id, *items, user=None):
        store.append_items(session_id, items or [say("hello")], user=user)
        return AgentSession.objects.get(session_id=session_id)

    def found(self, term="", user=None, **query):
        """Return the ids of the sessions that the list shows."""
        self.client.force_login(user or self.reader)
        response = self.client.get(LIST, {"q": term, **query})
        assert response.status_code == 200
        return [row.session_id for row in response.context["cl"].result_list]

    def post(self, action, *rows, **data):
        return self.client.post(
            LIST,
            {
                "action": action,
                "_selected_action": [row.pk for row in rows],
                "index": "0",
                **data,
            },
            follow=True,
        )

    def confirm(self, response, **data):
        """Answer the question that ``response`` asks, as its own form does."""
        fields = dict(
            re.findall(
                r'type="hidden" name="(\w+)" value="([^"]*)"', response.content.decode()
            )
        )
        fields.pop("csrfmiddlewaretoken", None)
        return self.client.post(LIST, {**fields, **data}, follow=True)

    def messages(self, response):
        return [str(message) for message in response.context["messages"]]


class PermissionTests(AdminTestCase):
    @override_settings(AGENT_SESSIONS_REQUIRE_REASON=True)
    def test_a_list_shows_no_words_where_a_reason_is_wanted(self):
        row = self.append("s", say("my secret preview"), user=self.alice)
        store.update_session(row, title="my hidden title")
        for user in (self.reader, self.root):
            assert self.found("secret preview", user=user) == []
            assert self.found("hidden title", user=user) == []
            response = self.client.get(LIST)
            self.assertContains(response, str(row.pk))
            self.assertContains(response, "reason:ticket 42")
            self.assertNotContains(response, "secret")
            self.assertNotContains(response, "hidden title")
        assert self.found("text:secret reason:ticket 42") == ["s"]

    def test_an_address_cannot_ask_what_was_said(self):
        row = self.append("s", say("my secret preview"), user=self.alice)
        store.update_session(row, title="my secret title", metadata={"a": "secret"})
        lookups = (
            *("title", "title__startswith", "preview", "preview__icontains"),
            *("metadata__icontains", "metadata__a", "metadata__a__startswith"),
            *("items__data__icontains", "user__agent_sessions__title__startswith"),
        )
        for user in (self.viewer, self.reader, self.root):
            self.client.force_login(user)
            for lookup in lookups:
                response = self.client.get(LIST, {lookup: "my secret"})
                assert response.status_code == 400, (user, lookup)
        assert self.found(user=self.viewer, user__exact=self.alice.pk) == ["s"]

    def test_words_are_shown_only_to_who_may_read_them(self):
        row = self.append("s", say("my secret preview"), user=self.alice)
        store.update_session(row, title="my secret title", metadata={"a": "secret"})
        for user in (self.viewer, self.reader, self.root):
            self.client.force_login(user)
            for page in (LIST, f"{LIST}?q=alice", f"{LIST}?q={row.pk}"):
                response = self.client.get(page)
                self.assertContains(response, "alice")
                if user == self.viewer:
                    self.assertNotContains(response, "secret")
                    self.assertContains(response, str(row.pk))
                else:
                    self.assertContains(response, "my secret title")

    @override_settings(AGENT_SESSIONS_SHOW_CONTENT=False)
    def test_a_setting_hides_words_from_everybody(self):
        row = self.append("s", say("my secret preview"))
        self.client.force_login(self.root)
        response = self.client.get(LIST)
        self.assertNotContains(response, "secret")
        self.assertNotContains(response, "export_selected")
        assert self.found("secret", self.root) == []
        assert self.found("text:secret", self.root) == []
        assert self.found(str(row.pk), self.root) == ["s"]

    def test_who_has_no_permission_sees_nothing(self):
        for user in (create_staff("nobody"), create_staff("only", "read_transcript")):
            self.client.force_login(user)
            assert self.client.get(LIST).status_code == 403
            assert self.post("archive_selected", self.alice).status_code == 403

    def test_nobody_adds_a_session(self):
        self.client.force_login(self.root)
        url = reverse("admin:agent_sessions_agentsession_add")
        assert self.client.get(url).status_code == 403

    def test_each_action_has_its_permission(self):
        row = self.append("s", user=self.alice)
        for action, permission in ACTIONS.items():
            rights = {"view_agentsession", permission}
            if action == "export_selected":
                rights.add("read_transcript")
            allowed = create_staff(action, *rights)
            for user in (self.viewer, self.reader, allowed):
                self.client.force_login(user)
                listed = self.client.get(LIST).content.decode()
                assert (f'value="{action}"' in listed) is (user == allowed)
                if user != allowed:
                    self.post(action, row, sessions=row.pk.hex, confirmed="yes")
        row.refresh_from_db()
        assert (row.archived_at, row.user) == (None, self.alice)
        assert not SessionAccess.objects.exists()

    def test_exporting_needs_reading_as_well(self):
        self.append("s")
        taker = create_staff("taker", "view_agentsession", "export_session")
        self.client.force_login(taker)
        self.assertNotContains(self.client.get(LIST), "export_selected")


class MatrixTests(AdminTestCase):
    """{who} x {list, its words, by user, overview, page, actions}, all in one place."""

    ROLES = {
        "no permission": set(),
        "view": {"view_agentsession"},
        "read_transcript": {"view_agentsession", "read_transcript"},
        "export": {"view_agentsession", "read_transcript", "export_session"},
        "change": {"view_agentsession", "change_agentsession"},
        "delete": {"view_agentsession", "delete_agentsession"},
        "export alone": {"view_agentsession", "export_session"},
        "read alone": {"read_transcript", "export_session"},
    }
    PAGES = {"list", "users", "overview", "page"}
    MAY = {
        "no permission": set(),
        "view": PAGES,
        "read_transcript": PAGES | {"words", "text"},
        "export": PAGES | {"words", "text", "export"},
        "change": PAGES | {"archive", "owner"},
        "delete": PAGES | {"delete"},
        "export alone": PAGES,
        "read alone": set(),
        "superuser": PAGES | {"words", "text", "export", "archive", "owner", "delete"},
    }

    def test_everybody_may_do_what_they_may_and_nothing_else(self):
        for role, allowed in self.MAY.items():
            user = self.root
            if role != "superuser":
                user = create_staff(role, *self.ROLES[role])
            self.client.force_login(user)
            with self.subTest(role):
                assert self.done_by_this_user() == allowed

    def done_by_this_user(self):
        row = self.append("s", say("the secret needle"), user=self.alice)
        page = reverse("admin:agent_sessions_agentsession_change", args=[row.pk])
        pages = {
            "list": LIST,
            "users": f"{LIST}users/",
            "overview": f"{LIST}overview/",
            "page": page,
        }
        done = {
            name
            for name, url in pages.items()
            if self.client.get(url).status_code == 200
        }
        if b"secret" in self.client.get(LIST).content:
            done.add("words")
        found = self.client.get(LIST, {"q": "text:needle"})
        if found.status_code == 200 and found.context["cl"].result_count:
            done.add("text")
        exported = self.post("export_selected", row)
        if exported.streaming and b"needle" in exported.getvalue():
            done.add("export")
        self.post("archive_selected", row)
        if AgentSession.objects.archived().exists():
            done.add("archive")
        sure = {"sessions": row.pk.hex, "confirmed": "yes"}
        self.post("remove_owner_selected", row, **sure)
        if AgentSession.objects.orphaned().exists():
            done.add("owner")
        self.post("delete_selected", row, **sure)
        if not AgentSession.objects.exists():
            done.add("delete")
        AgentSession.objects.all().delete()
        return done


class SearchTests(AdminTestCase):
    def test_by_what_stands_in_a_log(self):
        row = self.append("user/1:support #4", user=self.alice)
        named = store.create_session(self.bob, session_id=str(uuid7()))
        for term in (str(row.pk), row.pk.hex, str(row.pk).upper(), row.session_id):
            assert self.found(f" {term} ", self.viewer) == [row.session_id]
        assert self.found(named.session_id, self.viewer) == [named.session_id]
        assert self.found(str(uuid7())) == []

    def test_by_whose_it_is(self):
        self.append("hers", user=self.alice)
        self.append("his", user=self.bob)
        for term in ("alice", "ALICE@example.com", "lic", str(self.alice.pk)):
            assert self.found(term, self.viewer) == ["hers"]
        assert self.found("example.com", self.viewer) == ["his", "hers"]

    def test_by_title_and_preview_for_who_may_read_them(self):
        row = self.append("a", say("the preview of it"))
        store.update_session(row, title="Order 42")
        assert self.found("order 42") == self.found("PREVIEW of") == ["a"]
        assert self.found("order 42", self.viewer) == []
        assert self.found("preview", self.viewer) == []

    def test_a_whole_address_finds_that_user_alone(self):
        User.objects.create(username="x", email="notalice@example.com")
        self.append("hers", user=self.alice)
        other = self.append("other", user=self.bob)
        store.update_session(other, title="mail from alice@example.com")
        assert self.found("alice@example.com") == ["hers"]

    def test_texts_only_with_the_prefix_and_on_record(self):
        self.append("a", say("first"), say('a "needle" in\nhay'), user=self.alice)
        self.append("b")
        assert self.found("needle") == []
        assert not SessionAccess.objects.exists()
        assert self.found('text:"needle" in\nhay') == ["a"]
        record = SessionAccess.objects.get()
        assert (record.user, record.action) == (self.reader, "searched")
        assert record.session is None
        assert self.found("text:needle", self.viewer) == []
        assert self.found("text:") == []
        assert SessionAccess.objects.count() == 1

    def test_texts_are_searched_within_bounds_that_the_page_tells(self):
        for number in range(4):
            self.append(f"s{number}", say("needle"), say("x"))
        self.client.force_login(self.reader)
        if True:
            limits = (search.TEXT_SESSION_LIMIT, search.TEXT_ITEM_LIMIT)
            try:
                search.TEXT_SESSION_LIMIT = 3
                assert self.found("text:needle") == ["s3", "s2", "s1"]
                response = self.client.get(LIST, {"q": "text:needle"})
                self.assertContains(response, "the texts of the 3 newest sessions")
                search.TEXT_ITEM_LIMIT = 5
                assert self.found("text:needle") == ["s3", "s2"]
                search.TEXT_ITEM_LIMIT = 1
                assert self.found("text:needle") == ["s3"]
            finally:
                search.TEXT_SESSION_LIMIT, search.TEXT_ITEM_LIMIT = limits

    @override_settings(AGENT_SESSIONS_REQUIRE_REASON=True)
    def test_a_search_in_texts_takes_its_reason_along(self):
        self.append("a", say("needle"))
        assert self.found("text:needle") == []
        assert self.found("text:needle reason: ticket 42") == ["a"]
        assert SessionAccess.objects.get().reason == "ticket 42"

    def test_odd_terms_find_nothing_and_break_nothing(self):
        self.append("a", user=self.alice)
        for term in (*PAYLOADS, "%", "_", "9" * 400, "-1", "'", "\\", "🙂" * 99):
            assert self.found(term) == []

    def test_only_so_many_users_are_looked_at(self):
        for number in range(search.USER_LIMIT):
            User.objects.create(username=f"al{number}")
        self.client.force_login(self.reader)
        response = self.client.get(LIST, {"q": "al"})
        assert "only 200 of them" in self.messages(response)[0]


class ColumnTests(AdminTestCase):
    def states(self):
        self.client.force_login(self.reader)
        response = self.client.get(LIST)
        return {
            row.session_id: [str(state.words) for state in row.admin_row.states]
            for row in response.context["cl"].result_list
        }

    def test_the_state_is_told_in_words(self):
        answer = {"role": "assistant", "content": "yes"}
        self.append("fine", say("x"), answer, user=self.alice)
        self.append("asked", say("x"), user=self.alice)
        self.append("called", say("x"), call(), user=self.alice)
        self.append("anonymous", say("x"), answer)
        row = self.append("orphaned", say("x"), answer, user=self.bob)
        store.archive_sessions([row.pk])
        store.create_session(self.alice, session_id="empty")
        self.bob.delete()
        assert self.states() == {
            "fine": [],
            "asked": ["unanswered user turn"],
            "called": ["unanswered tool call"],
            "anonymous": ["anonymous"],
            "orphaned": ["archived", "orphaned"],
            "empty": [],
        }
        self.assertContains(self.client.get(LIST), "unanswered tool call")

    def test_a_call_beside_an_answered_one_is_unanswered(self):
        self.append("one", say("x"), call("a"), call("b"), output("a"), user=self.alice)
        both = [call("a"), call("b"), output("a"), output("b")]
        self.append("both", say("x"), *both, user=self.alice)
        self.append("earlier", say("x"), call(), say("y"), *both, user=self.alice)
        assert self.states() == {
            "one": ["unanswered tool call"],
            "both": [],
            "earlier": [],
        }

    def test_what_was_replaced_or_popped_does_not_count(self):
        row = self.append("s", say("x"), call(), user=self.alice)
        SessionItem.objects.filter(session=row, position=1).update(
            replaced_at=timezone.now()
        )
        assert self.states() == {"s": ["unanswered user turn"]}

    def test_times_are_relative_and_exact(self):
        row = self.append("s")
        past = timezone.now() - timedelta(hours=3, minutes=2)
        AgentSession.objects.filter(pk=row.pk).update(updated_at=past)
        self.client.force_login(self.viewer)
        html = self.client.get(LIST).content.decode().replace("\xa0", " ")
        assert "3 hours ago</time>" in html
        exact = timezone.localtime(past).isoformat(timespec="seconds")
        assert re.search(rf'<time datetime="{re.escape(exact)}" title="\w+', html)
        AgentSession.objects.update(updated_at=timezone.now() + timedelta(hours=1))
        self.assertContains(self.client.get(LIST), "just now</time>")

    def test_times_are_told_without_time_zones_too(self):
        with override_settings(USE_TZ=False):
            past = timezone.now() - timedelta(days=2)
            assert past.tzinfo is None
            html = relative_time(past).replace("\xa0", " ")
        assert "2 days ago</time>" in html
        assert f'datetime="{past.isoformat(timespec="seconds")}"' in html

    def test_a_user_is_a_link_for_who_may_open_it(self):
        self.append("s", user=self.alice)
        url = reverse("admin:auth_user_change", args=[self.alice.pk])
        self.client.force_login(self.viewer)
        self.assertNotContains(self.client.get(LIST), url)
        self.client.force_login(self.root)
        self.assertContains(self.client.get(LIST), url)

    def test_filters_choose(self):
        self.append("hers", user=self.alice)
        self.append("anonymous", *[say("x")] * 21)
        row = self.append("orphan", user=self.bob)
        store.archive_sessions([row.pk])
        self.bob.delete()
        store.create_session(self.alice, session_id="empty")
        AgentSession.objects.filter(session_id="hers").update(
            updated_at=timezone.now() - timedelta(days=100)
        )
        for query, expected in {
            "owner=present": {"hers", "empty"},
            "owner=anonymous": {"anonymous"},
            "owner=orphaned": {"orphan"},
            "archived=yes": {"orphan"},
            "archived=no": {"hers", "anonymous", "empty"},
            "activity=7": {"anonymous", "orphan", "empty"},
            "activity=-90": {"hers"},
            "activity=-365": set(),
            "size=0": {"empty"},
            "size=1-20": {"hers", "orphan"},
            "size=21-100": {"anonymous"},
            "size=1001-": set(),
            "owner=present&size=0": {"empty"},
            "activity=nonsense&size=x&archived=&owner=?": {
                "hers",
                "anonymous",
                "orphan",
                "empty",
            },
            f"user__exact={self.alice.pk}": {"hers", "empty"},
        }.items():
            pairs = dict(pair.split("=", 1) for pair in query.split("&"))
            assert set(self.found(**pairs)) == expected, query

    def test_newest_activity_comes_first(self):
        for name in ("a", "b", "c"):
            self.append(name)
        self.append("a")
        assert self.found() == ["a", "c", "b"]

    def test_what_people_write_is_escaped(self):
        for number, payload in enumerate(PAYLOADS):
            user = User.objects.create(
                username=f"{payload}{number}", email=f"{number}@example.com"
            )
            row = self.append(f"{payload} {number}", say(payload), user=user)
            if number % 2:
                store.update_session(row, title=payload, metadata={payload: payload})
        for user in (self.viewer, self.root):
            self.client.force_login(user)
            pages = [self.client.get(LIST)]
            pages += [self.client.get(LIST, {"q": payload}) for payload in PAYLOADS]
            pages.append(self.post("delete_selected", *AgentSession.objects.all()))
            for page in pages:
                self.assert_inert(page.content.decode())

    def assert_inert(self, html):
        html = html[html.index('id="content"') :]
        for live in ("<script>alert", "<svg/onload", "<img src=x", "<a href=//"):
            assert live not in html
        assert not re.search(r'(href|src|action)="javascript:', unescape(html))


class CostTests(AdminTestCase):
    def test_the_list_costs_the_same_for_any_number(self):
        self.client.force_login(self.reader)
        self.client.get(LIST)
        for size in (1, 40):
            for number in range(size):
                user = User.objects.create(username=f"{size}-{number}@example.com")
                self.append(f"{size}-{number}", say("x"), call(), user=user)
            # The last of them adds up what the sessions of the page have used.
            with self.assertNumQueries(9) as queries:
                self.client.get(LIST)
            keys = queries[-1]["sql"].partition(" IN (")[2].partition(")")[0]
            assert keys.count(",") == AgentSession.objects.count() - 1
            with self.assertNumQueries(12):
                self.client.get(LIST, {"q": "example.com"})
            row = AgentSession.objects.last()
            with self.assertNumQueries(10):
                self.client.get(LIST, {"q": str(row.pk)})

    def test_the_table_is_not_counted(self):
        for number in range(7):
            self.append(f"s{number}")
        limit = paginator.COUNT_LIMIT
        try:
            paginator.COUNT_LIMIT = 5
            self.client.force_login(self.reader)
            response = self.client.get(LIST)
            self.assertContains(response, "The first 5 sessions.")
            self.assertNotContains(response, "5 results")
        finally:
            paginator.COUNT_LIMIT = limit
        response = self.client.get(LIST)
        self.assertContains(response, "7 sessions")

    def test_deleting_costs_the_same_for_any_number_of_items(self):
        self.client.force_login(self.root)
        ContentType.objects.get_for_model(AgentSession)
        for size in (1, 300):
            row = self.append(f"s{size}", *[say("x")] * size)
            url = reverse("admin:agent_sessions_agentsession_delete", args=[row.pk])
            with self.assertNumQueries(4):
                self.assertContains(self.client.get(url), f"{size}</li>")
            with self.assertNumQueries(16):
                self.client.post(url, {"post": "yes"})
        assert not AgentSession.objects.exists() and not SessionItem.objects.exists()


class ActionTests(AdminTestCase):
    def setUp(self):
        self.client.force_login(self.root)
        self.rows = [
            self.append(f"s{number}", say("my secret"), user=self.alice)
            for number in range(3)
        ]

    def assert_logged(self, count, flag):
        entries = LogEntry.objects.filter(action_flag=flag)
        assert entries.count() == count
        keys = {str(row.pk) for row in self.rows}
        for entry in entries:
            assert entry.object_repr in keys and entry.object_id in keys
            assert "secret" not in entry.change_message

    def test_archive_and_restore(self):
        response = self.post("archive_selected", *self.rows)
        assert self.messages(response) == ["3 sessions were archived."]
        assert AgentSession.objects.archived().count() == 3
        response = self.post("restore_selected", self.rows[0])
        assert self.messages(response) == ["1 session was restored."]
        assert AgentSession.objects.archived().count() == 2
        self.assert_logged(4, 2)
        response = self.post("restore_selected", self.rows[0])
        assert "needs that" in self.messages(response)[0]

    def test_removing_the_owner_asks_first(self):
        asked = self.post("remove_owner_selected", *self.rows)
        self.assertContains(asked, "3 sessions")
        self.assertNotContains(asked, "secret")
        assert not AgentSession.objects.orphaned().exists()
        response = self.confirm(asked)
        assert self.messages(response) == ["3 sessions have no owner any more."]
        assert AgentSession.objects.orphaned().count() == 3
        self.assert_logged(3, 2)

    def test_deleting_asks_first(self):
        asked = self.post("delete_selected", *self.rows[:2])
        self.assertContains(asked, "2 sessions")
        self.assertContains(asked, "2 items")
        self.assertNotContains(asked, "secret")
        assert AgentSession.objects.count() == 3
        response = self.confirm(asked)
        assert self.messages(response) == ["2 sessions were deleted."]
        assert AgentSession.objects.get() == self.rows[2]
        self.assert_logged(2, 3)

    def test_what_is_confirmed_is_what_was_shown(self):
        asked = self.post("delete_selected", *self.rows, select_across="1")
        self.append("new")
        self.confirm(asked)
        assert AgentSession.objects.get().session_id == "new"

    def test_a_forged_selection_is_refused(self):
        asked = self.post("delete_selected", *self.rows)
        assert self.confirm(asked, sessions="all").status_code == 400
        self.confirm(asked, sessions=uuid7().hex)
        assert AgentSession.objects.count() == 3

    def test_deleting_one_is_deleting_its_items(self):
        url = reverse(
            "admin:agent_sessions_agentsession_delete", args=[self.rows[0].pk]
        )
        self.assertNotContains(self.client.get(url), "secret")
        response = self.client.post(url, {"post": "yes"}, follow=True)
        assert str(self.rows[0].pk) in self.messages(response)[0]
        assert SessionItem.objects.count() == 2
        self.assert_logged(1, 3)

    def test_export_is_json_lines_with_a_record_for_each(self):
        response = self.post("export_selected", *self.rows[:2])
        assert response["Content-Type"] == "application/x-ndjson"
        assert response["Content-Disposition"].startswith("attachment; filename=")
        lines = [json.loads(line) for line in response.getvalue().splitlines()]
        assert lines[0] == {"format": "agent_sessions", "version": 1}
        assert [next(iter(line)) for line in lines[1:-1]] == ["session", "item"] * 2
        assert lines[-1] == {"end": {"sessions": 2}}
        assert lines[2]["item"]["data"] == say("my secret")
        records = SessionAccess.objects.filter(action="exported", user=self.root)
        assert {record.session for record in records} == {
            row.pk for row in self.rows[:2]
        }

    @override_settings(AGENT_SESSIONS_REQUIRE_REASON=True)
    def test_export_asks_for_a_reason_that_is_due(self):
        asked = self.post("export_selected", self.rows[0])
        self.assertContains(asked, 'name="reason"')
        assert not SessionAccess.objects.exists()
        assert b"secret" not in asked.content
        response = self.confirm(asked, reason="ticket 42")
        assert b"my secret" in response.getvalue()
        assert SessionAccess.objects.get().reason == "ticket 42"

    def test_the_selection_is_bounded(self):
        from agent_sessions.admin import actions

        limit = actions.SELECTION_LIMIT
        try:
            actions.SELECTION_LIMIT = 2
            response = self.post("delete_selected", *self.rows)
        finally:
            actions.SELECTION_LIMIT = limit
        assert self.messages(response) == ["Select at most 2 sessions at once."]

    def test_an_export_under_asgi_is_streamed_too(self):
        async def export():
            await self.async_client.aforce_login(self.root)
            response = await self.async_client.post(
                LIST,
                {
                    "action": "export_selected",
                    "_selected_action": [self.rows[0].pk],
                    "index": "0",
                },
            )
            assert response.is_async
            return b"".join([chunk async for chunk in response])

        assert b"my secret" in async_to_sync(export)()
