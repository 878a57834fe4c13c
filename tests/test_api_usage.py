"""Usage over HTTP: of a session by turn, and the caller's own by day and session."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from unittest import mock

from agent_sessions import store
from agent_sessions.models import AgentSession
from agent_sessions.usage import TokenUsage
from tests.api_cases import ApiTestCase, session_url
from tests.test_rewinding import answer, ask
from tests.usage_cases import ONE, times

USAGE = "/api/usage/"
TODAY = datetime.now(UTC).date()


def plain(usage):
    return {name: getattr(usage, name) for name in TokenUsage.__slots__}


class SessionUsageTests(ApiTestCase):
    def setUp(self):
        super().setUp()
        self.row = store.create_session(self.alice)
        self.url = session_url(self.row, "usage")

    def spend(self, count=1):
        for _ in range(count):
            store.append_items(self.row, [ask("a"), answer("b")], usage=ONE)

    def test_a_session_tells_its_sum_and_its_turns(self):
        self.spend(3)
        store.append_items(self.row, [answer("c")], usage=ONE)
        store.rewind_session(self.row, before_turn=2)
        shown = self.api.get(self.url).json()
        assert shown == {
            "total": plain(times(4)),
            "next": None,
            "previous": None,
            "results": [
                {"turn": 1, "day": str(TODAY), "usage": plain(ONE)},
                {"turn": 2, "day": str(TODAY), "usage": plain(ONE)},
                {"turn": 3, "day": str(TODAY), "usage": plain(times(2))},
            ],
        }

    def test_a_session_that_used_nothing_says_so(self):
        shown = self.api.get(self.url).json()
        assert (shown["total"], shown["results"]) == (plain(TokenUsage()), [])

    def test_pages_go_both_ways(self):
        self.spend(45)
        for ordering, expected in (
            ("turn", list(range(1, 46))),
            ("-turn", list(range(45, 0, -1))),
        ):
            url, found = f"{self.url}?ordering={ordering}", []
            while url:
                page = self.api.get(url).json()
                assert page["total"] == plain(times(45))
                found += [row["turn"] for row in page["results"]]
                back, url = page["previous"], page["next"]
            assert found == expected
            turns = [row["turn"] for row in self.api.get(back).json()["results"]]
            assert turns == expected[20:40]

    def test_every_bad_parameter_is_named(self):
        for query, name in {
            "limit=101": "limit",
            "ordering=day": "ordering",
            "cursor=x": "cursor",
            "turn=1": "turn",
            "since=2026-01-01": "since",
        }.items():
            self.assert_names(self.api.get(f"{self.url}?{query}"), name)

    def test_it_costs_the_same_however_many_turns_there_are(self):
        for _ in range(2):
            self.spend(30)
            with self.assertNumQueries(4):
                self.api.get(self.url)

    def test_staff_see_numbers_without_a_record(self):
        self.spend()
        viewer = self.client_of(self.viewer)
        shown = viewer.get(f"{self.url}?scope=all").json()
        assert shown["total"] == plain(ONE)
        assert viewer.get(self.url).status_code == 404


class OwnUsageTests(ApiTestCase):
    def spend(self, row, days_ago=0, count=1):
        moment = datetime.now(UTC) - timedelta(days=days_ago)
        with mock.patch("django.utils.timezone.now", return_value=moment):
            for _ in range(count):
                store.append_items(row, [ask("a")], usage=ONE)

    def read(self, query="", user=None):
        response = self.client_of(user or self.alice).get(USAGE + query)
        assert response.status_code == 200, response.content
        return response.json()

    def test_days_and_sessions_are_the_callers_own(self):
        other = store.create_session(self.alice)
        his = store.create_session(self.bob)
        self.spend(self.hers, 0, 2)
        self.spend(other, 0)
        self.spend(other, 3, 4)
        self.spend(other, 30)
        self.spend(his, 0, 9)
        self.spend(store.create_session(None))
        assert self.read() == {
            "since": str(TODAY - timedelta(days=29)),
            "until": str(TODAY),
            "total": plain(times(7)),
            "days": [
                {"day": str(TODAY - timedelta(days=3)), "usage": plain(times(4))},
                {"day": str(TODAY), "usage": plain(times(3))},
            ],
            "sessions": [
                {"session": str(other.pk), "usage": plain(times(5))},
                {"session": str(self.hers.pk), "usage": plain(times(2))},
            ],
        }
        assert self.read(user=self.bob)["total"] == plain(times(9))
        nobody = self.read(user=self.viewer)
        assert (nobody["days"], nobody["sessions"]) == ([], [])
        assert len(self.read("?limit=1")["sessions"]) == 1

    def test_the_days_are_chosen(self):
        for days_ago in (0, 10, 40, 400):
            self.spend(self.hers, days_ago)
        for since, until, count in (
            (None, None, 2),
            (10, None, 2),
            (9, None, 1),
            (None, 10, 1),
            (None, 11, 1),
            (None, 41, 0),
            (365, 0, 3),
            (400, 400, 1),
        ):
            days = {"since": since, "until": until}
            parameters = {
                name: str(TODAY - timedelta(days=ago))
                for name, ago in days.items()
                if ago is not None
            }
            shown = self.api.get(USAGE, parameters).json()
            assert len(shown["days"]) == count, parameters
            assert shown["total"] == plain(times(count))
            for name, day in parameters.items():
                assert shown[name] == day

    def test_every_bad_parameter_is_named(self):
        for query, name in {
            "since=yesterday": "since",
            "since=": "since",
            "since=%00": "since",
            "since=2026-02-30": "since",
            "since=0001-01-01": "since",
            "since=9999-12-31": "since",
            "since=2026-01-02&until=2026-01-01": "since",
            "since=2025-01-01&until=2026-01-02": "since",
            "since=2000-01-01": "since",
            "until=0001-01-01": "until",
            "until=9999-12-31": "until",
            "until=1": "until",
            "until=2026-01-01T00:00:00Z": "until",
            "limit=0": "limit",
            "limit=101": "limit",
            "user=1": "user",
            "scope=own": "scope",
        }.items():
            self.assert_names(self.api.get(f"{USAGE}?{query}"), name)

    def test_it_costs_two_queries_however_much_there_is(self):
        for _ in range(2):
            for days_ago in range(5):
                self.spend(store.create_session(self.alice), days_ago)
            with self.assertNumQueries(2):
                self.read()

    def test_what_a_deleted_session_used_is_not_counted(self):
        self.spend(self.hers)
        store.delete_session(AgentSession.objects.get(pk=self.hers.pk))
        assert self.read()["total"] == plain(TokenUsage())
