from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from asgiref.sync import async_to_sync
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.test import AsyncClient, TestCase, override_settings
from django.utils import timezone

from agent_sessions import exports, store
from agent_sessions.identifiers import uuid7
from agent_sessions.models import AgentSession, SessionAccess, SessionItem
from tests.nasty import NASTY_ITEMS, nested

PAYLOAD = "<script>alert(1)</script>"


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def call(call_id: str, name: str = "look_up") -> dict[str, Any]:
    return {
        "type": "function_call",
        "call_id": call_id,
        "name": name,
        "arguments": '{"id": 7}',
    }


def output(call_id: str, output: str = "found") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": output}


class AdminCase(TestCase):
    @classmethod
    def setUpTestData(cls):
        users = get_user_model().objects
        cls.owner = users.create_user("ann")
        cls.root = users.create_superuser("root")

    def setUp(self):
        self.client.force_login(self.root)

    def new_session(self, *items: Any, **fields: Any) -> AgentSession:
        session = store.create_session(self.owner, **fields)
        if items:
            store.append_items(session, items)
        session.refresh_from_db()
        return session

    def staff(self, *codenames: str) -> Any:
        person = get_user_model().objects.create_user("-".join(codenames) or "none")
        person.is_staff = True
        person.save()
        found = Permission.objects.filter(codename__in=codenames)
        assert len(found) == len(codenames)
        person.user_permissions.set(found)
        return person

    def url(self, session: AgentSession, path: str = "change/") -> str:
        return f"/admin/agent_sessions/agentsession/{session.pk}/{path}"

    def page(self, session: AgentSession, query: str = "") -> str:
        response = self.client.get(self.url(session) + query)
        assert response.status_code == 200
        return response.content.decode()


def anchors(html: str) -> list[int]:
    return [int(number) for number in re.findall(r'id="p(\d+)"', html)]


class PageTests(AdminCase):
    def test_the_page_opens_on_the_newest_items(self):
        session = self.new_session(*(user(f"text {number}") for number in range(250)))
        html = self.page(session)
        assert anchors(html) == list(range(150, 250))
        assert "text 249" in html
        assert "text 149" not in html

    def test_pages_lead_through_the_whole_session(self):
        session = self.new_session(*(user(f"text {number}") for number in range(250)))
        html, seen = self.page(session), []
        while True:
            seen = anchors(html) + seen
            older = re.search(r'href="([^"#]+)#[^"]*" rel="prev"', html)
            if older is None:
                break
            html = self.page(session, older.group(1))
        assert seen == list(range(250))
        seen = []
        html = self.page(session, "?first=")
        while True:
            seen += anchors(html)
            newer = re.search(r'href="([^"#]+)#[^"]*" rel="next"', html)
            if newer is None:
                break
            html = self.page(session, newer.group(1))
        assert seen == list(range(250))

    def test_a_position_stands_in_the_middle_of_its_page(self):
        session = self.new_session(*(user(str(number)) for number in range(250)))
        found = anchors(self.page(session, "?at=120"))
        assert found == list(range(70, 170))
        assert anchors(self.page(session, "?at=3"))[3] == 3

    def test_links_keep_what_else_is_in_the_query(self):
        session = self.new_session(*(user(str(number)) for number in range(150)))
        html = self.page(session, "?before=140&_changelist_filters=q%3D%22x")
        assert "?before=40&amp;_changelist_filters=q%3D%22x#" in html

    def test_places_that_are_none_open_the_newest_page(self):
        session = self.new_session(*(user(str(number)) for number in range(150)))
        for query in ("before=x", "before=-1", "after=", "at=99999999999", "at=²"):
            assert anchors(self.page(session, f"?{query}"))[-1] == 149, query

    def test_pages_at_the_edges_say_that_they_are_empty(self):
        session = self.new_session(user("a"))
        for query in ("?before=0", "?after=5", "?after=999999999"):
            assert "There are no items here" in self.page(session, query)
        empty = self.new_session()
        assert "There are no items here" in self.page(empty)

    def test_gaps_between_positions_break_nothing(self):
        session = self.new_session(*(user(str(number)) for number in range(150)))
        SessionItem.objects.filter(position__range=(20, 100)).delete()
        found = anchors(self.page(session, "?at=60"))
        assert found == [*range(20), *range(101, 110)]

    def test_a_call_is_paired_with_an_output_on_another_page(self):
        items = [user(str(number)) for number in range(99)]
        session = self.new_session(*items, call("c"), output("c"), *items)
        first = self.page(session, "?first=")
        assert "found" in first
        assert "on another page" in first
        second = self.page(session, "?after=99")
        assert "Its call is on another page" in second
        assert anchors(second) == list(range(100, 200))
        assert anchors(first) == list(range(100))

    def test_a_call_without_output_is_marked(self):
        html = self.page(self.new_session(user("a"), call("c")))
        assert "no output" in html
        html = self.page(self.new_session(user("a"), output("c")))
        assert "without call" in html

    def test_replaced_items_are_folded_away(self):
        session = self.new_session(user("old"), user("older"))
        SessionItem.objects.filter(session=session).update(replaced_at=timezone.now())
        store.append_items(session, [{"type": "compaction", "encrypted_content": "s"}])
        html = self.page(session)
        assert '<details class="agent-replaced">' in html
        assert "2 items that compaction replaced" in html
        assert "Summary for the model" in html

    def test_a_broken_row_is_a_notice(self):
        session = self.new_session(user("a"), user("b"))
        SessionItem.objects.filter(session=session, position=0).update(data="{broken")
        html = self.page(session)
        assert "Broken row" in html
        assert "{broken" in html
        assert anchors(html) == [0, 1]

    def test_turns_tell_their_gaps(self):
        session = self.new_session(user("a"), user("b"))
        early = timezone.now() - timedelta(hours=3, seconds=9)
        SessionItem.objects.filter(session=session, position=0).update(created_at=early)
        html = self.page(session)
        assert "Turn 1" in html
        assert "3 hours later" in html.replace("\xa0", " ")

    def test_long_texts_are_cut(self):
        session = self.new_session(user("word " * 1000), user("x" * 30_000))
        html = self.page(session)
        assert "Show all (5000 characters)" in html.replace(",", "")
        assert "The rest is not on this page" in html
        assert "x" * 21_000 not in html
        whole = self.client.get(self.url(session, "items/1/")).content.decode()
        assert "x" * 30_000 in whole

    def test_data_is_not_on_the_page(self):
        url = "data:image/png;base64," + "Z" * 40_000
        image = {"type": "input_image", "image_url": url}
        html = self.page(self.new_session({"role": "user", "content": [image]}))
        assert "image/png" in html
        assert "Z" * 100 not in html
        assert "<img" not in html

    def test_everything_is_escaped(self):
        session = self.new_session(
            {"role": PAYLOAD, "content": PAYLOAD},
            call(PAYLOAD, PAYLOAD),
            {"type": PAYLOAD, PAYLOAD: PAYLOAD},
            title=PAYLOAD,
            metadata={PAYLOAD: PAYLOAD},
        )
        for path in ("change/", "items/0/", "items/1/", "items/2/"):
            response = self.client.get(self.url(session, path))
            assert response.status_code == 200
            html = response.content.decode()
            assert PAYLOAD not in html
            assert "&lt;script&gt;" in html

    def test_what_has_no_utf8_is_shown(self):
        session = self.new_session(user("\ud800\0"), {"type": "\ud800"}, call("\ud800"))
        assert "\\ud800" in self.page(session)
        for position in range(3):
            path = f"items/{position}/"
            assert self.client.get(self.url(session, path)).status_code == 200

    def test_items_that_stores_get_wrong_are_shown_and_taken_along(self):
        items = {**NASTY_ITEMS, "depth 498": {"type": "tree", "value": nested(498)}}
        session = self.new_session(*items.values())
        assert len(anchors(self.page(session))) == len(items)
        for position, name in enumerate(items):
            for path in (f"items/{position}/", f"items/{position}/download.json"):
                response = self.client.get(self.url(session, path))
                assert response.status_code == 200, (name, path)
                assert response.getvalue(), (name, path)
        text = self.client.get(self.url(session, "download.jsonl")).getvalue()
        found = [json.loads(line)["item"]["data"] for line in text.splitlines()[2:-1]]
        assert found == list(items.values())
        for format in ("md", "json"):
            path = f"download.{format}"
            assert self.client.get(self.url(session, path)).getvalue()

    def test_json_is_shown_in_its_own_script(self):
        session = self.new_session(user("مرحبا"))
        html = self.client.get(self.url(session, "items/0/")).content.decode()
        assert html.count("مرحبا") == 2

    def test_a_strict_content_security_policy_would_pass(self):
        session = self.new_session(user("a"), call("c"), output("c"))
        for path in ("change/", "items/1/"):
            html = self.client.get(self.url(session, path)).content.decode()
            assert " style=" not in html
            assert "<style" not in html
            assert (
                re.findall(r"<script(?![^>]* src=)(?![^>]*application/json)", html)
                == []
            )
            assert re.findall(r"\son\w+=", html) == []


class CostTests(AdminCase):
    @classmethod
    def setUpTestData(cls):
        super().setUpTestData()
        turn = [user("a"), call("c"), output("c"), call("open")]
        cls.small = store.create_session(cls.owner)
        store.append_items(cls.small, turn * 26)
        cls.large = store.create_session(cls.owner)
        store.append_items(cls.large, turn * 500)

    def setUp(self):
        super().setUp()
        # Django keeps it for the life of the process.
        ContentType.objects.get_for_model(AgentSession)

    def count(self, session: AgentSession, query: str) -> int:
        with self.assertNumQueries(self.expected(query)) as queries:
            self.page(session, query)
        for query in queries.captured_queries:
            assert "COUNT(" not in query["sql"]
            assert " OFFSET " not in query["sql"]
        return len(queries)

    def expected(self, query: str) -> int:
        # Session, user, owner's row, items; then what is asked of the items around, and
        # the record of the access (with its savepoint), whose session it was. What the
        # turns of the page have used and the whole session; forks.
        return {"": 12, "?first=": 13, "?at=50": 14}[query]

    def test_a_large_session_costs_as_little_as_a_small_one(self):
        for query in ("", "?first="):
            assert self.count(self.small, query) == self.count(self.large, query)
        self.count(self.large, "?at=50")


class PermissionTests(AdminCase):
    def setUp(self):
        self.session = self.new_session(
            user("my secret"), title="my title", metadata={"k": "my metadata"}
        )
        self.secrets = ("my secret", "my title", "my metadata")

    def test_viewing_shows_the_frame_without_anybodys_words(self):
        self.client.force_login(self.staff("view_agentsession"))
        html = self.page(self.session)
        assert self.session.session_id in html
        assert "You may not read what was said" in html
        for secret in self.secrets:
            assert secret not in html
        assert not SessionAccess.objects.exists()

    def test_changing_without_reading_can_archive_and_no_more(self):
        self.client.force_login(self.staff("view_agentsession", "change_agentsession"))
        html = self.page(self.session)
        assert not any(secret in html for secret in self.secrets)
        sent = {"archived": "on", "title": "forged", "metadata": "{}"}
        self.client.post(self.url(self.session), sent)
        self.session.refresh_from_db()
        assert self.session.archived_at is not None
        assert self.session.title == "my title"

    def test_reading_shows_everything_and_is_recorded(self):
        person = self.staff("view_agentsession", "read_transcript")
        self.client.force_login(person)
        html = self.page(self.session)
        for secret in self.secrets:
            assert secret in html
        record = SessionAccess.objects.get()
        assert (record.user, record.session) == (person, self.session.pk)
        assert (record.action, record.channel) == ("opened", "admin")
        assert "Download" not in html
        assert 'name="title"' not in html
        assert self.client.post(self.url(self.session), {}).status_code == 403

    def test_reading_alone_opens_nothing(self):
        self.client.force_login(self.staff("read_transcript", "export_session"))
        for path in ("change/", "items/0/", "download.md", "items/0/download.json"):
            assert self.client.get(self.url(self.session, path)).status_code == 403
        assert not SessionAccess.objects.exists()

    def test_content_and_downloads_have_their_own_permissions(self):
        readable = ("change/", "items/0/")
        files = (
            *("download.md", "download.json", "download.jsonl"),
            "items/0/download.json",
        )
        view, read, take = "view_agentsession", "read_transcript", "export_session"
        matrix = [
            (self.staff(), 403, 403, 403),
            (self.staff(view), 200, 403, 403),
            (self.staff(view, take), 200, 403, 403),
            (self.staff(read, take), 403, 403, 403),
            (self.staff(view, read), 200, 200, 403),
            (self.staff(view, read, take), 200, 200, 200),
            (self.root, 200, 200, 200),
        ]
        for person, page, raw, download in matrix:
            self.client.force_login(person)
            wanted = dict(zip(readable, (page, raw), strict=True))
            wanted |= dict.fromkeys(files, download)
            for path, status in wanted.items():
                response = self.client.get(self.url(self.session, path))
                assert response.status_code == status, (person.username, path)

    def test_the_id_that_opens_a_visitors_session_is_for_readers(self):
        visitor = store.create_session(None)
        orphan = self.new_session()
        store.remove_owners([orphan.pk])
        for person, sees in (
            (self.staff("view_agentsession"), False),
            (self.root, True),
        ):
            self.client.force_login(person)
            assert (visitor.session_id in self.page(visitor)) == sees
            # These ids open nothing to anybody else.
            assert orphan.session_id in self.page(orphan)
            assert self.session.session_id in self.page(self.session)
        with override_settings(AGENT_SESSIONS_SHOW_CONTENT=False):
            assert visitor.session_id not in self.page(visitor)

    def test_people_who_are_not_staff_are_sent_to_the_login(self):
        self.client.force_login(self.owner)
        for path in ("change/", "items/0/", "download.md", "reason/"):
            response = self.client.get(self.url(self.session, path))
            assert response.status_code == 302
            assert "/login/" in response["Location"]

    def test_a_setting_switches_content_off_for_everyone(self):
        self.client.force_login(self.root)
        with override_settings(AGENT_SESSIONS_SHOW_CONTENT=False):
            html = self.page(self.session)
            assert "is not shown on this site" in html
            assert not any(secret in html for secret in self.secrets)
            for path in ("items/0/", "download.md", "reason/"):
                assert self.client.get(self.url(self.session, path)).status_code == 403
        assert not SessionAccess.objects.exists()

    def test_unknown_sessions_and_items_are_not_found(self):
        self.client.force_login(self.root)
        gone = AgentSession(pk="0190b5a4-0000-7000-8000-000000000000")
        assert self.client.get(self.url(gone)).status_code == 302
        for path in ("items/0/", "download.md"):
            assert self.client.get(self.url(gone, path)).status_code == 404
        for path in ("items/9/", "items/9/download.json", "download.exe"):
            assert self.client.get(self.url(self.session, path)).status_code == 404
        assert not SessionAccess.objects.exists()


class ReasonTests(AdminCase):
    def setUp(self):
        super().setUp()
        self.session = self.new_session(user("my secret"), title="my title")
        settings = override_settings(AGENT_SESSIONS_REQUIRE_REASON=True)
        settings.enable()
        self.addCleanup(settings.disable)

    def test_the_page_asks_for_a_reason_first(self):
        for path in ("change/", "items/0/", "download.md", "items/0/download.json"):
            html = self.client.get(self.url(self.session, path)).content.decode()
            assert 'name="reason"' in html
            assert "my secret" not in html
            assert "my title" not in html
        assert not SessionAccess.objects.exists()

    def test_a_reason_opens_this_session_and_is_recorded(self):
        sent = {"reason": "ticket 7"}
        response = self.client.post(self.url(self.session, "reason/"), sent)
        self.assertRedirects(response, self.url(self.session))
        assert SessionAccess.objects.get().reason == "ticket 7"
        assert "my secret" in self.page(self.session)
        assert 'name="reason"' in self.page(self.new_session(user("b")))

    def test_a_blank_reason_is_none(self):
        response = self.client.post(self.url(self.session, "reason/"), {"reason": " "})
        assert "This field is required" in response.content.decode()
        assert 'name="reason"' in self.page(self.session)

    def test_a_reason_is_good_for_an_hour(self):
        self.client.post(self.url(self.session, "reason/"), {"reason": "x"})
        kept = self.client.session
        kept["agent_sessions_reasons"][str(self.session.pk)][1] -= 3601
        kept.save()
        assert 'name="reason"' in self.page(self.session)

    def test_only_the_last_reasons_are_kept(self):
        for _ in range(55):
            self.client.post(self.url(self.new_session(), "reason/"), {"reason": "x"})
        assert len(self.client.session["agent_sessions_reasons"]) == 50


class EditTests(AdminCase):
    def test_title_metadata_and_archive_can_be_changed(self):
        session = self.new_session(user("a"), title="old")
        sent = {"title": "new", "metadata": '{"a": 1}', "archived": "on"}
        response = self.client.post(self.url(session), sent, follow=True)
        html = response.content.decode()
        before = session.updated_at
        session.refresh_from_db()
        assert (session.title, session.metadata) == ("new", {"a": 1})
        assert session.archived_at is not None
        assert (session.revision, session.updated_at) == (1, before)
        entry = LogEntry.objects.get()
        assert "new" not in entry.object_repr + entry.change_message
        assert str(session.pk) in html

    def test_nothing_else_can(self):
        session = self.new_session(user("a"))
        sent = {
            "title": "",
            "metadata": "{}",
            "session_id": "forged",
            "user": self.root.pk,
            "item_count": 99,
            "preview": "forged",
        }
        self.client.post(self.url(session), sent)
        again = AgentSession.objects.get(pk=session.pk)
        assert again.session_id == session.session_id
        assert again.user == self.owner
        assert (again.item_count, again.preview) == (1, "a")
        assert again.revision == 0

    def test_bad_values_are_told_without_quoting_them(self):
        session = self.new_session(user("a"))
        for sent in (
            {"title": "a\x01b", "metadata": "{}"},
            {"title": "", "metadata": "[1]"},
            {"title": "", "metadata": '{"a": NaN}'},
            {"title": "", "metadata": "{"},
        ):
            response = self.client.post(self.url(session), sent)
            assert response.status_code == 200
            assert "errornote" in response.content.decode()
        assert AgentSession.objects.get(pk=session.pk).revision == 0

    def test_empty_metadata_is_an_empty_object(self):
        session = self.new_session(metadata={"a": 1})
        self.client.post(self.url(session), {"title": "", "metadata": ""})
        session.refresh_from_db()
        assert session.metadata == {}


class DownloadTests(AdminCase):
    def setUp(self):
        super().setUp()
        self.items = [user(f"text {number}") for number in range(120)]
        self.items += [call("c"), output("c"), user("\ud800"), {"a": -0.0, "Z": 10**30}]
        self.session = self.new_session(*self.items, title=PAYLOAD, metadata={"k": "v"})

    def get(self, path: str) -> str:
        response = self.client.get(self.url(self.session, path))
        assert response.status_code == 200
        assert response.streaming
        assert response["X-Content-Type-Options"] == "nosniff"
        assert "no-store" in response["Cache-Control"]
        assert "private" in response["Cache-Control"]
        name = response["Content-Disposition"]
        assert name.startswith(f'attachment; filename="{self.session.pk}')
        assert "html" not in response["Content-Type"]
        return b"".join(response).decode()

    def test_json_lines_hold_every_item(self):
        lines = [json.loads(line) for line in self.get("download.jsonl").splitlines()]
        assert lines[1]["session"]["id"] == str(self.session.pk)
        assert lines[1]["session"]["title"] == PAYLOAD
        assert [line["item"]["data"] for line in lines[2:-1]] == self.items
        assert SessionAccess.objects.get().action == "exported"

    def test_json_is_one_document(self):
        document = json.loads(self.get("download.json"))
        assert document["session"]["metadata"] == {"k": "v"}
        assert [item["data"] for item in document["items"]] == self.items
        assert [item["position"] for item in document["items"]][-1] == 123
        empty = self.new_session()
        response = self.client.get(self.url(empty, "download.json"))
        assert json.loads(b"".join(response))["items"] == []
        gone = AgentSession(pk=uuid7(), session_id="x")
        assert json.loads(b"".join(exports.export_json(gone)))["items"] == []

    def test_broken_rows_are_taken_along_as_text(self):
        items = SessionItem.objects.filter(session=self.session)
        items.filter(position=0).update(data="{broken")
        items.filter(position=1).update(data='{"a": NaN}')
        lines = [json.loads(line) for line in self.get("download.jsonl").splitlines()]
        assert lines[2]["item"]["data"] == "{broken"
        assert lines[3]["item"]["data"] == '{"a": NaN}'

    def test_markdown_reads_like_the_page(self):
        text = self.get("download.md")
        assert text.startswith("# \\<script\\>")
        assert "## Turn 120" in text
        assert "**Tool** `look_up`" in text
        assert "text 119" in text

    def test_a_session_without_owner_has_a_markdown_too(self):
        session = store.create_session(None)
        response = self.client.get(self.url(session, "download.md"))
        assert f"# Session {session.pk}".replace("-", "\\-") in (
            response.getvalue().decode()
        )

    def test_one_item_is_given_out_as_it_is_stored(self):
        text = self.get("items/123/download.json")
        assert text == '{"a":-0.0,"Z":1' + "0" * 30 + "}"

    def test_under_asgi_it_is_streamed_too(self):
        async def download() -> bytes:
            client = AsyncClient()
            await client.aforce_login(self.root)
            response = await client.get(self.url(self.session, "download.jsonl"))
            assert response.is_async
            return b"".join([chunk async for chunk in response])

        text = async_to_sync(download)().decode()
        assert len(text.splitlines()) == len(self.items) + 3


class MarkdownTests(AdminCase):
    TEXT = (
        "# Head\n\n**bold** [link](https://x.test/) [bad](javascript:alert(1)) "
        "![image](https://x.test/a.png) <b>raw</b>\n\n| a |\n|---|\n| b |\n"
    )

    def answer(self, role: str = "assistant") -> str:
        return self.page(self.new_session({"role": role, "content": self.TEXT}))

    def test_text_is_plain_by_default(self):
        assert "**bold**" in self.answer()

    @override_settings(AGENT_SESSIONS_RENDER_MARKDOWN=True)
    def test_the_words_of_the_assistant_are_rendered(self):
        html = self.answer()
        assert "<strong>bold</strong>" in html
        assert '<a href="https://x.test/" rel="noopener nofollow">link</a>' in html
        assert "<h4>Head</h4>" in html
        assert "<td>b</td>" in html
        assert "<img" not in html
        assert 'href="javascript' not in html
        assert "<b>raw" not in html

    @override_settings(AGENT_SESSIONS_RENDER_MARKDOWN=True)
    def test_without_the_extra_it_stays_plain(self):
        with patch("agent_sessions.markdown.find_spec", return_value=None):
            assert "**bold**" in self.answer()

    @override_settings(AGENT_SESSIONS_RENDER_MARKDOWN=True)
    def test_the_words_of_others_are_not(self):
        assert "**bold**" in self.answer("user")

    @override_settings(AGENT_SESSIONS_RENDER_MARKDOWN=True)
    def test_what_is_too_long_stays_plain(self):
        session = self.new_session(
            {"role": "assistant", "content": "**bold** " * 3000 + "**last**"}
        )
        html = self.client.get(self.url(session, "items/0/")).content.decode()
        page, _, _ = html.partition("<h2>JSON</h2>")
        assert "<strong>bold</strong>" in page
        assert "**last**" in page
