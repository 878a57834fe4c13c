"""Plans that a connection to PostgreSQL keeps, and what makes them void."""

from __future__ import annotations

from collections import Counter
from typing import Any
from unittest import mock, skipIf

from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.test import TransactionTestCase, override_settings
from django.test.utils import CaptureQueriesContext

from agent_sessions import store
from agent_sessions.conf import conf
from agent_sessions.exceptions import SessionOwnershipError
from agent_sessions.models import AgentSession, SessionItem
from agent_sessions.store.statements import prepared

NOT_PREPARED = (
    connection.vendor != "postgresql"
    or conf.AGENT_SESSIONS_PORTABLE
    or connection.settings_dict["OPTIONS"].get("server_side_binding")
)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


@skipIf(NOT_PREPARED, "Only PostgreSQL's own statements, bound by the client")
class PreparedTests(TransactionTestCase):
    def setUp(self) -> None:
        # A connection that has met nothing yet.
        connection.close()
        misses = mock.patch.object(prepared, "_misses", Counter[str]())
        misses.start()
        self.addCleanup(misses.stop)
        self.addCleanup(connection.close)
        store.create_session(None, session_id="s")
        self.expected: list[Any] = []

    def append(self, *texts: str) -> str:
        """Append, and return with which word of SQL."""
        items = [user(text) for text in texts]
        self.expected += items
        return self.word(lambda: store.append_items("s", items))

    def word(self, verb: Any) -> str:
        with CaptureQueriesContext(connection) as queries:
            verb()
        return " ".join(query["sql"].split()[0] for query in queries.captured_queries)

    def assert_stored(self) -> None:
        assert store.read_items("s") == self.expected
        row = AgentSession.objects.get()
        assert row.item_count == row.turn_count == len(self.expected)
        positions = SessionItem.objects.in_order().values_list("position", flat=True)
        assert list(positions) == list(range(len(self.expected)))

    def test_a_statement_that_comes_again_is_prepared(self):
        words = [self.append("a"), self.append("b", "c"), self.append("d")]
        words += [self.append("e"), self.append("f", "g")]
        assert words == ["WITH", "WITH", "PREPARE", "EXECUTE", "PREPARE"]
        self.assert_stored()

    def test_reads_pops_and_clears_are_prepared(self):
        self.append("a", "b", "c", "d", "e", "f")
        reads = [self.word(lambda: store.read_items("s")) for _ in range(3)]
        assert reads == ["SELECT", "PREPARE", "EXECUTE"]
        popped = [store.pop_item("s") for _ in range(4)]
        assert popped == self.expected[:1:-1]
        assert self.word(lambda: store.pop_item("s")) == "EXECUTE"
        assert store.read_items("s", limit=9) == self.expected[:1]
        for _ in range(3):
            store.clear_session("s")
            assert store.read_items("s") == []
            store.append_items("s", [user("again")])

    def test_new_sessions_share_a_plan(self):
        names = ["a", "b", "c"]
        new = [lambda it=it: store.append_items(it, [user(it)]) for it in names]
        store.append_items("warm", [user("warm")])
        assert [self.word(it).split()[-1] for it in new][1:] == ["EXECUTE", "EXECUTE"]
        assert [store.read_items(it) for it in names] == [[user(it)] for it in names]

    def test_a_long_batch_is_not_prepared(self):
        words = {self.append(*"abcdefgh") for _ in range(3)}
        assert words == {"WITH"}
        self.assert_stored()

    def test_the_callers_transaction_sees_no_prepared_statement(self):
        self.append("a")
        self.append("b")
        with transaction.atomic():
            assert self.append("c") == "WITH"
        assert self.append("d") == "EXECUTE"
        self.assert_stored()

    def test_none_are_made_if_the_project_does_not_want_them(self):
        with override_settings(AGENT_SESSIONS_PREPARE=False):
            assert {self.append("a") for _ in range(4)} == {"WITH"}
        self.assert_stored()

    def test_none_are_made_where_the_server_binds(self):
        options = {"server_side_binding": True}
        with mock.patch.dict(connection.settings_dict["OPTIONS"], options):
            assert {self.append("a") for _ in range(4)} == {"WITH"}
        self.assert_stored()

    def test_the_number_of_plans_is_bounded(self):
        with mock.patch.object(prepared, "_MAX_STATEMENTS", 1):
            words = [self.append("a") for _ in range(3)]
            words += [self.append("a", "b") for _ in range(3)]
        assert words == ["WITH", "PREPARE", "EXECUTE", "WITH", "WITH", "WITH"]
        self.assert_stored()

    def test_lost_plans_lose_nothing(self):
        for _ in range(3):
            self.append("a")
        self.forget_plans()
        assert self.append("b") == "EXECUTE WITH"
        assert [self.append("c") for _ in range(3)] == ["WITH", "PREPARE", "EXECUTE"]
        self.assert_stored()

    def test_who_loses_plans_again_and_again_makes_no_more(self):
        for _ in range(12):
            self.append("a")
            self.forget_plans()
        assert [self.append("b") for _ in range(3)] == ["WITH"] * 3
        self.assert_stored()

    def test_a_name_that_another_client_has_taken_loses_nothing(self):
        for _ in range(3):
            self.append("a")
        # As behind a pooler: another client's connection, on which it is there already.
        prepared._met.clear()
        assert self.append("b") == "WITH"
        assert self.append("c") == "PREPARE WITH"
        self.assert_stored()

    def test_a_table_altered_meanwhile_loses_nothing(self):
        self.append("a")
        for _ in range(3):
            store.read_items("s")
        table = SessionItem._meta.db_table
        alter = f"ALTER TABLE {table} ALTER COLUMN position TYPE"
        with connection.cursor() as cursor:
            cursor.execute(f"{alter} bigint")
            try:
                assert self.word(lambda: store.read_items("s")) == "EXECUTE SELECT"
            finally:
                cursor.execute(f"{alter} integer")
        assert self.append("b")
        self.assert_stored()

    def test_a_stranger_is_refused_each_time(self):
        alice = get_user_model().objects.create_user("alice")
        for _ in range(4):
            with self.assertRaises(SessionOwnershipError):
                store.append_items("s", [user("b")], user=alice)
            with self.assertRaises(SessionOwnershipError):
                store.read_items("s", user=alice)
        self.assert_stored()

    def forget_plans(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("DEALLOCATE ALL")
