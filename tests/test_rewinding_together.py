"""Agents that run on one session, take its turns back and copy it, all at once."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from typing import Any

from agents import RunContextWrapper, Runner, function_tool

from agent_sessions import DjangoSession, store
from agent_sessions.exceptions import TurnGone
from agent_sessions.models import AgentSession
from tests.fakes import RUN_CONFIG, agent, call, say
from tests.test_concurrency import ConcurrencyTestCase

WRITERS = 4
ROUNDS = 6


def run_and_take_back(process: int, session_id: str) -> list[int]:
    """
    Let 4 agents run on one session and take turns back, their own and others'.

    Return how many runs ended, how many were told that their turn was gone, and how
    many requests they report.
    """
    chance = random.Random(process)
    told = [0, 0, 0]

    async def run(name: str, text: Any) -> None:
        calls = [f"{name} {random.random()}" for _ in range(2)]
        bot = agent(
            [call("look_up", call_id=calls[0])],
            [call("look_up", call_id=calls[1])],
            [say(name)],
        )
        bot.tools.append(function_tool(look_up))
        session = DjangoSession(session_id)
        context: Any = RunContextWrapper(None)
        options: Any = {"context": context, "run_config": RUN_CONFIG}
        try:
            await Runner.run(bot, text, session=session, **options)
        except TurnGone:
            told[1] += 1
        else:
            told[0] += 1
        told[2] += context.usage.requests

    async def take_back() -> Any:
        session = DjangoSession(session_id)
        try:
            if chance.random() < 0.5:
                return await session.retry(keep=chance.random() < 0.3)
            turns = await session.get_turns(limit=3)
            await session.fork(chance.choice([None, turns[-1].number]))
            await session.rewind(before_turn=chance.choice(turns).number)
        except (TurnGone, IndexError):
            pass
        return None

    async def write(writer: int) -> None:
        for number in range(ROUNDS):
            name = f"{process}/{writer}/{number}"
            await run(name, name)
            if chance.random() < 0.5 and (again := await take_back()):
                await run(name, again)

    async def main() -> None:
        await asyncio.gather(*map(write, range(WRITERS)))

    asyncio.run(main())
    return told


def look_up() -> str:
    return "found"


class TogetherTests(ConcurrencyTestCase):
    def test_turns_are_whole_or_gone(self):
        results = self.run_together(*((run_and_take_back, nr, "s") for nr in range(4)))
        ended, refused, spent = (sum(them) for them in zip(*results, strict=True))
        # A run among so many has a fair chance to be interrupted.
        assert ended and refused, results
        assert list(store.check_sessions()) == []
        row = AgentSession.objects.get(session_id="s")
        turns = self.whole_turns(row)
        # More were begun than are there: what was taken back is gone.
        assert len(turns) < ended
        assert set(turns.values()) <= {6}
        assert row.rewound_before <= row.next_turn
        # But it was paid for.
        used = store.get_usage_by_turn(row).values()
        assert sum(it.requests for it in used) == spent
        assert store.read_usage(row).requests == spent
        forks = store.get_forks(row)
        assert {fork.archived_at is None for fork in forks} == {True, False}
        for fork in forks:
            # Copied while others ran: what they had written by then.
            assert set(self.whole_turns(fork).values()) <= {1, 3, 5, 6}
            assert not store.read_usage(fork)

    def whole_turns(self, row: AgentSession) -> dict[int, int]:
        """Return how many items each turn has, which must be its first ones."""
        turns: dict[int, list[str]] = defaultdict(list)
        answered: dict[int, list[Any]] = defaultdict(list)
        for item in row.items.in_order():
            turns[item.turn].append(item.type or item.role)
            answered[item.turn].append(item.data.get("call_id"))
        pair = ["function_call", "function_call_output"]
        whole = ["user", *pair, *pair, "message"]
        for number, kinds in turns.items():
            assert kinds == whole[: len(kinds)], (number, kinds)
            assert answered[number][1:5:2] == answered[number][2:5:2]
        assert max(turns, default=0) < row.next_turn
        return {number: len(kinds) for number, kinds in turns.items()}
