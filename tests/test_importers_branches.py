"""What AdvancedSQLiteSession answers, and what the README says to write instead."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from agents.extensions.memory import AdvancedSQLiteSession
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth import get_user_model
from django.test import TestCase

from agent_sessions import DjangoSession, store
from agent_sessions.importers.opening import open_source
from agent_sessions.imports import import_sessions
from agent_sessions.models import AgentSession
from agent_sessions.outcomes import Kind
from agent_sessions.transcript.calls import tool_name
from agent_sessions.usage import TokenUsage
from tests.branched import (
    BRANCHES,
    NAME,
    PLAIN_TERMS,
    TERMS,
    PricedModel,
    ask_branches,
    talk,
    write_branches,
)
from tests.test_readme import BLOCKS

User = get_user_model()


class BranchesTests(TestCase):
    """Each test is a row, or some, of the README's table."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.path = Path(folder.name) / "source.db"
        async_to_sync(write_branches)(cls.path)
        cls.answers = async_to_sync(ask_branches)(cls.path)
        cls.readme: dict[str, Any] = {}
        (block,) = (it for it in BLOCKS if "def list_branches" in it)
        exec(block, cls.readme)
        super().setUpClass()

    @classmethod
    def setUpTestData(cls):
        cls.ann = User.objects.create(username="ann")
        with closing(open_source(str(cls.path))) as source:
            outcomes = list(import_sessions(source, map_user=lambda it: cls.ann))
        assert [it.kind for it in outcomes] == [Kind.IMPORTED] * 3
        assert [it.note for it in outcomes] == [""] * 3

    def branches(self):
        for branch in BRANCHES:
            session_id = NAME if branch == "main" else f"{NAME}~{branch}"
            session = DjangoSession(session_id, user=self.ann)
            yield self.answers[branch], session

    def test_the_store_is_as_large_as_it_was_meant_to_be(self):
        turns = {branch: self.answers[branch]["turns"] for branch in BRANCHES}
        assert [len(turns[branch]) for branch in BRANCHES] == [21, 23, 25]
        assert self.answers["usage"]["total_turns"] == 40

    async def test_get_items(self):
        for answer, session in self.branches():
            assert await session.get_items() == answer["items"]
            assert await session.get_items(5) == answer["newest"]

    async def test_get_conversation_turns(self):
        for answer, session in self.branches():
            turns = [it for it in await session.get_turns(limit=100) if it.number]
            assert [it.number for it in turns] == [it["turn"] for it in answer["turns"]]
            row = await AgentSession.objects.aget(session_id=session.session_id)
            for turn, expected in zip(turns, answer["turns"], strict=True):
                (message, *_) = await session.get_items(turn=turn.number)
                assert message["content"] == expected["full_content"]
                # Of what it shares the SDK's branch has the time of the copy.
                copied = datetime.fromisoformat(expected["timestamp"])
                said = max(turn.started_at, row.forked_at or turn.started_at)
                second = timedelta(seconds=1)
                assert abs(said - copied.replace(tzinfo=UTC)) <= second

    async def test_find_turns_by_content(self):
        for answer, session in self.branches():
            # Older SDKs look into the JSON, where other letters are escaped.
            terms = TERMS if answer["found"]["größe"] else PLAIN_TERMS
            for term in terms:
                expected = answer["found"][term]
                found = await session.find_turns(term, role="user", limit=100)
                assert [it.number for it in found] == [it["turn"] for it in expected]
            assert answer["found"]["order 7"] and not answer["found"]["sent"]

    async def test_get_conversation_by_turns(self):
        for answer, session in self.branches():
            found = {
                turn.number: [
                    {"type": kind(item), "tool_name": tool_name(item) or None}
                    for item in await session.get_items(turn=turn.number)
                ]
                for turn in await session.get_turns(limit=100)
            }
            assert found == {
                turn: [{**it, "tool_name": spell(it["tool_name"])} for it in items]
                for turn, items in answer["by_turns"].items()
            }

    async def test_get_tool_usage(self):
        for answer, session in self.branches():
            found = [
                (name, count, turn.number)
                for turn in await session.get_turns(limit=100)
                for name, count in turn.calls.items()
            ]
            expected = [(spell(name), *rest) for name, *rest in answer["tools"]]
            assert sorted(found) == sorted(expected)
            assert ("find_order", 2, 3) in found

    def test_list_branches(self):
        row = store.get_session(self.ann, NAME)
        branches = self.readme["list_branches"](row)
        # The SDK's order is by whole seconds, hence any order here.
        answers = {it["branch_id"]: it for it in self.answers["branches"]}
        assert [it.title for it in branches] == ["", "refund", "apology"]
        for branch in branches:
            answer = answers.pop(branch.title or "main")
            assert branch.item_count == answer["message_count"]
            assert branch.turn_count == answer["user_turns"]
            created_at = datetime.fromisoformat(answer["created_at"])
            away = branch.created_at - created_at.replace(tzinfo=UTC)
            assert abs(away) <= timedelta(seconds=1)
        assert answers == {}
        refund, apology = branches[1:]
        assert (refund.forked_from, apology.forked_from) == (row.pk, refund.pk)
        assert refund.forked_at == refund.created_at
        assert [it.user for it in branches] == [self.ann] * 3

    async def test_get_session_usage(self):
        for answer, session in self.branches():
            expected = answer["usage"]
            usage = await session.get_usage()
            assert totals(usage) == without(expected, "total_turns")
            used = await sync_to_async(store.get_usage_by_turn)(
                session.session_id, user=self.ann
            )
            assert len(used) == expected["total_turns"]
            turns = {turn.number for turn in await session.get_turns(limit=100)}
            assert set(used) <= turns

    def test_get_session_usage_of_all_branches(self):
        row = store.get_session(self.ann, NAME)
        usage = self.readme["read_usage_of_branches"](row)
        assert totals(usage) == without(self.answers["usage"], "total_turns")
        (day,) = {it.day for it in store.get_usage_by_day(self.ann)}
        assert abs(day - datetime.now(UTC).date()) <= timedelta(days=1)
        assert store.get_usage_by_day(self.ann)[0].usage == usage

    def test_get_turn_usage(self):
        for answer, session in self.branches():
            used = store.get_usage_by_turn(session.session_id, user=self.ann)
            assert [
                {"user_turn_number": turn, **totals(usage)}
                for turn, usage in used.items()
            ] == [
                without(it, "input_tokens_details", "output_tokens_details")
                for it in answer["turn_usage"]
            ]
            for it in answer["turn_usage"]:
                usage = used[it["user_turn_number"]]
                cached = it["input_tokens_details"]["cached_tokens"]
                reasoning = it["output_tokens_details"]["reasoning_tokens"]
                assert usage.cached_input_tokens == cached
                assert usage.reasoning_tokens == reasoning
            expected = answer["usage_of_12"]
            assert (12 in used) == bool(expected)
            if expected:
                assert used[12].total_tokens == expected["total_tokens"]

    async def test_branches_are_made_and_left_alike(self):
        path = self.path.with_name("changed.db")
        shutil.copyfile(self.path, path)
        theirs = AdvancedSQLiteSession(session_id=NAME, db_path=path)
        self.addCleanup(theirs.close)
        ours = await DjangoSession.get_session(self.ann, f"{NAME}~refund")
        await theirs.switch_to_branch("refund")
        assert await ours.get_items() == await theirs.get_items()

        await theirs.create_branch_from_turn(12, "again")
        fork = await ours.fork(12, title="again")
        assert await fork.get_items() == await theirs.get_items()
        assert not await fork.get_usage()
        for session in (theirs, fork):
            PricedModel.answers = 0
            await talk(session, "More", 3)
        assert await fork.get_items() == await theirs.get_items()
        assert totals(await fork.get_usage()) == without(
            await theirs.get_session_usage("again"), "total_turns"
        )
        for turn in await fork.get_turns(limit=3):
            answer = await theirs.get_turn_usage(turn.number)
            assert turn.usage.requests == answer["requests"]
            assert turn.usage.total_tokens == answer["total_tokens"]

        term = "refund of order 3"
        await theirs.switch_to_branch("refund")
        await theirs.create_branch_from_content(term)
        turns = await ours.find_turns(term, role="user", limit=100)
        fork = await ours.fork(turns[0].number)
        assert await fork.get_items() == await theirs.get_items()

        assert await fork.pop_item() == await theirs.pop_item()
        assert await fork.get_items() == await theirs.get_items()
        await theirs.clear_session()
        await fork.clear_session()
        assert await fork.get_items() == await theirs.get_items() == []

    def test_the_next_turn_is_one_that_was_never_there(self):
        for answer, session in self.branches():
            last = answer["turns"][-1]["turn"]
            rows = AgentSession.objects.filter(session_id=session.session_id)
            assert rows.get().next_turn == last + 1
        assert list(store.check_sessions()) == []


def kind(item):
    role = item.get("role")
    return role if role in ("user", "assistant") else item["type"]


def spell(name):
    """Tools of the provider go by their kind here."""
    return "web_search" if name == "web_search_call" else name


def totals(usage: TokenUsage) -> dict[str, int]:
    names = ("requests", "input_tokens", "output_tokens", "total_tokens")
    return {name: getattr(usage, name) for name in names}


def without(answer, *names):
    return {name: value for name, value in answer.items() if name not in names}
