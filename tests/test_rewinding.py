"""Taking a session back: what goes, what stays, what a run in the middle is told."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import Any
from unittest import skipIf

from agents import Runner, function_tool
from django.contrib.auth import get_user_model
from django.db import connection, connections, transaction
from django.test import TestCase, TransactionTestCase

from agent_sessions import DjangoSession, signals, store
from agent_sessions.exceptions import (
    SessionBusy,
    SessionGone,
    SessionOwnershipError,
    TurnCompacted,
    TurnGone,
)
from agent_sessions.models import AgentSession, SessionItem
from tests.fakes import RUN_CONFIG, agent, call, say

User = get_user_model()

COMPACTION = {"type": "compaction", "encrypted_content": "x"}


def ask(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def answer(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def called(call_id: str) -> dict[str, Any]:
    return {"type": "function_call", "name": "f", "call_id": call_id}


def output(call_id: str) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": "1"}


@function_tool
def look_up() -> str:
    return "shipped"


class RewindingTestCase(TestCase):
    def row(self) -> AgentSession:
        return AgentSession.objects.get(session_id="s")

    def turns(self) -> list[tuple[int, int]]:
        return list(self.row().items.in_order().values_list("position", "turn"))

    def assert_counted(self) -> None:
        row = self.row()
        live = row.items.live()
        assert row.item_count == live.count()
        assert row.turn_count == live.filter(role="user").count()
        assert list(store.check_sessions()) == []


class RewindTests(RewindingTestCase):
    def test_a_turn_goes_with_all_after_it(self):
        store.append_items("s", [answer("welcome"), ask("a"), answer("b")])
        tail = [ask("c"), called("1"), output("1"), ask("d")]
        store.append_items("s", tail)
        before = self.row()
        assert store.rewind_session("s", before_turn=2) == tail
        assert store.read_items("s") == [answer("welcome"), ask("a"), answer("b")]
        after = self.row()
        assert (after.item_count, after.turn_count, after.preview) == (3, 1, "a")
        assert after.updated_at > before.updated_at
        assert after.revision == before.revision
        self.assert_counted()

    def test_neither_positions_nor_turns_are_used_again(self):
        store.append_items("s", [ask("a"), answer("b"), ask("c")])
        store.rewind_session("s", before_turn=2)
        store.append_items("s", [ask("d"), answer("e")])
        assert self.turns() == [(0, 1), (1, 1), (3, 3), (4, 3)]
        store.rewind_session("s", before_turn=1)
        store.append_items("s", [ask("f")])
        assert self.turns() == [(5, 4)]
        assert self.row().preview == "f"
        self.assert_counted()

    def test_a_turn_that_is_gone_takes_none_along(self):
        store.append_items("s", [ask("a"), ask("b")])
        store.rewind_session("s", before_turn=2)
        store.append_items("s", [ask("c")])
        for turn in (2, 4, 99):
            with self.assertRaisesMessage(TurnGone, f"no turn {turn}"):
                store.rewind_session("s", before_turn=turn)
        assert store.read_items("s") == [ask("a"), ask("c")]
        for turn in (0, -1):
            with self.assertNumQueries(0), self.assertRaises(ValueError):
                store.rewind_session("s", before_turn=turn)
        with self.assertNumQueries(0), self.assertRaises(TypeError):
            store.rewind_session("s", before_turn=1.5)
        with self.assertRaises(SessionGone):
            store.rewind_session("unknown", before_turn=1)

    def test_only_whose_session_it_is_may_do_that(self):
        alice, bob = (User.objects.create(username=name) for name in ("a", "b"))
        store.append_items("s", [ask("a")], user=alice)
        for other in (bob, None):
            for verb in (
                lambda user: store.rewind_session("s", before_turn=1, user=user),
                lambda user: store.retry_session("s", user=user),
            ):
                with self.assertRaises(SessionOwnershipError):
                    verb(other)
        assert len(store.rewind_session("s", before_turn=1, user=alice)) == 1

    def test_the_preview_says_nothing_that_was_removed(self):
        image = {"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}
        store.append_items("s", [image, ask("what is it?"), ask("and now?")])
        store.rewind_session("s", before_turn=3)
        assert self.row().preview == "what is it?"
        store.rewind_session("s", before_turn=2)
        assert (self.row().preview, self.row().turn_count) == ("", 1)

    def test_runs_between_each_other_go_by_turn(self):
        one, two = (store.session_handle("s") for _ in range(2))
        store.append_items(one, [ask("first")])
        store.append_items(two, [ask("second"), called("2")])
        store.append_items(one, [called("1"), output("1")])
        store.append_items(two, [output("2"), answer("to the second")])
        store.append_items(one, [answer("to the first")])
        removed = store.rewind_session("s", before_turn=2)
        assert removed == [
            ask("second"),
            called("2"),
            output("2"),
            answer("to the second"),
        ]
        assert [item.get("content") for item in store.read_items("s")] == [
            "first",
            None,
            None,
            "to the first",
        ]
        self.assert_counted()

    def test_an_output_stays_with_its_call(self):
        store.append_items("s", [ask("a"), called("1"), called("2")])
        store.append_items("s", [ask("b"), called("3")])
        # Approved later, by who does not know which turn it was.
        store.append_items("s", [output("1"), output("3"), output("2"), answer("c")])
        removed = store.rewind_session("s", before_turn=2)
        assert removed == [ask("b"), called("3"), output("3"), answer("c")]
        kept = [ask("a"), called("1"), called("2"), output("1"), output("2")]
        assert store.read_items("s", turn=1) == kept
        self.assert_counted()

    def test_an_output_goes_with_its_call(self):
        one = store.session_handle("s")
        store.append_items(one, [ask("a")])
        store.append_items("s", [ask("b"), called("1")])
        store.append_items(one, [output("1"), answer("c")])
        removed = store.rewind_session("s", before_turn=2)
        assert removed == [ask("b"), called("1"), output("1")]
        assert store.read_items("s") == [ask("a"), answer("c")]
        self.assert_counted()

    def test_ids_that_are_used_twice_are_no_hindrance(self):
        turn = [called("1"), output("1"), answer("x")]
        store.append_items("s", [ask("a"), *turn, ask("b"), *turn])
        assert store.rewind_session("s", before_turn=2) == [ask("b"), *turn]
        assert store.read_items("s") == [ask("a"), *turn]

    def test_approvals_are_pairs_as_well(self):
        request = {"type": "mcp_approval_request", "id": "r", "name": "f"}
        response = {
            "type": "mcp_approval_response",
            "approval_request_id": "r",
            "approve": True,
        }
        store.append_items("s", [ask("a"), request])
        store.append_items("s", [ask("b"), response])
        assert store.rewind_session("s", before_turn=2) == [ask("b")]
        assert store.read_items("s") == [ask("a"), request, response]

    def test_broken_rows_go_and_are_logged(self):
        store.append_items("s", [ask("a"), ask("b"), answer("c")])
        SessionItem.objects.filter(position=2).update(data="{")
        with self.assertLogs("agent_sessions", "WARNING") as logs:
            assert store.rewind_session("s", before_turn=2) == [ask("b")]
        assert "positions 2" in logs.output[0]
        self.assert_counted()

    def test_it_is_told_of(self):
        heard: list[dict[str, Any]] = []

        def note(session_id: str, before_turn: int, count: int, **facts: Any) -> None:
            heard.append({session_id: (before_turn, count)})

        signals.session_rewound.connect(note)
        self.addCleanup(signals.session_rewound.disconnect, note)
        store.append_items("s", [ask("a"), answer("b")])
        with self.captureOnCommitCallbacks(execute=True):
            store.rewind_session("s", before_turn=1)
        assert heard == [{"s": (1, 2)}]


class RetryTests(RewindingTestCase):
    def test_the_input_of_the_last_turn_comes_back(self):
        note = {"role": "developer", "content": "be brief"}
        store.append_items("s", [ask("a"), answer("b")])
        store.append_items("s", [ask("c"), note])
        store.append_items("s", [called("1"), output("1"), answer("d")])
        assert store.retry_session("s") == [ask("c"), note]
        assert store.read_items("s") == [ask("a"), answer("b")]
        assert store.retry_session("s") == [ask("a")]
        with self.assertRaisesMessage(TurnGone, "no turn to retry"):
            store.retry_session("s")
        with self.assertRaises(SessionGone):
            store.retry_session("unknown")

    async def test_a_run_can_be_tried_again(self):
        bot = agent(
            [say("Hello")],
            [call("look_up")],
            [say("No idea.")],
            [call("look_up")],
            [say("It was shipped.")],
            [say("You are welcome.")],
        )
        bot.tools.append(look_up)
        session = DjangoSession("s")
        await Runner.run(bot, "Hi", session=session, run_config=RUN_CONFIG)
        await Runner.run(bot, "Where is it?", session=session, run_config=RUN_CONFIG)
        again = await session.retry()
        result = await Runner.run(bot, again, session=session, run_config=RUN_CONFIG)
        assert result.final_output == "It was shipped."
        asked = bot.model.inputs
        assert asked[3] == asked[1] and len(asked[1]) == 3
        turns = await session.get_turns()
        assert [(turn.number, turn.preview) for turn in turns] == [
            (1, "Hi"),
            (3, "Where is it?"),
        ]
        # Editing is a rewind and another message.
        removed = await session.rewind(before_turn=3)
        assert [item.get("type") for item in removed] == [
            None,
            "function_call",
            "function_call_output",
            "message",
        ]
        await Runner.run(bot, "Thank you", session=session, run_config=RUN_CONFIG)
        texts = [turn.preview for turn in await session.get_turns()]
        assert texts == ["Hi", "Thank you"]
        assert len(bot.model.inputs[-1]) == 3

    async def test_a_turn_that_failed_can_be_tried_again(self):
        bot = agent(RuntimeError("down"), [say("Here I am.")])
        session = DjangoSession("s")
        with self.assertRaises(RuntimeError):
            await Runner.run(bot, "Hi", session=session, run_config=RUN_CONFIG)
        again = await session.retry()
        await Runner.run(bot, again, session=session, run_config=RUN_CONFIG)
        assert [item["role"] for item in await session.get_items()] == [
            "user",
            "assistant",
        ]


class CompactionTests(RewindingTestCase):
    """What a compaction has replaced when the session is taken back."""

    def setUp(self):
        for number in range(1, 5):
            store.append_items("s", [ask(f"q{number}"), answer(f"a{number}")])

    def compact(self, *copies: str, positions: Any = range(8)) -> None:
        # The API gives back the users' messages and a summary of the rest.
        items = [*map(ask, copies), COMPACTION]
        assert store.replace_tail("s", list(positions), items)

    def texts(self) -> list[str | None]:
        return [item.get("content") for item in store.read_items("s")]

    def test_one_before_the_cut_stays(self):
        self.compact()
        store.append_items("s", [ask("q5"), answer("a5"), ask("q6")])
        store.rewind_session("s", before_turn=6)
        assert store.rewind_session("s", before_turn=5) == [ask("q5"), answer("a5")]
        assert store.read_items("s") == [COMPACTION]
        assert SessionItem.objects.replaced().count() == 8
        self.assert_counted()

    def test_one_after_the_cut_is_undone(self):
        self.compact("q1", "q2", "q3", "q4")
        store.append_items("s", [ask("later")])
        removed = store.rewind_session("s", before_turn=4)
        assert removed[:2] == [ask("q4"), answer("a4")]
        assert removed[-2:] == [COMPACTION, ask("later")]
        assert self.texts() == ["q1", "a1", "q2", "a2", "q3", "a3"]
        assert self.row().preview == "q1"
        assert not SessionItem.objects.replaced().exists()
        self.assert_counted()

    def test_of_two_only_the_later_one_is_undone(self):
        self.compact(positions=range(8))
        store.append_items("s", [ask("q5"), answer("a5"), ask("q6"), answer("a6")])
        self.compact("q5", "q6", positions=range(8, 13))
        store.rewind_session("s", before_turn=6)
        assert self.texts() == [None, "q5", "a5"]
        assert SessionItem.objects.replaced().count() == 8
        self.assert_counted()
        store.rewind_session("s", before_turn=4)
        assert self.texts() == ["q1", "a1", "q2", "a2", "q3", "a3"]
        self.assert_counted()

    def test_the_copies_that_it_made_are_no_turns_to_go_back_to(self):
        self.compact("q1", "q2", "q3", "q4")
        for turn in (5, 6, 8):
            with self.assertRaises(TurnCompacted):
                store.rewind_session("s", before_turn=turn)
        assert len(store.read_items("s")) == 5

    def test_retrying_after_it_asks_the_same_again(self):
        self.compact("q1", "q2", "q3", "q4")
        assert store.retry_session("s") == [ask("q4")]
        assert self.texts() == ["q1", "a1", "q2", "a2", "q3", "a3"]
        self.assert_counted()

    def test_so_it_does_without_copies(self):
        self.compact()
        assert store.retry_session("s") == [ask("q4")]
        assert self.texts() == ["q1", "a1", "q2", "a2", "q3", "a3"]

    def test_a_summary_that_was_written_anew_is_no_turn_either(self):
        # What SDKs do that know no better way.
        store.clear_session("s")
        store.append_items("s", [ask("q1"), ask("q2"), COMPACTION])
        for verb in (
            lambda: store.rewind_session("s", before_turn=6),
            lambda: store.rewind_session("s", before_turn=5),
        ):
            with self.assertRaises(TurnCompacted):
                verb()
        with self.assertRaises(TurnGone):
            store.retry_session("s")
        assert len(store.read_items("s")) == 3
        store.append_items("s", [ask("q3"), answer("a3")])
        assert store.retry_session("s") == [ask("q3")]

    def test_one_in_the_middle_of_other_runs_is_refused(self):
        one = store.session_handle("s")
        store.append_items(one, [ask("q5")])
        store.append_items("s", [ask("q6"), answer("a6")])
        store.append_items(one, [answer("a5")])
        positions = list(range(12))
        assert store.replace_tail("s", positions, [answer("all of it")])
        with self.assertRaises(TurnCompacted):
            store.rewind_session("s", before_turn=6)
        store.rewind_session("s", before_turn=5)
        assert len(self.texts()) == 8

    def test_a_compaction_that_the_model_made_in_its_turn_goes_with_it(self):
        store.append_items("s", [ask("q5")])
        store.append_items("s", [COMPACTION, answer("a5")])
        assert store.retry_session("s") == [ask("q5")]
        assert len(self.texts()) == 8

    def test_a_run_that_compacts_what_is_gone_is_refused(self):
        run = store.session_handle("s")
        store.append_items(run, [ask("q5"), answer("a5")])
        store.rewind_session("s", before_turn=5)
        with self.assertRaises(TurnGone):
            store.replace_items(run, [ask("q5"), COMPACTION])
        assert len(self.texts()) == 8


class RunningTests(RewindingTestCase):
    """A run goes on while its turn, or another, is removed."""

    def setUp(self):
        store.append_items("s", [ask("a"), answer("b")])
        self.run = store.session_handle("s")
        store.append_items(self.run, [ask("c")])
        store.append_items(self.run, [called("1")])

    def assert_untouched(self) -> None:
        assert store.read_items("s")[:2] == [ask("a"), answer("b")]
        self.assert_counted()

    def test_its_next_write_is_refused(self):
        store.rewind_session("s", before_turn=2)
        for items in (
            [output("1")],
            [answer("d")],
            [output("1"), ask("e")],
            [answer("d")] * 9,
        ):
            with self.assertRaisesMessage(TurnGone, "while this run went on"):
                store.append_items(self.run, items)
        assert len(store.read_items("s")) == 2
        assert self.row().next_position == 4
        self.assert_untouched()

    def test_also_when_others_have_written_since(self):
        store.rewind_session("s", before_turn=2)
        store.append_items("s", [ask("new"), answer("e")])
        with self.assertRaises(TurnGone):
            store.append_items(self.run, [output("1")])
        self.assert_untouched()

    def test_also_the_object_that_has_done_it(self):
        store.rewind_session(self.run, before_turn=2)
        with self.assertRaises(TurnGone):
            store.append_items(self.run, [output("1")])
        store.append_items(self.run, [ask("new")])
        store.append_items(self.run, [answer("e")])
        assert self.turns()[2:] == [(4, 3), (5, 3)]

    def test_it_may_begin_another_turn(self):
        store.rewind_session("s", before_turn=2)
        store.append_items(self.run, [ask("new"), answer("e")])
        assert self.turns()[2:] == [(4, 3), (5, 3)]

    def test_a_turn_before_the_cut_goes_on(self):
        store.append_items("s", [ask("another")])
        store.rewind_session("s", before_turn=3)
        store.append_items(self.run, [output("1"), answer("d")])
        store.append_items("s", [ask("new")])
        store.append_items(self.run, [answer("more")])
        assert [turn for _, turn in self.turns()] == [1, 1, 2, 2, 2, 2, 4, 2]
        self.assert_counted()

    def test_a_run_that_is_taken_up_elsewhere_is_refused(self):
        store.rewind_session("s", before_turn=2)
        for _ in range(2):
            with self.assertRaisesMessage(TurnGone, "The call"):
                store.append_items("s", [output("1"), answer("d")])
            store.append_items("s", [ask("new"), called("2")])
        store.append_items("s", [output("2"), answer("d")])
        self.assert_untouched()

    def test_what_nobody_asked_for_belongs_to_the_last_turn(self):
        store.rewind_session("s", before_turn=2)
        appended = store.append_items("s", [answer("by the way"), ask("new")])
        assert appended.turn == 3
        assert self.turns()[2:] == [(4, 1), (5, 3)]
        store.rewind_session("s", before_turn=1)
        store.append_items("s", [answer("hello")])
        assert self.turns() == [(6, 0)]
        self.assert_counted()

    async def test_a_real_run_ends_with_it(self):
        async def take_back() -> str:
            await DjangoSession("s").rewind(before_turn=2)
            return "done"

        bot = agent([call("take_back", call_id="2")], [say("never said")])
        bot.tools.append(function_tool(take_back))
        with self.assertRaises(TurnGone):
            await Runner.run(
                bot, "go", session=DjangoSession("s"), run_config=RUN_CONFIG
            )
        session = DjangoSession("s")
        assert await session.get_items() == [ask("a"), answer("b")]
        # What it had asked the model is spent all the same.
        assert (await session.get_usage()).requests == 1

    async def test_a_streamed_run_ends_with_it(self):
        async def take_back() -> str:
            await DjangoSession("s").retry()
            return "done"

        bot = agent([call("take_back", call_id="2")], [say("never said")])
        bot.tools.append(function_tool(take_back))
        session = DjangoSession("s")
        result = Runner.run_streamed(bot, "go", session=session, run_config=RUN_CONFIG)
        with self.assertRaises(TurnGone):
            async for _ in result.stream_events():
                pass
        # The turn before it, which another run still writes to, is as it was.
        items = await session.get_items()
        assert items == [ask("a"), answer("b"), ask("c"), called("1")]


class WaitingTests(TransactionTestCase):
    """Another transaction holds the session, and commits while a verb waits for it."""

    @contextmanager
    def waiting(self, verb: Any):
        """Begin ``verb`` in a thread inside the block's transaction, end it after."""
        results: list[Any] = []

        def run() -> None:
            try:
                results.append(verb())
            except Exception as error:
                results.append(type(error))
            finally:
                connections.close_all()

        thread = threading.Thread(target=run)
        with transaction.atomic():
            yield results
            thread.start()
            # Long enough to reach the lock; if it is slower it waits all the same.
            time.sleep(0.3)
        thread.join()

    def assert_sound(self) -> None:
        for row in AgentSession.objects.all():
            assert row.item_count == row.items.live().count()
            assert row.turn_count == row.items.live().filter(role="user").count()

    def test_an_append_behind_a_rewind_of_its_turn_is_refused(self):
        run = store.session_handle("s")
        store.append_items(run, [ask("a"), called("1")])
        verb = lambda: store.append_items(run, [output("1")])  # noqa: E731
        with self.waiting(verb) as results:
            store.rewind_session("s", before_turn=1)
        assert results == [TurnGone]
        assert not SessionItem.objects.exists()
        self.assert_sound()

    def test_an_append_behind_a_rewind_of_another_turn_is_done(self):
        run = store.session_handle("s")
        store.append_items(run, [ask("a"), called("1")])
        store.append_items("s", [ask("b")])
        verb = lambda: store.append_items(run, [output("1")])  # noqa: E731
        with self.waiting(verb) as results:
            store.rewind_session("s", before_turn=2)
        assert results[0].turn == 1
        assert len(store.read_items("s")) == 3
        self.assert_sound()

    def test_a_rewind_behind_an_append_takes_it_along(self):
        run = store.session_handle("s")
        store.append_items(run, [ask("a"), called("1")])
        verb = lambda: store.rewind_session("s", before_turn=1)  # noqa: E731
        with self.waiting(verb) as results:
            store.append_items(run, [output("1")])
        assert results == [[ask("a"), called("1"), output("1")]]
        self.assert_sound()

    def test_a_person_behind_a_lease_is_told_of_it(self):
        store.append_items("s", [ask("a")])
        for verb in (
            lambda: store.take_back_turns("s", before_turn=1),
            lambda: store.clear_session("s", unless_leased=True),
        ):
            with self.waiting(verb) as results:
                lease = store.acquire_lease("s")
            assert results == [SessionBusy]
            store.release_lease("s", lease)
        assert store.read_items("s") == [ask("a")]

    @skipIf(connection.vendor == "sqlite", "who has read there cannot write later")
    def test_a_transaction_that_has_read_before_sees_all_of_it(self):
        verbs = {
            "fork": lambda: store.fork_session("fork").items.count(),
            "cut": lambda: store.fork_session("cut", before_turn=2).items.count(),
            "rewind": lambda: len(store.rewind_session("rewind", before_turn=1)),
            "retry": lambda: 2 + len(store.retry_session("retry")),
        }
        for name, verb in verbs.items():
            run = store.session_handle(name)
            store.append_items(run, [ask("a"), called("1")])

            def go_on(run: Any = run) -> None:
                store.append_items(run, [output("1"), ask("b")])
                connections.close_all()

            with transaction.atomic():
                # MariaDB's snapshot is of now.
                assert len(store.read_items(name)) == 2
                thread = threading.Thread(target=go_on)
                thread.start()
                thread.join()
                assert verb() == (4 if name in ("fork", "rewind") else 3), name
            self.assert_sound()

    def test_of_two_rewinds_one_finds_the_turn(self):
        store.append_items("s", [ask("a"), ask("b")])
        verb = lambda: store.rewind_session("s", before_turn=2)  # noqa: E731
        with self.waiting(verb) as results:
            store.rewind_session("s", before_turn=2)
        assert results == [TurnGone]
        with self.waiting(lambda: store.retry_session("s")) as results:
            store.append_items("s", [ask("c")])
        assert results == [[ask("c")]]
        self.assert_sound()
