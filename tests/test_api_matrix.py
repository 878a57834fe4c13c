"""Every route, asked in every way by everybody."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction
from django.test import SimpleTestCase

from agent_sessions import store
from agent_sessions.api.urls import urlpatterns
from agent_sessions.models import AgentSession, SessionAccess
from tests.api_cases import ApiTestCase, escaped, route
from tests.test_access import create_staff

VERBS = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]
BODIES = {
    ("session-list", "POST"): {"title": "New"},
    ("session-detail", "PATCH"): {"title": "Changed"},
    ("session-rewind", "POST"): {"before_turn": 1, "keep": True},
    ("me", "PATCH"): {"metadata": {"a": 1}},
}

# By verb what the owner gets, and what everybody else does who is logged in. Verbs that
# are not named are 405; who is not logged in gets 403.
READ = {"GET": (200, 404), "HEAD": (200, 404), "OPTIONS": (200, 200)}
OWN = {"GET": (200, 200), "HEAD": (200, 200), "OPTIONS": (200, 200)}
NEITHER = {"OPTIONS": (200, 200)}
OWN_SCOPE = {
    "session-list": {**OWN, "POST": (201, 201)},
    "session-detail": {**READ, "PATCH": (200, 404), "DELETE": (204, 404)},
    "session-claim": {**NEITHER, "POST": (200, 200)},
    "session-clear": {**NEITHER, "POST": (204, 404)},
    "session-rewind": {**NEITHER, "POST": (200, 404)},
    "session-fork": {**NEITHER, "POST": (201, 404)},
    "session-transcript": READ,
    "session-export": READ,
    "item-list": READ,
    "item-detail": READ,
    "turn-list": READ,
    "session-usage-list": READ,
    "me": {**OWN, "PATCH": (200, 200)},
    "usage": OWN,
}

# With scope=all, by verb: staff who may view sessions; who may also read; who may also
# export. Verbs that are not named here but above are 400 to them, because nothing is
# changed with a scope; everybody else gets 403.
FRAME = {"GET": (200, 200, 200), "HEAD": (200, 200, 200)}
CONTENT = {"GET": (403, 200, 200), "HEAD": (403, 200, 200)}
TAKEN = {"GET": (403, 403, 200), "HEAD": (403, 403, 200)}
ALL_SCOPE = {
    "session-list": FRAME,
    "session-detail": FRAME,
    "session-claim": {},
    "session-clear": {},
    "session-rewind": {},
    "session-fork": {},
    "session-transcript": CONTENT,
    "session-export": TAKEN,
    "item-list": CONTENT,
    "item-detail": CONTENT,
    "turn-list": CONTENT,
    "session-usage-list": FRAME,
    "me": {},
    "usage": {},
}


def missing_rows(names):
    return [name for name in names if name not in OWN_SCOPE or name not in ALL_SCOPE]


class CompletenessTests(SimpleTestCase):
    def test_every_route_has_its_row(self):
        names = [pattern.name for pattern in urlpatterns]
        assert missing_rows(names) == []
        assert set(OWN_SCOPE) == set(ALL_SCOPE) == set(names)
        assert len(names) == len(set(names))

    def test_a_new_route_without_a_row_is_noticed(self):
        assert missing_rows(["session-list", "session-join"]) == ["session-join"]


class MatrixTests(ApiTestCase):
    @classmethod
    def setUpTestData(cls):
        super().setUpTestData()
        view, read, export = "view_agentsession", "read_transcript", "export_session"
        cls.callers = {
            "anonymous": AnonymousUser(),
            "owner": cls.alice,
            "other": cls.bob,
            "staff": create_staff("staff"),
            # Rights over content are none to look at sessions.
            "half": create_staff("half", read, export),
            "viewer": cls.viewer,
            "reader": cls.reader,
            "exporter": create_staff("exporter", view, read, export),
            "root": User.objects.create(
                username="root", is_staff=True, is_superuser=True
            ),
        }
        # The right without being staff is none.
        cls.callers["helper"] = create_staff("helper", view, read, export)
        cls.callers["helper"].is_staff = False
        cls.callers["helper"].save()
        cls.visitor = store.create_session(None)
        cls.token = store.make_claim_token(cls.visitor)

    def ask(self, caller, name, verb, query=""):
        kwargs = {
            "session-list": {},
            "session-claim": {},
            "me": {},
            "usage": {},
            "turn-list": {"session": self.hers.pk},
            "session-usage-list": {"session": self.hers.pk},
            "item-list": {"session": self.hers.pk},
            "item-detail": {"session": self.hers.pk, "position": 0},
        }.get(name, {"pk": self.hers.pk})
        body = BODIES.get((name, verb))
        if name == "session-claim":
            body = {"token": self.token}
        client = self.client_of(self.callers[caller])
        sent = {} if body is None else escaped(body)
        response = client.generic(verb, route(name, **kwargs) + query, **sent)
        if response.streaming:
            response.getvalue()
        return response

    def expected(self, caller, name, verb):
        if caller == "anonymous":
            return 403
        answers = OWN_SCOPE[name].get(verb, (405, 405))
        return answers[0 if caller == "owner" else 1]

    def expected_of_all(self, caller, name, verb):
        rank = {"viewer": 0, "reader": 1, "exporter": 2, "root": 2}.get(caller)
        if rank is None:
            return 403
        if verb == "OPTIONS":
            return 200
        other = 400 if verb in OWN_SCOPE[name] else 405
        return ALL_SCOPE[name].get(verb, (other,) * 3)[rank]

    def check(self, query, expected):
        wrong = []
        for name in OWN_SCOPE:
            for caller in self.callers:
                for verb in VERBS:
                    with transaction.atomic():
                        status = self.ask(caller, name, verb, query).status_code
                        transaction.set_rollback(True)
                    if status != expected(caller, name, verb):
                        wrong.append((name, caller, verb, status))
        assert wrong == []

    def test_everybody_has_their_own_sessions_alone(self):
        self.check("", self.expected)

    def test_all_sessions_are_for_staff_who_may_and_ask(self):
        self.check("?scope=all", self.expected_of_all)

    def test_whoever_is_refused_changes_nothing(self):
        before = list(AgentSession.objects.order_by("pk").values())
        for caller in set(self.callers) - {"owner"}:
            for name in OWN_SCOPE:
                if name in ("session-claim", "session-list", "me", "usage"):
                    continue
                for verb in VERBS:
                    for query in ("", "?scope=all"):
                        self.ask(caller, name, verb, query)
        assert list(AgentSession.objects.order_by("pk").values()) == before
        assert len(store.read_items(self.hers)) == 2


class ScopeTests(ApiTestCase):
    """What staff see of other people's sessions, and what is kept of that."""

    def records(self):
        return list(
            SessionAccess.objects.order_by("id").values_list(
                "user__username", "session", "action", "channel", "reason"
            )
        )

    def test_without_the_right_to_read_only_the_frame_is_shown(self):
        visitor = store.create_session(None, title="visitor's words")
        client = self.client_of(self.viewer)
        shown = client.get("/api/sessions/?scope=all").json()["results"]
        assert {row["id"] for row in shown} == {str(self.hers.pk), str(visitor.pk)}
        url = route("session-detail", pk=visitor.pk) + "?scope=all"
        for row in (*shown, client.get(url).json()):
            for name in ("session_id", "title", "preview", "metadata"):
                assert row[name] is None
            assert row["item_count"] in (0, 2)
        assert {row["user"] for row in shown} == {str(self.alice.pk), None}
        for query in ("search=secret", "metadata.vip=true"):
            response = client.get(f"/api/sessions/?scope=all&{query}")
            assert response.status_code == 403
        assert self.records() == []

    def test_what_a_reader_sees_is_kept(self):
        client = self.client_of(self.reader)
        assert "Her order" in client.get("/api/sessions/?scope=all").content.decode()
        assert self.records() == []
        own = route("session-detail", pk=self.hers.pk)
        for path in ("", "items/", "items/0/", "transcript/", "turns/"):
            shown = client.get(f"{own}{path}?scope=all").content.decode()
            assert "secret" in shown
        client.get("/api/sessions/?scope=all&search=secret")
        client.get(f"{own}turns/?scope=all&search=secret")
        assert client.get(f"{own}usage/?scope=all").status_code == 200
        opened = ("reader", self.hers.pk, "opened", "api", "")
        searched = ("reader", None, "searched", "api", "")
        searched_in = ("reader", self.hers.pk, "searched", "api", "")
        assert self.records() == [opened] * 5 + [searched, searched_in]

    def test_an_export_is_kept_before_it_is_handed_out(self):
        exporter = create_staff(
            "exporter", "view_agentsession", "read_transcript", "export_session"
        )
        url = route("session-export", pk=self.hers.pk)
        self.client_of(exporter).get(url + "?scope=all&as=md")
        assert self.records() == [("exporter", self.hers.pk, "exported", "api", "")]
        # Refused ones have taken nothing.
        assert self.client_of(self.reader).get(url + "?scope=all").status_code == 403
        assert len(self.records()) == 1

    def test_owners_leave_no_record(self):
        for path in ("items/", "transcript/", "export/", "turns/", "usage/"):
            self.api.get(route("session-detail", pk=self.hers.pk) + path)
        assert self.records() == []

    def test_a_reason_is_asked_for_where_the_project_wants_one(self):
        client = self.client_of(self.reader)
        for name in ("item-list", "turn-list"):
            url = route(name, session=self.hers.pk) + "?scope=all"
            with self.settings(AGENT_SESSIONS_REQUIRE_REASON=True):
                self.assert_names(client.get(url), "reason")
                assert client.get(url + "&reason=ticket 7").status_code == 200
                assert self.api.get(url.partition("?")[0]).status_code == 200
        assert [record[-1] for record in self.records()] == ["ticket 7"] * 2

    def test_a_list_shows_no_words_where_a_reason_is_wanted(self):
        client = self.client_of(self.reader)
        with self.settings(AGENT_SESSIONS_REQUIRE_REASON=True):
            for query in ("", "&search=secret&reason=ticket 7"):
                found = client.get(f"/api/sessions/?scope=all{query}").json()["results"]
                assert [row["id"] for row in found] == [str(self.hers.pk)]
                for name in ("session_id", "title", "preview", "metadata"):
                    assert found[0][name] is None
            one = route("session-detail", pk=self.hers.pk) + "?scope=all"
            self.assert_names(client.get(one), "reason")
            shown = client.get(f"{one}&reason=ticket 7").json()
            assert shown["title"] == "Her order"
            assert self.api.get("/api/sessions/").json()["results"][0] == shown

    def test_a_setting_hides_content_from_everybody_but_the_owner(self):
        root = User.objects.create(username="r", is_staff=True, is_superuser=True)
        with self.settings(AGENT_SESSIONS_SHOW_CONTENT=False):
            client = self.client_of(root)
            url = route("session-detail", pk=self.hers.pk)
            assert client.get(url + "?scope=all").json()["title"] is None
            assert client.get(url + "items/?scope=all").status_code == 403
            assert self.api.get(url).json()["title"] == "Her order"

    def test_scope_own_is_what_there_is_without(self):
        assert self.ids(self.api.get("/api/sessions/?scope=own")) == ["hers"]
        reader = self.client_of(self.reader)
        assert self.ids(reader.get("/api/sessions/?scope=own")) == []


@pytest.mark.parametrize("name", sorted(OWN_SCOPE))
def test_rows_name_only_verbs_that_there_are(name):
    assert set(OWN_SCOPE[name]) | set(ALL_SCOPE[name]) <= set(VERBS)
