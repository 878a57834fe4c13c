"""What a session's turns are, told in pages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

from agents import Runner, function_tool
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import TestCase
from django.test.utils import CaptureQueriesContext

from agent_sessions import DjangoSession, store
from agent_sessions.exceptions import SessionGone, SessionOwnershipError
from agent_sessions.models import AgentSession, SessionItem
from agent_sessions.usage import TokenUsage
from tests.fakes import RUN_CONFIG, agent, call, say

User = get_user_model()


def ask(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def answer(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


@function_tool
def look_up() -> str:
    return "shipped"


class TurnTests(TestCase):
    def test_a_turn_says_what_it_was(self):
        store.append_items(
            "s",
            [
                answer("welcome"),
                ask("where is\nmy order?"),
                {"type": "function_call", "name": "b", "call_id": "1"},
                {"type": "function_call_output", "call_id": "1", "output": "x"},
                {"type": "web_search_call", "id": "2", "action": {}},
                {"type": "mcp_call", "name": "a", "server_label": "shop", "id": "3"},
                {"type": "function_call", "name": "b", "call_id": "4"},
                answer("shipped"),
            ],
        )
        appended = store.append_items("s", [ask("thanks")])
        first, second, third = store.get_turns("s")
        assert (first.number, first.preview, first.item_count) == (0, "", 1)
        assert (second.number, second.preview) == (1, "where is my order?")
        assert (second.item_count, second.tools) == (7, ("b", "web_search", "shop.a"))
        assert second.calls == {"b": 2, "web_search": 1, "shop.a": 1}
        assert (third.number, third.preview, third.tools) == (2, "thanks", ())
        assert second.started_at <= second.ended_at <= third.started_at
        last = SessionItem.objects.get(position=appended.first_position)
        assert third.started_at == third.ended_at == last.created_at

    def test_pages_go_back_to_the_first_turn(self):
        for number in range(7):
            store.append_items("s", [ask(str(number)), answer("ok")])
        page = store.get_turns("s", limit=3)
        seen = [page]
        while page := store.get_turns("s", limit=3, before=page[0].number):
            seen.append(page)
        numbers = [[turn.number for turn in page] for page in seen]
        assert numbers == [[5, 6, 7], [2, 3, 4], [1]]

    def test_a_page_is_five_statements(self):
        for number in range(30):
            store.append_items("s", [ask(str(number)), answer("ok")])
        with self.assertNumQueries(5):
            assert len(store.get_turns("s", limit=25)) == 25

    def test_turns_before_many_that_were_replaced_are_found(self):
        store.append_items("s", [ask("first")])
        positions = [
            store.append_items("s", [ask(str(number))]).first_position
            for number in range(40)
        ]
        store.replace_tail("s", positions, [ask("last")])
        # The session, four times which turns and what they hold, and their details.
        with self.assertNumQueries(11):
            turns = store.get_turns("s", limit=4)
        assert [turn.preview for turn in turns] == ["first", "last"]

    def test_limits_are_bounded(self):
        for limit in (0, -1, 201):
            with self.assertNumQueries(0), self.assertRaises(ValueError):
                store.get_turns("s", limit=limit)
            with self.assertNumQueries(0), self.assertRaises(ValueError):
                store.find_turns("s", "x", limit=limit)

    def test_what_compaction_replaced_is_left_out(self):
        store.append_items("s", [ask("a"), answer("b"), ask("c"), answer("d")])
        store.replace_tail("s", [0, 1, 2, 3], [answer("so far")])
        (turn,) = store.get_turns("s")
        assert (turn.number, turn.item_count, turn.preview) == (2, 1, "c")
        assert store.read_items("s", turn=1) == []
        assert store.read_items("s", turn=2) == [answer("so far")]
        assert store.find_turns("s", "c") == []

    def test_interleaved_runs_have_their_own_turns(self):
        one, two = (store.session_handle("s") for _ in range(2))
        store.append_items(one, [ask("first")])
        store.append_items(two, [ask("second")])
        store.append_items(one, [answer("to the first")])
        store.append_items(two, [answer("to the second")])
        turns = store.get_turns("s")
        assert [(turn.preview, turn.item_count) for turn in turns] == [
            ("first", 2),
            ("second", 2),
        ]
        assert store.read_items("s", turn=1) == [ask("first"), answer("to the first")]

    def test_broken_rows_are_counted_and_name_nothing(self):
        store.append_items("s", [ask("a"), {"type": "function_call", "name": "f"}])
        SessionItem.objects.update(data="{")
        (turn,) = store.get_turns("s")
        assert (turn.preview, turn.item_count, turn.tools) == ("", 2, ())

    def test_turns_are_open_to_whom_the_session_is(self):
        alice, bob = (User.objects.create(username=name) for name in ("a", "b"))
        store.append_items("s", [ask("hello")], user=alice)
        for verb in (
            lambda user: store.get_turns("s", user=user),
            lambda user: store.find_turns("s", "hello", user=user),
            lambda user: store.read_items("s", user=user, turn=1),
        ):
            assert len(verb(alice)) == 1
            for other in (bob, None):
                with self.assertRaises(SessionOwnershipError):
                    verb(other)
        row = AgentSession.objects.get()
        store.delete_session(row)
        with self.assertRaises(SessionGone):
            store.get_turns(row)
        assert store.get_turns("unknown") == store.find_turns("unknown", "x") == []
        assert store.read_items("unknown", turn=1) == []

    def test_items_of_a_turn_have_a_limit_as_others(self):
        store.append_items("s", [ask("a"), answer("b"), answer("c"), ask("d")])
        assert store.read_items("s", turn=1, limit=2) == [answer("b"), answer("c")]
        assert store.read_items("s", turn=1, limit=-1)[0] == ask("a")
        assert store.read_items("s", turn=1, limit=0) == []
        SessionItem.objects.filter(position=2).update(data="{")
        with self.assertLogs("agent_sessions", "WARNING"):
            items = store.read_items("s", turn=1, limit=1)
        assert items == [answer("b")]

    def test_a_transcript_can_be_of_one_turn(self):
        store.append_items("s", [ask("a"), answer("b"), ask("c"), answer("d")])
        row = AgentSession.objects.get()
        page = store.read_transcript_page(row, turn=1)
        assert (page.first, page.last, page.has_older, page.has_newer) == (
            0,
            1,
            False,
            False,
        )
        page = store.read_transcript_page(row, turn=2, size=1)
        assert (page.first, page.has_older) == (3, True)

    def test_a_transcript_tells_what_its_turns_used_if_asked(self):
        used = TokenUsage(1, 10, 4, 5, 2, 15)
        store.append_items("s", [ask("a")], usage=used)
        store.append_items("s", [ask("b"), answer("c")])
        row = AgentSession.objects.get()
        page = store.read_transcript_page(row, with_usage=True)
        turns = page.sections[0].turns
        assert [turn.usage for turn in turns] == [used, TokenUsage()]
        (turn,) = store.read_transcript_page(row, turn=1).sections[0].turns
        assert turn.usage == TokenUsage()

    async def test_runs_are_told_by_their_turns(self):
        session = DjangoSession("s", session_settings={"limit": 1})
        bot = agent([call("look_up")], [say("It is on its way.")], [say("Bye!")])
        bot.tools.append(look_up)
        for text in ("Where is it?", "Thanks"):
            await Runner.run(bot, text, session=session, run_config=RUN_CONFIG)
        turns = await session.get_turns()
        assert [(turn.preview, turn.item_count, turn.tools) for turn in turns] == [
            ("Where is it?", 4, ("look_up",)),
            ("Thanks", 2, ()),
        ]
        assert await session.get_turns(limit=1, before=2) == turns[:1]
        items = await session.get_items(turn=1)
        kinds = [item.get("type") or item["role"] for item in items]
        assert kinds == ["user", "function_call", "function_call_output", "message"]
        assert await session.get_items(1, turn=1) == items[-1:]
        assert len(await session.get_items()) == 1
        assert await session.find_turns("ON ITS way") == turns[:1]


class SearchTests(TestCase):
    def numbers(self, words: str, **options: Any) -> list[int]:
        return [turn.number for turn in store.find_turns("s", words, **options)]

    def test_words_are_found_in_what_was_said(self):
        call = {"type": "function_call", "name": "refund", "arguments": '{"a": "Ünï"}'}
        parts = [{"type": "output_text", "text": 'He said "100 %_\\ sure"\nand left'}]
        store.append_items("s", [ask("A refund?"), answer("Yes")])
        store.append_items("s", [ask("ÄPFEL und Birnen"), call])
        store.append_items("s", [ask("x"), {"role": "assistant", "content": parts}])
        store.append_items("s", [ask("content"), {"role": "system", "content": "yes"}])
        assert self.numbers("REFUND") == self.numbers("yes") == [1]
        assert self.numbers("äpfel") == self.numbers("ÄPFEL U") == [2]
        assert self.numbers("Ünï") == []
        assert self.numbers('said "100 %_\\ SURE"\nand') == [3]
        assert self.numbers("100 %x") == []
        assert self.numbers("content") == [4]
        assert self.numbers("\ud800") == self.numbers("\0") == []

    def test_words_of_users_or_of_assistants_alone_are_found(self):
        store.append_items("s", [ask("order"), answer("yes")])
        store.append_items("s", [ask("yes"), answer("order")])
        assert self.numbers("order", role="user") == [1]
        assert self.numbers("order", role="assistant") == [2]

    def test_a_tool_without_a_namespace_keeps_its_name(self):
        # As the SDK spells a tool that the model has searched for.
        item = {"type": "function_call", "name": "b", "namespace": "b", "call_id": "1"}
        store.append_items("s", [ask("x"), item, {**item, "namespace": "c"}])
        assert store.get_turns("s")[0].tools == ("b", "c.b")

    def test_pages_go_on_before_a_turn(self):
        for number in range(6):
            words = "odd" if number % 2 else "even"
            store.append_items("s", [ask(words), answer(words)])
        assert self.numbers("odd", limit=2) == [4, 6]
        assert self.numbers("odd", limit=2, before=4) == [2]

    def test_a_word_is_needed(self):
        for words in ("", " "):
            with self.assertRaisesMessage(ValueError, "no words"):
                store.find_turns("s", words)

    def test_a_search_is_bounded(self):
        store.append_items("s", [ask("old"), ask("new")])
        AgentSession.objects.update(next_position=20_001)
        assert self.numbers("o") == []
        assert self.numbers("e") == [2]

    def test_half_a_character_is_found_where_it_was_stored(self):
        store.append_items("s", [ask("x\ud83d y")])
        assert self.numbers("\ud83d Y") == [1]


class PlanTests(TestCase):
    def test_a_page_costs_the_same_in_a_long_session(self):
        store.append_items("s", chain.from_iterable(pairs(3000)))
        if connection.vendor == "postgresql":
            # What autovacuum does for a table that has grown.
            connection.cursor().execute("ANALYZE agent_sessions_sessionitem")
        with CaptureQueriesContext(connection) as queries:
            turns = store.get_turns("s", before=1500)
        assert [turn.number for turn in turns] == [*range(1480, 1500)]
        for query in queries.captured_queries:
            assert rows_read(query["sql"]) < 200, query["sql"]


def pairs(count: int) -> Iterator[list[dict[str, Any]]]:
    return ([ask(str(number)), answer("x")] for number in range(count))


def rows_read(sql: str) -> int:
    """Return how many rows the database looks at for this statement."""
    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            cursor.execute(f"ANALYZE FORMAT=JSON {sql}")
            text = cursor.fetchone()[0]
            rows = re.findall(r'"r_rows": ([0-9.]+)', text)
            return round(sum(map(float, rows)))
        if connection.vendor == "postgresql":
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}")
            ((plan,),) = cursor.fetchone()
            nodes = [plan["Plan"]]
            for node in nodes:
                nodes += node.get("Plans", [])
            seen = ("Actual Rows", "Rows Removed by Filter")
            return sum(node.get(name, 0) for node in nodes for name in seen)
        # SQLite does not count rows; it must find its way by the index.
        cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
        steps = [row[3] for row in cursor.fetchall()]
        assert not any("SCAN agent_sessions_sessionitem" in step for step in steps)
        return 0
