"""Turns over HTTP: read, taken back, and copied into a session of their own."""

from __future__ import annotations

from unittest import mock
from uuid import uuid4

from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from agent_sessions import store
from agent_sessions.api.viewsets import SessionViewSet
from agent_sessions.models import AgentSession, SessionItem
from tests.api_cases import SESSIONS, ApiTestCase, escaped, session_url
from tests.nasty import NASTY_ITEMS
from tests.test_api_items import IMAGE, THOUGHT
from tests.test_rewinding import COMPACTION, answer, ask, called, output
from tests.usage_cases import ONE

NO_USAGE = dict.fromkeys(
    [
        "requests",
        "input_tokens",
        "cached_input_tokens",
        "output_tokens",
        "reasoning_tokens",
        "total_tokens",
    ],
    0,
)
TOO_MANY = "too_many_sessions"
BAD_NUMBERS = [0, -1, 2**31, 10**400, "2", "", 1.5, 1.0, True, [2], {}, "\0", "\ud800"]


class TurnCase(ApiTestCase):
    def setUp(self):
        super().setUp()
        self.row = store.create_session(self.alice, session_id="s", title="Order")
        self.url = session_url(self.row, "turns")

    def append(self, *items, **options):
        store.append_items(self.row, items, **options)

    def post(self, verb, body=None, query="", user=None, **headers):
        url = session_url(self.row, verb) + query
        client = self.client_of(user or self.alice)
        return client.post(url, **escaped(body or {}), headers=headers)

    def assert_conflicts(self, response, code):
        assert response.status_code == 409, response.content
        body = response.json()
        assert sorted(body) == ["code", "detail"]
        assert body["code"] == code
        assert body["detail"]


class TurnListTests(TurnCase):
    def numbers(self, url):
        response = self.api.get(url)
        assert response.status_code == 200, response.content
        return [turn["number"] for turn in response.json()["results"]]

    def test_a_turn_tells_what_it_was(self):
        self.append(answer("welcome"))
        self.append(ask("Where is\nmy order?"), called("1"), output("1"), usage=ONE)
        self.append(called("2"), output("2"))
        self.append(ask("Thanks"))
        shown = self.api.get(self.url).json()
        assert shown["previous"] is None
        before, turn, last = shown["results"]
        rows = self.row.items.in_order()
        moments = [turn.pop(name) for name in ("started_at", "ended_at")]
        items = self.api.get(session_url(self.row, "items")).json()["results"]
        assert moments == [items[1]["created_at"], items[5]["created_at"]]
        assert turn == {
            "number": 1,
            "preview": "Where is my order?",
            "item_count": 5,
            "tools": ["f"],
            "calls": {"f": 2},
            "usage": dict(zip(NO_USAGE, ONE.counts, strict=True)),
        }
        assert (before["number"], before["preview"]) == (0, "")
        assert (last["number"], last["usage"]) == (2, NO_USAGE)
        assert len(rows) == 7

    def test_pages_lead_from_the_newest_back_to_the_first(self):
        self.append(*(ask(str(number)) for number in range(1, 46)))
        for limit, pages in (
            ("", [range(26, 46), range(6, 26), range(1, 6)]),
            ("?limit=15", [range(31, 46), range(16, 31), range(1, 16)]),
            ("?limit=100", [range(1, 46)]),
        ):
            url, found = self.url + limit, []
            while url:
                found.append(self.numbers(url))
                url = self.api.get(url).json()["previous"]
            assert found == [list(page) for page in pages]
        self.append(*(ask("x") for _ in range(60)))
        full = self.api.get(f"{self.url}?limit=100").json()
        assert len(full["results"]) == 100
        assert self.numbers(full["previous"]) == [1, 2, 3, 4, 5]

    def test_words_are_looked_for_in_this_session_alone(self):
        self.append(ask("Größe 7"), answer("x"), ask("b"), answer("Größe 8"), ask("c"))
        for query, numbers in {
            "search=größe": [1, 2],
            "search=8": [2],
            "search=secret": [],
            "search=content": [],
            "search=%25": [],
            "search=": [1, 2, 3],
            "search=%20": [1, 2, 3],
            "search=größe&before=2": [1],
            "search=größe&limit=1": [2],
        }.items():
            assert self.numbers(f"{self.url}?{query}") == numbers, query
        newest = self.api.get(self.url, {"search": "größe", "limit": 1}).json()
        assert self.numbers(newest["previous"]) == [1]
        assert self.api.get(newest["previous"]).json()["previous"] is None

    def test_every_bad_parameter_is_named(self):
        for query, name in {
            "before=-1": "before",
            "before=x": "before",
            f"before={2**31}": "before",
            f"before={'9' * 5000}": "before",
            "limit=0": "limit",
            "limit=101": "limit",
            "search=%00": "search",
            "search=" + "x" * 201: "search",
            "cursor=x": "cursor",
            "after=1": "after",
            "user=1": "user",
            "before=1&before=2": "before",
        }.items():
            self.assert_names(self.api.get(f"{self.url}?{query}"), name)
        assert self.numbers(f"{self.url}?before={2**31 - 1}") == []

    def test_whatever_was_said_can_be_listed(self):
        self.append(*NASTY_ITEMS.values())
        name = "\ud800\0f"
        self.append({"type": "function_call", "name": name, "call_id": "\udfff"})
        assert len(self.numbers(self.url)) > 5
        SessionItem.objects.filter(session=self.row, position=0).update(data="{")
        assert len(self.numbers(self.url)) > 5

    def test_a_page_costs_the_same_however_many_there_are(self):
        for count in (30, 300):
            self.append(*(ask("x") for _ in range(count)))
            with self.assertNumQueries(6):
                self.api.get(self.url)
            with self.assertNumQueries(7):
                self.api.get(f"{self.url}?search=x")

    def test_turns_are_only_read(self):
        for call in (self.api.post, self.api.put, self.api.patch, self.api.delete):
            assert call(self.url, {}, format="json").status_code == 405


class RewindTests(TurnCase):
    def setUp(self):
        super().setUp()
        self.items = [ask("a"), answer("b"), ask("c"), called("1"), output("1")]
        self.append(*self.items)

    def test_what_was_removed_comes_back(self):
        items = self.api.get(session_url(self.row, "items")).json()["results"]
        response = self.post("rewind", {"before_turn": 2})
        assert response.status_code == 200
        assert response["Cache-Control"] == "private, no-store"
        shown = response.json()
        assert shown["removed"] == items[2:]
        assert shown["kept"] is None
        session = self.api.get(session_url(self.row)).json()
        assert shown["session"] == session
        assert (session["item_count"], session["turn_count"]) == (2, 1)
        assert session["revision"] == 0
        assert store.read_items(self.row) == self.items[:2]

    def test_the_older_course_may_be_kept(self):
        shown = self.post("rewind", {"before_turn": 1, "keep": True}).json()
        assert shown["session"]["item_count"] == 0
        kept = f"{SESSIONS}{shown['kept']['id']}/"
        assert self.api.get(kept).json() == shown["kept"]
        assert shown["kept"]["archived"] is True
        assert shown["kept"]["forked_from"] == str(self.row.pk)
        query = f"{SESSIONS}?forked_from={self.row.pk}"
        older = self.api.get(query).json()["results"]
        assert older == [shown["kept"]]
        data = [
            item["data"] for item in self.api.get(f"{kept}items/").json()["results"]
        ]
        assert data == self.items

    def test_heavy_parts_come_only_on_request(self):
        image = {"type": "input_image", "image_url": IMAGE}
        shown = {"role": "user", "content": [image]}
        for query, data, omitted in (
            ("", {"role": "user", "content": [{**image, "image_url": None}]}, 1),
            ("?include=media,encrypted", shown, 0),
        ):
            self.append(shown, THOUGHT)
            last = store.get_turns(self.row)[-1].number
            body = self.post("rewind", {"before_turn": last}, query).json()
            first, second = body["removed"]
            assert first["data"] == data
            assert len(first["omitted"]) == len(second["omitted"]) == omitted
        response = self.post("rewind", {"before_turn": 1}, "?include=x")
        self.assert_names(response, "include")

    def test_whatever_was_said_comes_back(self):
        self.append(*NASTY_ITEMS.values())
        SessionItem.objects.filter(session=self.row, position=1).update(data="{")
        count = self.row.items.count()
        with self.assertLogs("agent_sessions", "WARNING"):
            response = self.post("rewind", {"before_turn": 1})
        removed = response.json()["removed"]
        assert [item["position"] for item in removed] == list(range(count))
        assert removed[1]["data"] is None

    def test_a_turn_that_is_not_there_is_a_conflict(self):
        for number in (3, 2**31 - 1):
            response = self.post("rewind", {"before_turn": number})
            self.assert_conflicts(response, "turn_gone")
        assert self.post("rewind", {"before_turn": 2}).status_code == 200
        self.assert_conflicts(self.post("rewind", {"before_turn": 2}), "turn_gone")
        assert store.read_items(self.row) == self.items[:2]

    def test_a_summary_is_no_turn_to_go_back_to(self):
        store.replace_items(self.row, [ask("a"), COMPACTION])
        turn = AgentSession.objects.get(pk=self.row.pk).next_turn - 1
        for verb in ("rewind", "fork"):
            response = self.post(verb, {"before_turn": turn})
            self.assert_conflicts(response, "turn_compacted")

    def test_a_run_that_holds_the_session_is_not_disturbed(self):
        lease = store.acquire_lease(self.row)
        for verb, body in (("rewind", {"before_turn": 2, "keep": True}), ("clear", {})):
            self.assert_conflicts(self.post(verb, body), "session_busy")
        assert store.read_items(self.row) == self.items
        assert AgentSession.objects.for_user(self.alice).count() == 2
        # What takes nothing from under it goes on, and so does letting go.
        assert self.post("fork", {"before_turn": 2}).status_code == 201
        url = session_url(self.row)
        assert self.api.patch(url, {"title": "x"}, format="json").status_code == 200
        store.release_lease(self.row, lease)
        assert self.post("rewind", {"before_turn": 2}).status_code == 200
        store.acquire_lease(self.row)
        assert self.api.delete(url).status_code == 204

    def test_a_lease_that_was_taken_meanwhile_counts(self):
        find = SessionViewSet.find_session

        def find_and_wait(view, pk):
            row = find(view, pk)
            store.acquire_lease(row)
            return row

        with mock.patch.object(SessionViewSet, "find_session", find_and_wait):
            response = self.post("rewind", {"before_turn": 2})
        self.assert_conflicts(response, "session_busy")

    def test_a_change_since_it_was_read_is_respected(self):
        store.update_session(self.row, title="Other")
        for verb, body in (
            ("rewind", {"before_turn": 2}),
            ("fork", {}),
            ("clear", {}),
        ):
            count = AgentSession.objects.count()
            for stale in ('"0"', "nonsense", ""):
                response = self.post(verb, body, **{"If-Match": stale})
                assert response.status_code == 412, (verb, stale)
            assert AgentSession.objects.count() == count
            response = self.post(verb, body, **{"If-Match": '"1"'})
            assert response.status_code < 300, verb
        assert store.read_items(self.row) == []

    def test_bad_values_are_named(self):
        for number in [*BAD_NUMBERS, None]:
            self.assert_names(
                self.post("rewind", {"before_turn": number}), "before_turn"
            )
        self.assert_names(self.post("rewind", {}), "before_turn")
        self.assert_names(self.api.post(session_url(self.row, "rewind")), "before_turn")
        for keep in (None, 1, 0, "true", [], "\0"):
            response = self.post("rewind", {"before_turn": 2, "keep": keep})
            self.assert_names(response, "keep")
        response = self.post("rewind", {"before_turn": 2, "user": self.bob.pk})
        self.assert_names(response, "user")
        self.assert_names(self.post("rewind", {"before_turn": 2}, "?keep=1"), "keep")
        url = session_url(self.row, "rewind")
        for body, content_type, status in (
            (b'{"before_turn": ' + b"9" * 5000 + b"}", "application/json", 400),
            (b'{"before_turn": NaN}', "application/json", 400),
            (b"[2]", "application/json", 400),
            (b"2", "application/json", 400),
            (b"before_turn=2", "application/x-www-form-urlencoded", 415),
            (b"2", "text/plain", 415),
        ):
            response = self.api.post(url, body, content_type=content_type)
            assert response.status_code == status, body
        assert store.read_items(self.row) == self.items

    @override_settings(AGENT_SESSIONS_MAX_SESSIONS=3)
    def test_what_is_kept_counts(self):
        assert self.post("rewind", {"before_turn": 2, "keep": True}).status_code == 200
        response = self.post("rewind", {"before_turn": 1, "keep": True})
        assert (response.status_code, response.json()["code"]) == (403, TOO_MANY)
        assert store.read_items(self.row) == self.items[:2]
        assert self.post("rewind", {"before_turn": 1}).status_code == 200

    def test_it_costs_the_same_however_many_there_are(self):
        def count(body):
            with CaptureQueriesContext(connection) as queries:
                assert self.post("rewind", body).status_code == 200
            return len(queries)

        for keep in (False, True):
            costs = set()
            for many in (5, 200):
                first = AgentSession.objects.get(pk=self.row.pk).next_turn
                self.append(*[ask("x"), answer("y")] * many)
                costs.add(count({"before_turn": first, "keep": keep}))
            assert len(costs) == 1, costs


class ForkTests(TurnCase):
    def setUp(self):
        super().setUp()
        self.items = [ask("a"), answer("b"), ask("c")]
        self.append(*self.items)

    def test_a_fork_is_made_where_location_says(self):
        for body, title, items in (
            ({}, "Order", self.items),
            ({"before_turn": None, "title": None}, "Order", self.items),
            ({"before_turn": 2, "title": ""}, "", self.items[:2]),
            ({"before_turn": 1, "title": "Other"}, "Other", []),
        ):
            response = self.post("fork", body)
            assert response.status_code == 201
            assert response["ETag"] == '"0"'
            shown = response.json()
            assert self.api.get(response["Location"]).json() == shown
            assert (shown["title"], shown["archived"]) == (title, False)
            assert shown["forked_from"] == str(self.row.pk)
            assert shown["forked_at"] == shown["created_at"]
            assert shown["user"] == str(self.alice.pk)
            assert shown["session_id"] not in ("s", shown["id"])
            fork = AgentSession.objects.get(pk=shown["id"])
            assert store.read_items(fork) == items
        assert self.api.post(session_url(self.row, "fork")).status_code == 201
        assert store.read_items(self.row) == self.items

    def test_bad_values_are_named(self):
        for number in BAD_NUMBERS:
            self.assert_names(self.post("fork", {"before_turn": number}), "before_turn")
        for title in (5, "x" * 201, "a\nb", "\0", "\ud800", []):
            self.assert_names(self.post("fork", {"title": title}), "title")
        for name in ("session_id", "user", "metadata", "forked_from"):
            self.assert_names(self.post("fork", {name: "x"}), name)
        self.assert_names(self.post("fork", {}, "?scope=own"), "scope")
        assert AgentSession.objects.for_user(self.alice).count() == 2

    def test_a_turn_that_is_not_there_is_a_conflict(self):
        self.assert_conflicts(self.post("fork", {"before_turn": 3}), "turn_gone")

    @override_settings(AGENT_SESSIONS_MAX_SESSIONS=3)
    def test_a_user_has_no_more_sessions_than_are_allowed(self):
        assert self.post("fork").status_code == 201
        response = self.post("fork")
        assert response.status_code == 403
        detail = "You have as many sessions as are allowed."
        assert response.json() == {"detail": detail, "code": TOO_MANY}
        assert AgentSession.objects.for_user(self.alice).count() == 3

    def test_a_fork_costs_the_same_however_many_there_are(self):
        costs = set()
        for many in (5, 200):
            self.append(*[ask("x"), answer("y")] * many)
            with CaptureQueriesContext(connection) as queries:
                assert self.post("fork", {"before_turn": 2}).status_code == 201
            costs.add(len(queries))
        assert len(costs) == 1, costs


class LineageTests(TurnCase):
    def setUp(self):
        super().setUp()
        self.fork = store.fork_session(self.row)

    def shown(self, row, query="", user=None):
        return self.client_of(user or self.alice).get(session_url(row) + query).json()

    def test_an_origin_is_shown_wherever_a_session_is(self):
        url, origin = session_url(self.fork), str(self.row.pk)
        listed = self.api.get(SESSIONS).json()["results"]
        origins = {row["id"]: row["forked_from"] for row in listed}
        expected = dict.fromkeys(origins)
        assert origins == {**expected, str(self.fork.pk): origin}
        for response in (
            self.api.get(url),
            self.api.patch(url, {"title": "x"}, format="json"),
            self.api.patch(url, {}, format="json"),
        ):
            assert response.json()["forked_from"] == origin
        store.append_items(self.fork, [ask("a")])
        body = {"before_turn": 1}
        rewound = self.api.post(f"{url}rewind/", body, format="json").json()
        assert rewound["session"]["forked_from"] == origin

    def test_an_origin_that_is_deleted_is_null(self):
        store.delete_session(self.row)
        assert self.shown(self.fork)["forked_from"] is None
        assert self.shown(self.fork)["forked_at"] is not None
        query = f"{SESSIONS}?forked_from={self.row.pk}"
        assert self.ids(self.api.get(query)) == []

    def test_an_origin_of_somebody_elses_is_null(self):
        store.transfer_session(self.fork, self.bob)
        query = f"{SESSIONS}?forked_from={self.row.pk}"
        bob = self.client_of(self.bob)
        assert self.shown(self.fork, user=self.bob)["forked_from"] is None
        assert bob.get(SESSIONS).json()["results"][0]["forked_from"] is None
        assert self.ids(bob.get(query)) == []
        patched = bob.patch(session_url(self.fork), {"title": "x"}, format="json")
        assert patched.json()["forked_from"] is None
        # Staff who see both see that one is a copy of the other.
        viewer = self.client_of(self.viewer)
        staff = self.shown(self.fork, "?scope=all", self.viewer)
        assert staff["forked_from"] == str(self.row.pk)
        found = viewer.get(f"{query}&scope=all").json()["results"]
        assert [row["id"] for row in found] == [str(self.fork.pk)]

    def test_older_versions_are_found(self):
        store.fork_session(self.fork)
        found = self.api.get(f"{SESSIONS}?forked_from={self.row.pk}").json()["results"]
        assert [row["id"] for row in found] == [str(self.fork.pk)]
        assert self.ids(self.api.get(f"{SESSIONS}?forked_from={uuid4()}")) == []
        for bad in ("", "x", "5", "%00", "null"):
            response = self.api.get(f"{SESSIONS}?forked_from={bad}")
            self.assert_names(response, "forked_from")

    def test_a_claimed_fork_tells_of_what_was_claimed(self):
        visitor = store.create_session(None)
        fork = store.fork_session(visitor)
        tokens = [store.make_claim_token(row) for row in (fork, visitor)]
        for token, origin in zip(tokens, (None, None), strict=True):
            body = escaped({"token": token})
            claimed = self.api.post(f"{SESSIONS}claim/", **body).json()
            assert claimed["forked_from"] == origin
        assert self.shown(fork)["forked_from"] == str(visitor.pk)

    def test_lineage_costs_no_query(self):
        for _ in range(5):
            store.fork_session(self.row)
        for url in (SESSIONS, f"{SESSIONS}?forked_from={self.row.pk}"):
            with self.assertNumQueries(1):
                self.api.get(url)
        with self.assertNumQueries(1):
            self.api.get(session_url(self.fork))
