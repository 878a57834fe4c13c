"""Agents that run on one session, and take its turns back, all at once."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from typing import Any

from agents import Runner, function_tool

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

    Return how many runs ended, and how many were told that their turn was gone.
    """
    chance = random.Random(process)
    told = [0, 0]

    async def run(name: str, text: Any) -> None:
        calls = [f"{name} {random.random()}" for _ in range(2)]
        bot = agent(
            [call("look_up", call_id=calls[0])],
            [call("look_up", call_id=calls[1])],
            [say(name)],
        )
        bot.tools.append(function_tool(look_up))
        session = DjangoSession(session_id)
        try:
            await Runner.run(bot, text, session=session, run_config=RUN_CONFIG)
        except TurnGone:
            told[1] += 1
        else:
            told[0] += 1

    async def take_back() -> Any:
        session = DjangoSession(session_id)
        try:
            if chance.random() < 0.5:
                return await session.retry(keep=chance.random() < 0.3)
            turns = await session.get_turns(limit=3)
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
        ended, refused = (sum(column) for column in zip(*results, strict=True))
        # A run among so many has a fair chance to be interrupted.
        assert ended and refused, results
        row = AgentSession.objects.get(session_id="s")
        assert store.get_forks(row)
        turns: dict[int, list[str]] = defaultdict(list)
        answered: dict[int, list[Any]] = defaultdict(list)
        for item in row.items.in_order():
            turns[item.turn].append(item.type or item.role)
            answered[item.turn].append(item.data.get("call_id"))
        pair = ["function_call", "function_call_output"]
        for number, kinds in turns.items():
            assert kinds == ["user", *pair, *pair, "message"], (number, kinds)
            first, again, second, other = answered[number][1:5]
            assert (first, second) == (again, other)
        assert max(turns, default=0) < row.next_turn
        assert row.rewound_before <= row.next_turn
        assert list(store.check_sessions()) == []
        # More were begun than are there: what was taken back is gone.
        assert len(turns) < ended
