"""
Work that a thread does for a caller in an event loop.

Not the standard library's futures: each of those wakes the loop by itself, and while a
thread is at it the loop's own thread already waits for the interpreter. With sixteen
calls at once a hop takes a fifth less this way.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar
from weakref import WeakValueDictionary

T = TypeVar("T")


class Job(Generic[T]):
    """Work that is done once, by whichever thread comes to it first."""

    def __init__(self, work: Callable[[], T], using: str) -> None:
        self.using = using
        # Whether tell() was called.
        self.done = False
        outer: Job[Any] | None = _running.get()
        # Work that makes such a call itself (a signal's receiver may) holds its thread
        # until that call is answered.
        self.depth: int = 0
        if outer is not None and not outer.done:
            self.depth = outer.depth + 1
        self._work = work
        self._result: T
        self._error: BaseException | None = None
        self._begun = threading.Lock()
        self._waiting: asyncio.Future[None] | None = None
        loop = asyncio.get_running_loop()
        # The loop's own thread alone comes here: no two make one.
        completions = _completions.get(id(loop))
        if completions is None:
            completions = _completions[id(loop)] = Completions(loop)
        self._completions = completions

    @property
    def begun(self) -> bool:
        """Whether somebody has asked to begin()."""
        return self._begun.locked()

    def begin(self) -> bool:
        """
        Return True to the first who asks.

        A caller who gives up asks as well: then nobody else will begin.
        """
        return self._begun.acquire(blocking=False)

    def run(self, prepare: Callable[[], None] | None = None) -> None:
        """Do the work; tell() is to follow."""
        token = _running.set(self)
        try:
            if prepare is not None:
                prepare()
            self._result = self._work()
        except BaseException as error:
            self._error = error
        finally:
            _running.reset(token)

    def tell(self) -> None:
        """Let the caller go on, from whatever thread."""
        self.done = True
        self._completions.add(self)

    def wait(self) -> asyncio.Future[None]:
        """Return what is done when the job is; one at a time."""
        self._waiting = self._completions.loop.create_future()
        if self.done:
            self._waiting.set_result(None)
        return self._waiting

    def wake(self) -> None:
        """End the wait, in the thread of the loop."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def result(self) -> T:
        """Return, once, what the work returned; or raise what it raised."""
        error, self._error = self._error, None
        if error is None:
            return self._result
        try:
            raise error
        finally:
            # An error that its own traceback holds on to waits for the collector.
            del error


class Completions:
    """
    The jobs of one event loop that are done and that it does not know of yet.

    Jobs hold on to it, and nothing else does, so that a loop that ends or is forgotten
    before it looks can go with all that was done for it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._jobs: deque[Job[Any]] = deque()
        self._called = False

    def add(self, job: Job[Any]) -> None:
        """Have the job's caller woken; call the loop if that has not been done."""
        # In this order, against drain()'s: a job that finds the loop called is seen.
        self._jobs.append(job)
        if self._called:
            return
        self._called = True
        try:
            self.loop.call_soon_threadsafe(self.drain)
        except BaseException:
            self._called = False
            # A closed loop's program gave up waiting.
            if not self.loop.is_closed():
                raise

    def drain(self) -> None:
        """Wake all who wait, in the thread of the loop."""
        self._called = False
        while self._jobs:
            self._jobs.popleft().wake()


# The job whose work is being done.
_running: contextvars.ContextVar[Job[Any] | None]
_running = contextvars.ContextVar("agent_sessions_running", default=None)
# By the id of the loop, which no other has while it is there.
_completions: WeakValueDictionary[int, Completions] = WeakValueDictionary()
