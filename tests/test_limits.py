"""How much may be stored, and that nothing stays of what is refused."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest import mock

import pytest
from agents import Usage
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.test import TransactionTestCase, override_settings
from django.test.utils import CaptureQueriesContext

from agent_sessions import DjangoSession, store
from agent_sessions.conf import conf
from agent_sessions.exceptions import ItemTooLarge, SessionFull, TooManySessions
from agent_sessions.models import AgentSession, SessionItem
from agent_sessions.usage import TokenUsage
from tests.test_concurrency import ConcurrencyTestCase

User = get_user_model()


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


class LimitTests(TransactionTestCase):
    def setUp(self) -> None:
        self.alice = User.objects.create_user("alice")

    @override_settings(AGENT_SESSIONS_MAX_ITEM_BYTES=100)
    def test_an_item_has_no_more_bytes(self):
        size = len('{"role":"user","content":""}')
        store.append_items("s", [user("x" * (100 - size))])
        for text in ["x" * (101 - size), "é" * 50]:
            with pytest.raises(ItemTooLarge, match=r"items\[1\] takes 1\d\d bytes"):
                store.append_items("s", [user("a"), user(text)])
        assert len(store.read_items("s")) == 1

    @override_settings(AGENT_SESSIONS_MAX_ITEMS=3)
    def test_a_session_has_no_more_items(self):
        store.append_items("s", [user("a"), assistant("b")])
        for batch in ([user("c"), assistant("d")], [assistant("c"), user("d")]):
            with pytest.raises(SessionFull):
                store.append_items("s", batch, usage=TokenUsage(requests=1))
        store.append_items("s", [assistant("c")])
        for item in (user("d"), assistant("d")):
            with pytest.raises(SessionFull):
                store.append_items("s", [item])
        assert len(store.read_items("s")) == 3
        assert not store.read_usage("s")
        assert AgentSession.objects.get().item_count == 3
        store.pop_item("s")
        store.append_items("s", [user("d")])
        store.clear_session("s")
        store.append_items("s", [user("d")] * 3)

    @override_settings(AGENT_SESSIONS_MAX_ITEMS=3)
    def test_a_first_batch_is_no_longer_either(self):
        with pytest.raises(SessionFull):
            store.append_items("s", [user("a")] * 4)
        assert not AgentSession.objects.exists()

    @override_settings(AGENT_SESSIONS_MAX_ITEMS=2)
    def test_compaction_makes_room(self):
        store.append_items("s", [user("a"), assistant("b")])
        store.replace_items("s", [user("short")])
        store.append_items("s", [assistant("c")])
        assert len(store.read_items("s")) == 2

    @override_settings(AGENT_SESSIONS_MAX_SESSIONS=2)
    def test_a_user_has_no_more_sessions(self):
        store.append_items("one", [user("a")], user=self.alice)
        store.create_session(self.alice, session_id="two")
        with pytest.raises(TooManySessions):
            store.append_items("three", [user("a")], user=self.alice)
        with pytest.raises(TooManySessions):
            store.append_items("three", [assistant("a")], user=self.alice)
        with pytest.raises(TooManySessions):
            store.create_session(self.alice)
        with pytest.raises(TooManySessions):
            store.fork_session("one", user=self.alice)
        assert AgentSession.objects.count() == 2
        assert SessionItem.objects.count() == 1
        # Those that are there go on, and others have their own.
        store.append_items("one", [assistant("b")], user=self.alice)
        store.append_items("two", [user("b")], user=self.alice)
        store.append_items("bobs", [user("a")], user=User.objects.create_user("bob"))
        for name in ("v1", "v2", "v3"):
            store.append_items(name, [user("a")])
        store.rewind_session("two", before_turn=1, keep=True, user=self.alice)
        store.delete_sessions(store.iterate_keys(AgentSession.objects.all()))
        store.append_items("three", [user("a")], user=self.alice)

    @override_settings(AGENT_SESSIONS_MAX_SESSIONS=1, AGENT_SESSIONS_MAX_ITEMS=2)
    def test_limits_hold_in_the_callers_transaction(self):
        with transaction.atomic():
            store.append_items("one", [user("a"), user("b")], user=self.alice)
            with pytest.raises(SessionFull):
                store.append_items("one", [user("c")], user=self.alice)
            with pytest.raises(TooManySessions):
                store.append_items("two", [user("a")], user=self.alice)
        assert [row.session_id for row in AgentSession.objects.all()] == ["one"]
        assert SessionItem.objects.count() == 2

    def test_limits_cost_no_statement(self):
        def count(**limits: int) -> int:
            with override_settings(**limits):
                name = f"s{len(limits)}"
                store.append_items(name, [user("a")], user=self.alice)
                with CaptureQueriesContext(connection) as queries:
                    store.append_items(name, [assistant("b")], user=self.alice)
            return len(queries)

        limits = {
            "AGENT_SESSIONS_MAX_ITEM_BYTES": 1000,
            "AGENT_SESSIONS_MAX_ITEMS": 1000,
            "AGENT_SESSIONS_MAX_SESSIONS": 1000,
        }
        assert count(**limits) == count()
        if connection.vendor == "postgresql" and not conf.AGENT_SESSIONS_PORTABLE:
            assert count(**limits) == 1


class TogetherTests(ConcurrencyTestCase):
    def test_sixteen_writers_fill_a_session_and_no_more(self):
        results = self.run_together(*((fill, process, "s") for process in range(4)))
        row = AgentSession.objects.get()
        assert row.item_count == row.items.count() == row.next_position == 40
        assert sum(results) == 40
        # The tokens of what was refused are spent all the same.
        assert store.read_usage("s") == TokenUsage(requests=16 * 4)


def fill(process: int, session_id: str) -> int:
    """Let 4 writers store 4 items each in a session of 40; return how many it took."""

    async def write() -> int:
        session = DjangoSession(session_id)
        wrapper: Any = mock.Mock(usage=Usage())
        await session.get_items(wrapper=wrapper)
        taken = 0
        for _ in range(4):
            wrapper.usage.add(Usage(requests=1))
            try:
                await session.add_items([user("a")], wrapper=wrapper)
            except SessionFull:
                continue
            taken += 1
        return taken

    async def main() -> int:
        return sum(await asyncio.gather(*(write() for _ in range(4))))

    with override_settings(AGENT_SESSIONS_MAX_ITEMS=40):
        return asyncio.run(main())
