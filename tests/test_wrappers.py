"""The SDK's own wrappers around DjangoSession: encryption and compaction."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

from agents import Runner
from agents.extensions.memory import EncryptedSession
from agents.memory import OpenAIResponsesCompactionSession
from cryptography.fernet import Fernet
from django.contrib.auth import get_user_model
from django.test import TestCase

from agent_sessions import DjangoSession
from agent_sessions.models import AgentSession, SessionItem
from tests.fakes import RUN_CONFIG, agent, say

User = get_user_model()
# Older ones clear the session and add the summary: nothing is left to be marked.
SDK_SOURCE = inspect.getsource(inspect.getmodule(OpenAIResponsesCompactionSession))
SDK_KEEPS_REPLACED_ASKED = "_atomic_replace_items" in SDK_SOURCE
SDK_KEEPS_REPLACED = "_get_compaction_snapshot" in SDK_SOURCE


def user(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": text}


class Client:
    """Answer responses.compact() with a summary, as the API does."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.responses = self
        self.output: list[Any] = [
            {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAA"}
        ]
        self.meanwhile: Any = None

    async def compact(self, **options: Any) -> Any:
        self.calls.append(options)
        if self.meanwhile is not None:
            await self.meanwhile()
        return SimpleNamespace(output=self.output, usage=None)


class EncryptedTests(TestCase):
    def setUp(self):
        self.key = Fernet.generate_key().decode()

    def wrap(self, **options: Any) -> EncryptedSession:
        session = DjangoSession("s", **options)
        return EncryptedSession("s", session, encryption_key=self.key)

    async def test_a_conversation_goes_on_and_the_database_sees_no_words(self):
        first = agent([say("Hello Ann")])
        await Runner.run(first, "I am Ann", session=self.wrap(), run_config=RUN_CONFIG)
        second = agent([say("Ann")])
        await Runner.run(second, "Who?", session=self.wrap(), run_config=RUN_CONFIG)
        assert len(second.model.inputs[0]) == 3
        rows = [row async for row in SessionItem.objects.in_order()]
        assert [set(row.data) for row in rows] == [
            {"__enc__", "v", "kid", "payload"}
        ] * 4
        assert {(row.type, row.role, row.turn) for row in rows} == {("", "", 0)}
        session = await AgentSession.objects.aget()
        assert (session.preview, session.item_count) == ("", 4)

    async def test_limits_and_pops_go_through(self):
        session = self.wrap(session_settings={"limit": 2})
        await session.add_items([user(word) for word in "abc"])
        assert [item["content"] for item in await session.get_items()] == ["b", "c"]
        assert (await session.pop_item())["content"] == "c"
        assert session.session_settings.limit == 2
        session.session_settings = None
        assert len(await session.get_items()) == 2
        await session.clear_session()
        assert await session.get_items() == []


class CompactionTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.alice = User.objects.create(username="alice")

    def setUp(self):
        self.client_ = Client()

    def wrap(self, session: Any, **options: Any) -> OpenAIResponsesCompactionSession:
        return OpenAIResponsesCompactionSession(
            "s", session, client=self.client_, compaction_mode="input", **options
        )

    def session(self) -> DjangoSession:
        return DjangoSession("s", user=self.alice)

    async def test_compaction_replaces_history_and_keeps_the_session(self):
        inner = await DjangoSession.create_session(
            self.alice, session_id="s", title="Order 42", metadata={"a": 1}
        )
        session = self.wrap(inner)
        await session.add_items([user("a"), assistant("b"), user("c"), assistant("d")])
        await session.run_compaction({"force": True})
        assert await self.session().get_items() == self.client_.output
        row = await AgentSession.objects.aget()
        assert (row.title, row.metadata, row.user_id) == (
            "Order 42",
            {"a": 1},
            self.alice.pk,
        )
        assert (row.item_count, row.turn_count) == (1, 0)
        # What was said is still there for people, behind the summary.
        replaced = SessionItem.objects.replaced().in_order()
        kept = [item.data["content"] async for item in replaced]
        assert kept == (list("abcd") if SDK_KEEPS_REPLACED_ASKED else [])
        positions = SessionItem.objects.in_order().values_list("position", flat=True)
        kept = [position async for position in positions]
        assert kept == ([0, 1, 2, 3, 4] if SDK_KEEPS_REPLACED_ASKED else [4])

    async def test_a_run_after_compaction_goes_on_from_the_summary(self):
        session = self.wrap(self.session())
        await session.add_items([user("a"), assistant("b")])
        await session.run_compaction({"force": True})
        asked = agent([say("fine")])
        await Runner.run(
            asked,
            "more",
            session=self.session(),
            run_config=RUN_CONFIG,
        )
        kinds = [item.get("type") for item in asked.model.inputs[0]]
        assert kinds[0] == "compaction"
        assert len(await self.session().get_items()) == 3

    async def test_a_run_compacts_by_itself_what_it_has_seen(self):
        inner = self.session()
        await inner.add_items([user("old"), assistant("answer")])
        session = self.wrap(inner, should_trigger_compaction=lambda context: True)
        await Runner.run(
            agent([say("done")]), "new", session=session, run_config=RUN_CONFIG
        )
        assert len(self.client_.calls) == 1
        assert await self.session().get_items() == self.client_.output
        replaced = SessionItem.objects.replaced().in_order()
        roles = ["user", "assistant", "user", "assistant"]
        kept = [item.role async for item in replaced]
        assert kept == (roles if SDK_KEEPS_REPLACED else [])

    async def test_encrypted_compaction_goes_through_both_wrappers(self):
        key = Fernet.generate_key().decode()
        session = EncryptedSession("s", self.wrap(self.session()), encryption_key=key)
        await session.add_items([user("a"), assistant("b")])
        await session.run_compaction({"force": True})
        assert await session.get_items() == self.client_.output

    async def test_a_snapshot_replaces_a_suffix_and_keeps_the_prefix(self):
        session = self.session()
        await session.add_items([user("a"), assistant("b"), user("c"), assistant("d")])
        snapshot = await session._get_compaction_snapshot(3)
        assert [item["content"] for item in snapshot.items] == ["b", "c", "d"]
        assert snapshot.complete is False
        assert await snapshot.replace_suffix(1, [assistant("summary")]) is True
        items = await session.get_items()
        assert [item["content"] for item in items] == ["a", "b", "summary"]
        row = await AgentSession.objects.aget()
        assert (row.item_count, row.turn_count) == (3, 1)

    async def test_a_snapshot_of_everything_is_complete(self):
        session = self.session()
        await session.add_items([user("a"), assistant("b")])
        assert (await session._get_compaction_snapshot(2)).complete is True
        assert (await session._get_compaction_snapshot(1)).complete is False
        empty = await DjangoSession("empty")._get_compaction_snapshot(5)
        assert (empty.items, empty.complete) == ([], True)
        assert await empty.replace_suffix(0, [user("x")]) is False

    async def test_a_snapshot_of_nothing_is_empty(self):
        session = self.session()
        await session.add_items([user("a")])
        assert (await session._get_compaction_snapshot(0)).items == []

    async def test_a_suffix_that_changed_meanwhile_is_not_replaced(self):
        for change in (
            lambda s: s.add_items([user("new")]),
            lambda s: s.pop_item(),
            lambda s: s.clear_session(),
        ):
            session = DjangoSession(f"changed {change.__code__.co_names}")
            await session.add_items([user("a"), assistant("b")])
            snapshot = await session._get_compaction_snapshot(5)
            await change(session)
            before = await session.get_items()
            assert await snapshot.replace_suffix(0, [assistant("summary")]) is False
            assert await session.get_items() == before

    async def test_expired_items_before_the_suffix_are_deleted(self):
        session = self.session()
        await session.add_items([user(word) for word in "abcd"])

        def expired(item: Any) -> bool:
            return item["content"] in "ab"

        snapshot = await session._get_compaction_snapshot(1, prune_prefix=expired)
        assert await snapshot.replace_suffix(0, [assistant("summary")])
        items = await session.get_items()
        assert [item["content"] for item in items] == ["c", "summary"]
        assert await SessionItem.objects.acount() == 3

    async def test_a_broken_row_rules_out_a_snapshot(self):
        session = self.session()
        await session.add_items([user("a"), assistant("b")])
        await SessionItem.objects.filter(position=0).aupdate(data="{broken")
        assert await session._get_compaction_snapshot(5) is None

    async def test_a_bad_summary_leaves_everything_as_it_was(self):
        session = self.session()
        await session.add_items([user("a"), assistant("b")])
        snapshot = await session._get_compaction_snapshot(5)
        with self.assertRaises(TypeError):
            await snapshot.replace_suffix(0, [{"content": b"x"}])
        with self.assertRaises(TypeError):
            await session._atomic_replace_items([{"content": b"x"}])
        assert len(await session.get_items()) == 2
        assert not await SessionItem.objects.replaced().aexists()

    async def test_a_subclass_that_transforms_items_is_not_gone_around(self):
        class Shouting(DjangoSession):
            async def get_items(self, limit: int | None = None) -> Any:
                items = await super().get_items(limit)
                return [{**item, "content": item["content"].upper()} for item in items]

        session = Shouting("s")
        await session.add_items([user("a"), assistant("b")])
        assert await session._get_compaction_snapshot(5) is None
        assert await session._atomic_replace_items([user("x")]) is False
        await self.wrap(session).run_compaction({"force": True})
        assert len(await DjangoSession("s").get_items()) == 1
