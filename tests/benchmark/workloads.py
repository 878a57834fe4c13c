"""
What agents do with their sessions, a round at a time.

A workload seeds its sessions once, checks that the subject gives back what was seeded,
and before every round brings its sessions back to the same length.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterable
from typing import Any

from agents import Runner

from tests.benchmark.agent import AGENT
from tests.benchmark.items import answer, history, question
from tests.benchmark.subjects.subject import Session, Subject
from tests.fakes import RUN_CONFIG

# Seconds per operation, under the name of the row that reports it.
Figures = dict[str, float]


class Workload:
    name: str
    # The rows that it reports.
    rows: tuple[str, ...]
    # Whether its figures are read as operations per second.
    as_rate = False

    async def prepare(self, subject: Subject) -> None:
        """Seed the subject's sessions, and check what it gives back."""

    async def warm(self, subject: Subject) -> None:
        """Do once what is about to be measured, as in a process that is at work."""

    async def measure(self, subject: Subject) -> Figures:
        raise NotImplementedError

    async def restore(self, subject: Subject) -> None:
        """Undo what a round has changed."""


class Seeded(Workload):
    """A workload on sessions with ``length`` items of history."""

    def __init__(self, name: str, *, length: int, sessions: int) -> None:
        self.name = name
        self.rows = (name,)
        self.items = history(length)
        self.sessions = sessions

    def ids(self, subject: Subject) -> list[str]:
        return [f"{subject.key}-{self.name}-{nr}" for nr in range(self.sessions)]

    async def prepare(self, subject: Subject) -> None:
        for session_id in self.ids(subject):
            await subject.seed(session_id, self.items)
        for session_id in self.ids(subject):
            await self.check(subject, session_id)

    async def check(self, subject: Subject, session_id: str) -> None:
        found = await subject.session(session_id).get_items()
        assert len(found) == len(self.items), (subject.key, session_id, len(found))
        assert found[-1] == self.items[-1], (subject.key, session_id)

    async def warm(self, subject: Subject) -> None:
        await subject.session(self.ids(subject)[0]).get_items()

    async def restore(self, subject: Subject) -> None:
        await subject.trim(self.ids(subject), len(self.items))
        await self.check(subject, self.ids(subject)[-1])


class Turns(Seeded):
    """
    Turns: read the history, store the question, store the answer.

    ``lanes`` of them go on at once, each in its own sessions, one turn after the other.
    """

    def __init__(self, name: str, *, length: int, lanes: int = 1, turns: int) -> None:
        super().__init__(name, length=length, sessions=lanes * turns)
        self.lanes = lanes
        self.as_rate = lanes > 1

    async def warm(self, subject: Subject) -> None:
        await _together(
            subject.session(session_id).get_items()
            for session_id in self.ids(subject)[: self.lanes]
        )

    async def measure(self, subject: Subject) -> Figures:
        ids = self.ids(subject)
        lanes = [ids[lane :: self.lanes] for lane in range(self.lanes)]

        async def run(lane: list[str]) -> None:
            for session_id in lane:
                await self.turn(subject.session(session_id))

        start = time.perf_counter()
        await _together(run(lane) for lane in lanes)
        return {self.name: (time.perf_counter() - start) / len(ids)}

    async def turn(self, session: Session) -> None:
        await session.get_items()
        await session.add_items([question(1)])
        await session.add_items([answer(1)])


class Runs(Turns):
    """The SDK's Runner, with a model that answers at once and calls a tool first."""

    async def turn(self, session: Any) -> None:
        await Runner.run(AGENT, "Where is it?", session=session, run_config=RUN_CONFIG)


class RunCalls(Turns):
    """What such a run asks of its session, without the Runner's own work."""

    async def turn(self, session: Session) -> None:
        await session.get_items()
        await session.add_items([question(1)])
        await session.add_items(history(4)[1:3])
        await session.add_items([answer(1)])


class FirstWrite(Workload):
    """A new session: the Runner's read, which finds nothing, and the add."""

    def __init__(self, name: str, *, sessions: int) -> None:
        self.name = name
        self.rows = (name, f"{name}, the add alone")
        self.sessions = sessions
        self.ids: dict[str, list[str]] = {}

    async def prepare(self, subject: Subject) -> None:
        await self.restore(subject)
        session = subject.session(self.ids[subject.key].pop())
        assert await session.get_items() == []
        await session.add_items([question(1)])
        assert await session.get_items() == [question(1)]
        await self.restore(subject)

    async def warm(self, subject: Subject) -> None:
        await subject.session(self.ids[subject.key][0]).get_items()

    async def measure(self, subject: Subject) -> Figures:
        whole = alone = 0.0
        for session_id in self.ids[subject.key]:
            start = time.perf_counter()
            session = subject.session(session_id)
            await session.get_items()
            between = time.perf_counter()
            await session.add_items([question(1)])
            end = time.perf_counter()
            whole += end - start
            alone += end - between
        first, second = self.rows
        return {first: whole / self.sessions, second: alone / self.sessions}

    async def restore(self, subject: Subject) -> None:
        self.ids[subject.key] = await subject.new_ids(self.sessions)


class Pops(Seeded):
    """One pop from each session; they start longer and lose an item in every round."""

    def __init__(self, name: str, *, length: int, rounds: int, sessions: int) -> None:
        super().__init__(name, length=length + rounds + 1, sessions=sessions)
        self.left: dict[str, int] = {}

    async def measure(self, subject: Subject) -> Figures:
        start = time.perf_counter()
        for session_id in self.ids(subject):
            await subject.session(session_id).pop_item()
        return {self.name: (time.perf_counter() - start) / self.sessions}

    async def restore(self, subject: Subject) -> None:
        left = self.left.get(subject.key, len(self.items)) - 1
        self.left[subject.key] = left
        found = await subject.session(self.ids(subject)[-1]).get_items()
        assert found == self.items[:left], subject.key


class Tail(Seeded):
    """Read the last ``limit`` items of one long session."""

    def __init__(self, name: str, *, length: int, limit: int, reads: int) -> None:
        super().__init__(name, length=length, sessions=1)
        self.limit = limit
        self.reads = reads

    async def check(self, subject: Subject, session_id: str) -> None:
        found = await subject.session(session_id).get_items(self.limit)
        assert found == self.items[-self.limit :], subject.key

    async def warm(self, subject: Subject) -> None:
        await subject.session(self.ids(subject)[0]).get_items(self.limit)

    async def measure(self, subject: Subject) -> Figures:
        session_id = self.ids(subject)[0]
        start = time.perf_counter()
        for _ in range(self.reads):
            await subject.session(session_id).get_items(self.limit)
        return {self.name: (time.perf_counter() - start) / self.reads}

    async def restore(self, subject: Subject) -> None:
        pass  # nothing was changed


async def _together(work: Iterable[Awaitable[Any]]) -> None:
    first, *others = work
    if others:
        await asyncio.gather(first, *others)
    else:
        await first
