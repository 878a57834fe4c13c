"""Copies of sessions, and what they know of each other."""

from __future__ import annotations

from typing import Any

from agents import Runner
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import TestCase
from django.test.utils import CaptureQueriesContext

from agent_sessions import DjangoSession, signals, store
from agent_sessions.conf import conf
from agent_sessions.exceptions import (
    InvalidTitle,
    SessionGone,
    SessionOwnershipError,
    TurnCompacted,
    TurnGone,
)
from agent_sessions.models import AgentSession, SessionItem
from tests.fakes import RUN_CONFIG, agent, say
from tests.nasty import NASTY_ITEMS
from tests.test_rewinding import COMPACTION, answer, ask, called, output

User = get_user_model()

_INSERT = "INSERT INTO agent_sessions_sessionitem"
COLUMNS = ("position", "turn", "type", "role", "created_at", "replaced_at")


class ForkingTestCase(TestCase):
    def setUp(self):
        self.alice = User.objects.create(username="alice")
        self.row = store.create_session(
            self.alice, session_id="s", title="Order", metadata={"a": 1}
        )

    def contents(self, row: AgentSession) -> list[Any]:
        assert list(store.check_sessions()) == []
        rows = row.items.in_order().values_list(*COLUMNS)
        texts = [store.read_raw(item) for item in row.items.in_order()]
        return list(zip(rows, texts, strict=True))


class ForkTests(ForkingTestCase):
    def test_a_fork_is_the_same_session_over_again(self):
        store.append_items(self.row, [ask("x"), answer("y"), *NASTY_ITEMS.values()])
        store.append_items(self.row, [ask("a"), called("1"), output("1")])
        store.pop_item(self.row)
        store.replace_tail(self.row, [1 + len(NASTY_ITEMS) + 1], [COMPACTION])
        self.row.refresh_from_db()
        fork = store.fork_session(self.row)
        fork.refresh_from_db()
        assert self.contents(fork) == self.contents(self.row)
        assert (fork.forked_from, self.row.forked_from) == (self.row.pk, None)
        assert fork.forked_at == fork.created_at == fork.updated_at == fork.owned_at
        assert fork.session_id not in ("s", str(fork.pk))
        same = ("user", "title", "metadata", "preview", "item_count", "turn_count")
        for name in (*same, "next_position", "next_turn"):
            assert getattr(fork, name) == getattr(self.row, name), name
        keys = SessionItem.objects.values_list("pk", flat=True)
        assert len(set(keys)) == len(keys) == 2 * fork.items.count()
        # Both go on, without each other.
        store.append_items(fork, [ask("there")])
        store.append_items(self.row, [ask("here")])
        assert store.read_items(fork)[-1] == ask("there")
        assert store.read_items(self.row)[-1] == ask("here")

    def test_a_fork_ends_before_a_turn(self):
        store.append_items(self.row, [answer("hi"), ask("a"), answer("b"), ask("c")])
        fork = store.fork_session(self.row, before_turn=2, title="Other")
        assert store.read_items(fork) == [answer("hi"), ask("a"), answer("b")]
        assert (fork.title, fork.preview, fork.item_count) == ("Other", "a", 3)
        assert (fork.turn_count, fork.next_position, fork.next_turn) == (1, 3, 2)
        first = store.fork_session(self.row, before_turn=1)
        assert store.read_items(first) == [answer("hi")]
        assert (first.preview, first.turn_count, first.next_turn) == ("", 0, 1)
        assert store.fork_session(first).next_position == 1
        assert len(store.read_items(self.row)) == 4
        assert list(store.check_sessions()) == []

    def test_a_fork_has_nothing_of_a_session_without_items(self):
        fork = store.fork_session(self.row)
        assert (fork.item_count, fork.next_position, fork.next_turn) == (0, 0, 1)
        store.append_items(fork, [ask("a")])
        cut = store.fork_session(fork, before_turn=1)
        assert (cut.item_count, cut.next_position, cut.next_turn) == (0, 0, 1)

    def test_calls_and_their_outputs_are_copied_together(self):
        store.append_items(self.row, [ask("a"), called("1")])
        store.append_items(self.row, [ask("b"), called("2"), output("1"), output("2")])
        fork = store.fork_session(self.row, before_turn=2)
        assert store.read_items(fork, turn=1) == [ask("a"), called("1"), output("1")]
        one = store.session_handle(self.row)
        store.append_items(one, [ask("c")])
        store.append_items("s", [ask("d"), called("3")], user=self.alice)
        store.append_items(one, [output("3"), answer("e")])
        fork = store.fork_session(self.row, before_turn=4)
        assert store.read_items(fork)[-2:] == [ask("c"), answer("e")]
        assert list(store.check_sessions()) == []

    def test_a_compaction_after_the_cut_never_was(self):
        for number in "1234":
            store.append_items(self.row, [ask(number), answer(number)])
        store.replace_tail(self.row, list(range(8)), [ask("4"), COMPACTION])
        fork = store.fork_session(self.row, before_turn=4)
        texts = [item["content"] for item in store.read_items(fork)]
        assert texts == ["1", "1", "2", "2", "3", "3"]
        assert not fork.items.replaced().exists()
        assert self.row.items.replaced().count() == 8
        assert list(store.check_sessions()) == []
        with self.assertRaises(TurnCompacted):
            store.fork_session(self.row, before_turn=5)

    def test_what_cannot_be_forked_is_refused(self):
        store.append_items(self.row, [ask("a")])
        bob = User.objects.create(username="bob")
        count = AgentSession.objects.count()
        for error, options in (
            (TurnGone, {"before_turn": 2}),
            (ValueError, {"before_turn": 0}),
            (TypeError, {"before_turn": 1.5}),
            (InvalidTitle, {"title": "x\n"}),
            (SessionOwnershipError, {"user": bob}),
        ):
            with self.assertRaises(error):
                store.fork_session(self.row, **options)
        for user in (bob, None):
            with self.assertRaises(SessionOwnershipError):
                store.fork_session("s", user=user)
            with self.assertRaises(SessionOwnershipError):
                store.get_forks("s", user=user)
        with self.assertRaises(SessionGone):
            store.fork_session("unknown")
        assert store.get_forks("unknown") == []
        with self.assertRaises(ValueError):
            store.get_forks("unknown", limit=-1)
        assert AgentSession.objects.count() == count

    def test_items_are_copied_inside_the_database(self):
        store.append_items(self.row, [ask("a"), answer("b")] * 600)
        for options in ({}, {"before_turn": 500}):
            with CaptureQueriesContext(connection) as queries:
                fork = store.fork_session(self.row, **options)
            statements = [query["sql"] for query in queries.captured_queries]
            copies = [sql for sql in statements if _INSERT in sql.replace("`", "")]
            if not conf.AGENT_SESSIONS_PORTABLE:
                assert len(copies) == 1 and "SELECT" in copies[0]
            assert fork.items.count() == fork.item_count > 900

    def test_a_fork_is_a_session_that_was_created(self):
        heard: list[Any] = []

        def note(session: Any, user_id: Any, **facts: Any) -> None:
            heard.append((session, user_id))

        signals.session_created.connect(note)
        self.addCleanup(signals.session_created.disconnect, note)
        with self.captureOnCommitCallbacks(execute=True):
            fork = store.fork_session(self.row)
        assert heard == [(fork.pk, self.alice.pk)]


class LineageTests(ForkingTestCase):
    def test_forks_are_listed_for_their_owner(self):
        first = store.fork_session(self.row)
        second = store.fork_session(self.row)
        store.fork_session(first)
        other = store.fork_session(self.row)
        bob = User.objects.create(username="bob")
        AgentSession.objects.filter(pk=other.pk).update(user=bob)
        assert store.get_forks("s", user=self.alice) == [second, first]
        assert store.get_forks(self.row, limit=1) == [second]
        assert store.get_forks(second) == []

    def test_whoever_is_deleted_leaves_the_other_whole(self):
        store.append_items(self.row, [ask("a")])
        one, two = (store.fork_session(self.row) for _ in range(2))
        store.delete_session(one)
        assert store.get_forks(self.row) == [two]
        assert store.read_items(self.row) == [ask("a")]
        store.delete_session(self.row)
        two.refresh_from_db()
        assert two.forked_from == self.row.pk
        assert store.read_items(two) == [ask("a")]

    def test_a_fork_of_nobodys_session_is_nobodys(self):
        store.append_items("visitor", [ask("a")])
        row = AgentSession.objects.get(session_id="visitor")
        fork = store.fork_session("visitor")
        assert (fork.user_id, fork.owned_at) == (None, None)
        assert store.get_forks("visitor") == [fork]
        store.claim_session(fork.session_id, self.alice)
        assert store.get_forks("visitor") == []
        store.claim_session("visitor", self.alice)
        assert store.get_forks(row.session_id, user=self.alice) == [fork]

    def test_a_fork_of_an_orphan_is_one(self):
        store.append_items(self.row, [ask("a")])
        self.alice.delete()
        self.row.refresh_from_db()
        fork = store.fork_session(self.row)
        assert fork.is_orphaned
        assert store.get_forks(self.row) == [fork]
        with self.assertRaises(SessionOwnershipError):
            store.claim_session(fork.session_id, User.objects.create(username="b"))

    def test_the_older_course_is_kept(self):
        store.append_items(self.row, [ask("a"), answer("b"), ask("c"), answer("d")])
        self.row.refresh_from_db()
        before = self.contents(self.row)
        removed = store.rewind_session(self.row, before_turn=2, keep=True)
        assert removed == [ask("c"), answer("d")]
        (kept,) = store.get_forks(self.row)
        assert self.contents(kept) == before
        assert kept.archived_at == kept.forked_at is not None
        assert kept.updated_at == self.row.updated_at
        assert store.get_sessions(self.alice) == [self.row]
        assert store.retry_session(self.row, keep=True) == [ask("a")]
        assert [fork.item_count for fork in store.get_forks(self.row)] == [2, 4]
        assert store.read_items(self.row) == []
        with self.assertRaises(TurnGone):
            store.retry_session(self.row, keep=True)
        assert AgentSession.objects.count() == 3

    async def test_runs_go_on_in_forks(self):
        session = await DjangoSession.create_session(
            self.alice, session_settings={"limit": 50}
        )
        bot = agent(*([say(text)] for text in ("one", "two", "other two", "edited")))
        await Runner.run(bot, "first", session=session, run_config=RUN_CONFIG)
        await Runner.run(bot, "second", session=session, run_config=RUN_CONFIG)
        fork = await session.fork(2, title="Otherwise")
        assert (fork.session_settings.limit, fork.user_id) == (50, self.alice.pk)
        await Runner.run(bot, "another", session=fork, run_config=RUN_CONFIG)
        assert [turn.preview for turn in await fork.get_turns()] == ["first", "another"]
        assert (await fork.get_turns())[-1].number == 2
        await session.rewind(before_turn=2, keep=True)
        await Runner.run(bot, "edited", session=session, run_config=RUN_CONFIG)
        older, other = await session.forks()
        assert other.pk == fork.pk
        assert [turn.preview for turn in await older.get_turns()] == ["first", "second"]
        assert (await session.forks(limit=1))[0].pk == older.pk
        turns = await session.get_turns()
        assert [(turn.number, turn.preview) for turn in turns] == [
            (1, "first"),
            (3, "edited"),
        ]
