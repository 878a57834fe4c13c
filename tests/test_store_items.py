from __future__ import annotations

import logging
from typing import Any
from unittest import mock

from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.test import TestCase

from agent_sessions import store
from agent_sessions.conf import conf
from agent_sessions.exceptions import (
    InvalidItem,
    InvalidSessionId,
    ItemTooLarge,
    SessionOwnershipError,
)
from agent_sessions.models import AgentSession, SessionItem
from agent_sessions.store import batches

User = get_user_model()


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


class AppendTests(TestCase):
    def row(self, session_id: str = "s") -> AgentSession:
        return AgentSession.objects.get(session_id=session_id)

    def positions(self, session_id: str = "s") -> list[tuple[int, int]]:
        items = SessionItem.objects.filter(session__session_id=session_id)
        return list(items.in_order().values_list("position", "turn"))

    def test_the_first_item_makes_the_session(self):
        alice = User.objects.create(username="alice")
        appended = store.append_items("s", [user("hello")], user=alice)
        row = self.row()
        assert (appended.session, appended.first_position) == (row.pk, 0)
        assert (appended.count, appended.turn, appended.created) == (1, 1, True)
        assert (row.user, row.preview, row.title) == (alice, "hello", "")
        assert (row.item_count, row.turn_count) == (1, 1)
        assert (row.next_position, row.next_turn) == (1, 2)
        assert row.owned_at is not None
        assert row.revision == 0

    def test_an_anonymous_session_never_had_an_owner(self):
        store.append_items("s", [user("hello")])
        row = self.row()
        assert (row.user_id, row.owned_at, row.is_orphaned) == (None, None, False)

    def test_a_turn_lasts_from_a_user_message_to_the_next(self):
        store.append_items("s", [assistant("welcome")])
        store.append_items("s", [user("a"), assistant("b"), user("c")])
        store.append_items("s", [assistant("d")])
        assert self.positions() == [(0, 0), (1, 1), (2, 1), (3, 2), (4, 2)]
        row = self.row()
        assert (row.turn_count, row.next_turn) == (2, 3)

    def test_a_handle_books_on_the_turn_that_it_opened(self):
        one, two = (store.session_handle("s") for _ in range(2))
        store.append_items(one, [user("first run")])
        store.append_items(two, [user("second run")])
        store.append_items(one, [assistant("answer to the first")])
        store.append_items(two, [assistant("answer to the second")])
        assert self.positions() == [(0, 1), (1, 2), (2, 1), (3, 2)]

    def test_activity_moves_and_revision_stays(self):
        store.append_items("s", [user("a")])
        before = self.row()
        store.append_items("s", [user("b")])
        after = self.row()
        assert after.updated_at > before.updated_at
        assert after.created_at == before.created_at
        assert after.revision == before.revision

    def test_preview_is_the_first_user_text_and_stays(self):
        store.append_items("s", [assistant("welcome"), user("a\0 question"), user("b")])
        store.append_items("s", [user("c")])
        assert self.row().preview == "a question"

    def test_type_and_role_are_columns_for_filters(self):
        call = {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "1"}
        store.append_items("s", [user("a"), call])
        items = SessionItem.objects.in_order().values_list("type", "role")
        assert list(items) == [("", "user"), ("function_call", "")]

    def test_generators_are_taken_once(self):
        store.append_items("s", (user(word) for word in "abc"))
        assert len(store.read_items("s")) == 3

    def test_an_empty_batch_creates_nothing(self):
        assert store.append_items("s", []) is None
        assert not AgentSession.objects.exists()

    def test_a_bad_item_stores_nothing_of_its_batch(self):
        with self.assertRaisesMessage(InvalidItem, "items[1]['content'] cannot"):
            store.append_items("s", [user("a"), {"content": float("nan")}])
        assert not AgentSession.objects.exists()
        store.append_items("s", [user("a")])
        with self.assertRaises(InvalidItem):
            store.append_items("s", [user("b"), "text"])
        assert store.read_items("s") == [user("a")]

    def test_a_bad_id_is_refused_before_the_database_is_asked(self):
        for verb in (
            lambda: store.append_items(" x", [user("a")]),
            lambda: store.read_items(" x"),
            lambda: store.pop_item(" x"),
            lambda: store.clear_session(" x"),
        ):
            with self.assertNumQueries(0), self.assertRaises(InvalidSessionId):
                verb()

    def test_an_item_above_what_the_database_takes_is_refused(self):
        store.append_items("s", [user("a")])
        with (
            mock.patch.object(batches, "_max_statement_bytes", return_value=600_000),
            self.assertRaisesMessage(ItemTooLarge, "items[1] takes 7"),
        ):
            store.append_items("s", [user("b"), user("x" * 700_000), user("c")])
        assert store.read_items("s") == [user("a")]

    def test_a_batch_above_what_the_database_takes_is_cut(self):
        words = [user(f"{number} " + "x" * 200_000) for number in range(10)]
        with mock.patch.object(batches, "_max_statement_bytes", return_value=600_000):
            store.append_items("s", words)
        assert store.read_items("s") == words
        assert self.positions() == [(n, n + 1) for n in range(10)]

    def test_more_than_a_packet_goes_in_whole(self):
        # MariaDB takes 16 MiB a statement; quotes are escaped and count twice.
        words = [user('"' * 3_000_000) for _ in range(4)]
        store.append_items("s", words)
        assert store.read_items("s") == words

    def test_more_items_than_a_statement_has_parameters(self):
        words = [user(str(number)) for number in range(5_000)]
        store.append_items("s", words)
        assert store.read_items("s") == words

    def test_a_callers_rollback_takes_the_items_along(self):
        store.append_items("s", [user("a")])
        with self.assertRaises(ZeroDivisionError), transaction.atomic():
            store.append_items("s", [user("b")])
            store.append_items("t", [user("c")])
            assert len(store.read_items("s")) == 2
            raise ZeroDivisionError
        assert store.read_items("s") == [user("a")]
        assert store.read_items("t") == []
        assert self.row().item_count == 1

    def test_a_refusal_leaves_the_callers_transaction_usable(self):
        alice = User.objects.create(username="alice")
        store.append_items("s", [user("a")], user=alice)
        with transaction.atomic():
            for verb in (
                lambda: store.append_items("s", [user("b")]),
                lambda: store.read_items("s"),
                lambda: store.pop_item("s"),
                lambda: store.clear_session("s"),
            ):
                with self.assertRaises(SessionOwnershipError):
                    verb()
            store.append_items("t", [user("c")])
        assert store.read_items("t") == [user("c")]

    def test_rows_and_handles_are_taken_at_their_word(self):
        alice = User.objects.create(username="alice")
        row = store.create_session(alice)
        store.append_items(row, [user("a")])
        assert store.read_items(row) == [user("a")]
        assert store.pop_item(row) == user("a")
        store.clear_session(row)


class ReadTests(TestCase):
    def test_a_read_writes_nothing(self):
        store.append_items("s", [user("a")])
        before = list(AgentSession.objects.values_list())
        store.read_items("s")
        store.read_items("s", limit=1)
        store.read_items("unknown")
        assert list(AgentSession.objects.values_list()) == before

    def test_replaced_items_are_not_read(self):
        store.append_items("s", [user(word) for word in "abc"])
        store.replace_items("s", [user("summary")])
        assert store.read_items("s") == [user("summary")]
        assert SessionItem.objects.replaced().count() == 3
        assert SessionItem.objects.live().count() == 1

    def test_broken_rows_are_named_in_the_log_without_their_content(self):
        store.append_items("s", [user("a"), user("b")])
        SessionItem.objects.filter(position=0).update(data="{secret")
        with self.assertLogs("agent_sessions", logging.WARNING) as logs:
            assert store.read_items("s") == [user("b")]
        row = AgentSession.objects.get()
        assert logs.output == [
            f"WARNING:agent_sessions:Rows of session {row.pk} do not decode and were "
            "skipped: positions 0."
        ]
        with self.assertLogs("agent_sessions", logging.WARNING) as logs:
            store.pop_item("s")
            store.pop_item("s")
        assert "removed: positions 0." in logs.output[0]
        assert "secret" not in "".join(logs.output)
        row.refresh_from_db()
        assert (row.item_count, SessionItem.objects.count()) == (0, 0)


class PopAndClearTests(TestCase):
    def test_counters_follow_the_pops(self):
        store.append_items("s", [user("a"), assistant("b"), user("c")])
        for item_count, turn_count, preview in (
            (2, 1, "a"),
            (1, 1, "a"),
            (0, 0, ""),
            (0, 0, ""),
        ):
            store.pop_item("s")
            row = AgentSession.objects.get()
            found = (row.item_count, row.turn_count, row.preview)
            assert found == (item_count, turn_count, preview)

    def test_positions_and_turns_are_never_used_again(self):
        store.append_items("s", [user("a"), user("b")])
        store.pop_item("s")
        store.append_items("s", [user("c")])
        store.clear_session("s")
        appended = store.append_items("s", [user("d")])
        assert (appended.first_position, appended.turn) == (3, 4)
        item = SessionItem.objects.get()
        assert (item.position, item.turn) == (3, 4)

    def test_clear_empties_the_preview_and_keeps_what_people_wrote(self):
        alice = User.objects.create(username="alice")
        row = store.create_session(alice, title="Order 42", metadata={"a": 1})
        store.append_items(row, [user("secret")])
        store.replace_items(row, [user("summary of the secret")])
        store.clear_session(row)
        row.refresh_from_db()
        assert (row.title, row.metadata, row.user) == ("Order 42", {"a": 1}, alice)
        assert (row.preview, row.item_count, row.turn_count) == ("", 0, 0)
        assert not SessionItem.objects.exists()

    def test_broken_user_rows_are_counted_out_as_turns(self):
        store.append_items("s", [user("a"), user("b")])
        SessionItem.objects.update(data="{broken")
        assert store.pop_item("s") is None
        row = AgentSession.objects.get()
        assert (row.item_count, row.turn_count, row.preview) == (0, 0, "")

    def test_an_empty_session_does_not_look_active(self):
        store.append_items("s", [user("a")])
        store.pop_item("s")
        before = AgentSession.objects.get().updated_at
        assert store.pop_item("s") is None
        assert AgentSession.objects.get().updated_at == before

    def test_wrong_counters_do_not_stop_a_pop(self):
        store.append_items("s", [user("a"), user("b")])
        AgentSession.objects.update(item_count=0, turn_count=0)
        assert store.pop_item("s") == user("b")
        assert AgentSession.objects.get().item_count == 0


class QueryCountTests(TestCase):
    """
    Statements per call, whatever the length of the history.

    A TestCase is in a transaction, so what opens one counts as a savepoint, two
    statements; outside it is BEGIN and COMMIT.
    """

    @classmethod
    def setUpTestData(cls):
        cls.alice = User.objects.create(username="alice")
        store.append_items("long", [user("x")] * 1000, user=cls.alice)

    def setUp(self):
        vendor = "portable" if conf.AGENT_SESSIONS_PORTABLE else connection.vendor
        self.expected = {
            #              append, first append, pop, clear
            "postgresql": (1, 3, 1, 1),
            "mysql": (4, 4, 7, 5),
            "sqlite": (4, 6, 7, 5),
            "portable": (5, 8, 7, 5),
        }[vendor]

    def test_an_append(self):
        handle = store.session_handle("long", user=self.alice)
        for batch in ([user("a")], [user("a")] * 4):
            with self.assertNumQueries(self.expected[0]):
                store.append_items(handle, batch)

    def test_the_first_append_of_a_session(self):
        # With the question whether the user exists, which the caller's transaction
        # would answer too late.
        with self.assertNumQueries(self.expected[1]):
            store.append_items("new", [user("a")], user=self.alice)

    def test_a_pop(self):
        with self.assertNumQueries(self.expected[2]):
            store.pop_item("long", user=self.alice)

    def test_a_clear(self):
        with self.assertNumQueries(self.expected[3]):
            store.clear_session("long", user=self.alice)

    def test_a_read(self):
        for limit in (None, 1, 50):
            with self.assertNumQueries(1):
                store.read_items("long", user=self.alice, limit=limit)

    def test_a_read_of_nothing(self):
        portable = conf.AGENT_SESSIONS_PORTABLE
        with self.assertNumQueries(3 if portable else 1):
            assert store.read_items("unknown", user=self.alice) == []

    def test_lists(self):
        for _ in range(30):
            store.create_session(self.alice)
        with self.assertNumQueries(1):
            assert len(store.get_sessions(self.alice, limit=20)) == 20
        with self.assertNumQueries(1):
            store.get_sessions_for_user(self.alice)
        with self.assertNumQueries(1):
            store.get_session(self.alice, "long")
