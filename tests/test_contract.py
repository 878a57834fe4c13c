"""
The SDK's Session contract, asked of its own SQLiteSession and of DjangoSession.

Where the two differ the difference is a choice, and the README names it.
"""

from __future__ import annotations

import tempfile
import uuid
from pathlib import Path
from typing import Any

from agents.memory import Session, SessionSettings, SQLiteSession
from django.test import TestCase

from agent_sessions import DjangoSession
from tests.nasty import NASTY_ITEMS


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def texts(items: list[Any]) -> list[str]:
    return [item["content"] for item in items]


class ContractMixin:
    def open_session(self, session_id: str, **options: Any) -> Session:
        raise NotImplementedError

    async def break_rows(self, session: Session, *texts: str) -> None:
        """Store rows behind the last one that the session could not have written."""
        raise NotImplementedError

    async def filled(self, *words: str, **options: Any) -> Session:
        session = self.open_session(str(uuid.uuid4()), **options)
        for word in words:
            await session.add_items([user(word)])
        return session

    async def test_it_is_a_session_by_shape(self):
        session = self.open_session("x")
        assert isinstance(session, Session)
        assert session.session_id == "x"

    async def test_items_come_back_in_the_order_they_came_in(self):
        session = self.open_session("order")
        await session.add_items([user("a"), user("b")])
        await session.add_items([user("c")])
        await session.add_items([user("d"), user("e"), user("f")])
        assert texts(await session.get_items()) == list("abcdef")

    async def test_another_object_with_the_same_id_reads_the_same(self):
        await self.open_session("same").add_items([user("a")])
        assert texts(await self.open_session("same").get_items()) == ["a"]

    async def test_sessions_do_not_mix(self):
        await self.open_session("one").add_items([user("a")])
        await self.open_session("two").add_items([user("b")])
        assert texts(await self.open_session("one").get_items()) == ["a"]

    async def test_limit_gives_the_newest_oldest_first(self):
        session = await self.filled(*"abcde")
        assert texts(await session.get_items(2)) == ["d", "e"]
        assert texts(await session.get_items(limit=3)) == ["c", "d", "e"]

    async def test_limit_above_the_length_gives_all(self):
        session = await self.filled(*"abc")
        assert texts(await session.get_items(2_147_483_647)) == list("abc")

    async def test_limit_zero_gives_none(self):
        session = await self.filled(*"abc")
        assert await session.get_items(0) == []

    async def test_negative_limit_gives_all(self):
        session = await self.filled(*"abc")
        assert texts(await session.get_items(-1)) == list("abc")
        assert texts(await session.get_items(-50)) == list("abc")

    async def test_no_limit_takes_that_of_the_settings(self):
        settings = SessionSettings(limit=2)
        session = await self.filled(*"abc", session_settings=settings)
        assert texts(await session.get_items()) == ["b", "c"]
        assert texts(await session.get_items(1)) == ["c"]
        assert texts(await session.get_items(-1)) == list("abc")

    async def test_settings_may_be_a_dict_and_may_change(self):
        session = await self.filled(*"abc", session_settings={"limit": 1})
        assert texts(await session.get_items()) == ["c"]
        session.session_settings = SessionSettings(limit=2)
        assert texts(await session.get_items()) == ["b", "c"]
        session.session_settings = None
        assert texts(await session.get_items()) == list("abc")

    async def test_empty_batch_does_nothing(self):
        session = await self.filled("a")
        await session.add_items([])
        assert texts(await session.get_items()) == ["a"]

    async def test_unknown_session_is_empty(self):
        session = self.open_session("unknown")
        assert await session.get_items() == []
        assert await session.get_items(5) == []
        assert await session.pop_item() is None
        await session.clear_session()
        assert await session.get_items() == []

    async def test_pop_returns_what_was_read_last(self):
        session = await self.filled(*"abc")
        items = await session.get_items()
        assert await session.pop_item() == items[-1]
        assert await session.get_items() == items[:-1]

    async def test_popping_to_the_end_gives_none(self):
        session = await self.filled("a")
        assert await session.pop_item() == user("a")
        assert await session.pop_item() is None
        assert await session.get_items() == []

    async def test_adding_goes_on_after_pop_and_clear(self):
        session = await self.filled(*"abc")
        await session.pop_item()
        await session.add_items([user("d")])
        assert texts(await session.get_items()) == ["a", "b", "d"]
        await session.clear_session()
        assert await session.get_items() == []
        await session.add_items([user("e")])
        assert texts(await session.get_items()) == ["e"]

    async def test_items_that_repeat_are_all_kept(self):
        session = await self.filled("a", "a")
        await session.add_items([user("a"), user("a")])
        assert texts(await session.get_items()) == ["a"] * 4

    async def test_every_item_round_trips_exactly(self):
        for name, item in NASTY_ITEMS.items():
            session = self.open_session(f"round trip of {name}")
            await session.add_items([item])
            for read in (await session.get_items(), [await session.pop_item()]):
                assert read == [item], name
                # == takes 1 for True, 1.0 and -0.0 for 0.0; and dicts in any order.
                assert repr(read) == repr([item]), name

    async def test_broken_rows_are_skipped(self):
        session = await self.filled("a")
        await self.break_rows(session, "{broken", "")
        await session.add_items([user("b")])
        assert texts(await session.get_items()) == ["a", "b"]

    async def test_limit_counts_items_that_decode(self):
        session = await self.filled("a", "b", "c")
        await self.break_rows(session, "{broken", '{"role": "user"', "]")
        await session.add_items([user("d")])
        assert texts(await session.get_items(3)) == ["b", "c", "d"]

    async def test_broken_rows_that_complete_each_other_are_skipped(self):
        session = await self.filled("a")
        await self.break_rows(session, '{"role": "user", "content": [1', "2]}")
        await session.add_items([user("b")])
        assert texts(await session.get_items()) == ["a", "b"]

    async def test_pop_removes_broken_rows_on_its_way(self):
        session = await self.filled("a", "b")
        await self.break_rows(session, "{broken", "nonsense")
        assert await session.pop_item() == user("b")
        assert texts(await session.get_items()) == ["a"]

    async def test_pop_of_nothing_but_broken_rows_gives_none(self):
        session = await self.filled("a")
        await session.pop_item()
        await self.break_rows(session, "{broken")
        assert await session.pop_item() is None
        assert await session.get_items() == []

    async def test_value_that_is_no_json_stores_nothing_of_its_batch(self):
        session = await self.filled("a")
        for value in (object(), {1, 2}, b"bytes"):
            with self.assertRaises(TypeError):
                await session.add_items([user("b"), {"role": "user", "content": value}])
        await session.add_items([user("c")])
        assert texts(await session.get_items()) == ["a", "c"]


class SQLiteSessionTests(ContractMixin, TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "sessions.sqlite3"
        self.opened: list[SQLiteSession] = []
        self.addCleanup(lambda: [session.close() for session in self.opened])

    def open_session(self, session_id: str, **options: Any) -> Session:
        session = SQLiteSession(session_id, self.path, **options)
        self.opened.append(session)
        return session

    async def break_rows(self, session: Any, *texts: str) -> None:
        with session._locked_connection() as connection:
            connection.executemany(
                "INSERT INTO agent_messages (session_id, message_data) VALUES (?, ?)",
                [(session.session_id, text) for text in texts],
            )
            connection.commit()


class DjangoSessionTests(ContractMixin, TestCase):
    def open_session(self, session_id: str, **options: Any) -> Session:
        return DjangoSession(session_id, **options)

    async def break_rows(self, session: Session, *texts: str) -> None:
        # Stored through the field: text goes in as it stands, and counters stay right.
        from agent_sessions.models import AgentSession, SessionItem

        row = await AgentSession.objects.aget(session_id=session.session_id)
        position = row.next_position
        for text in texts:
            await SessionItem.objects.acreate(session=row, position=position, data=text)
            position += 1
        row.next_position = position
        row.item_count += len(texts)
        await row.asave()

    async def test_items_that_are_no_objects_count_as_broken(self):
        # SQLiteSession would hand out the list, and the runner would fail on it.
        session = await self.filled("a")
        await self.break_rows(session, "[1]", '"text"', "null", "7", "NaN")
        assert texts(await session.get_items(1)) == ["a"]
        assert await session.pop_item() == user("a")

    async def test_numbers_that_are_no_json_are_refused(self):
        # SQLiteSession writes NaN, which no other JSON reader takes.
        session = await self.filled("a")
        for value in (float("nan"), float("inf"), -float("inf")):
            with self.assertRaises(ValueError):
                await session.add_items([{"role": "user", "content": value}])
        assert texts(await session.get_items()) == ["a"]

    async def test_a_cleared_session_keeps_its_row(self):
        # SQLiteSession forgets the session; ours has an owner, a title and metadata.
        from agent_sessions.models import AgentSession

        session = await DjangoSession.create_session(None, title="Order 42")
        await session.add_items([user("a")])
        await session.clear_session()
        row = await AgentSession.objects.aget(session_id=session.session_id)
        assert (row.title, row.item_count, row.preview) == ("Order 42", 0, "")
