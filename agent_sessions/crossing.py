"""
From async code to the synchronous store, once a call, on the right thread.

A request, a sync view or a test has a thread of its own, whose connection and
transaction the call must share: asgiref knows it. A bare event loop (a worker, a
script) has none; there asgiref would put every session of the process on one thread and
one connection, so a few threads of ours serve it.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, Generic, Literal, TypeVar

from asgiref.sync import AsyncToSync, SyncToAsync, sync_to_async
from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from agent_sessions.conf import conf

T = TypeVar("T")

# A thread without work closes its connections and ends.
IDLE_SECONDS = 60.0
# A connection that was quiet for longer is checked before it is used.
CHECK_AFTER_SECONDS = 5.0
# A request's thread that is busy for longer may be waiting for this very call.
BUSY_SECONDS = 5.0


async def cross(work: Callable[[], T], *, using: str) -> T:
    """
    Return what ``work`` returns, run where it may talk to the database ``using``.

    A cancelled caller waits until the work is settled: it is either done, or will never
    begin. Then CancelledError goes on.
    """
    job = Job(work, using)
    thread = _whose_thread(job)
    if thread is None:
        _submit(job)
        try:
            await _answered(job)
        except asyncio.CancelledError as error:
            if job.answer.cancel():
                raise
            return await _settle(job, asyncio.wrap_future(job.answer), cancelled=error)
        return job.answer.result()
    # A task, because asgiref lets go of the work when its caller is cancelled.
    carrier = asyncio.ensure_future(_run_at_caller(job))
    patience = BUSY_SECONDS if thread == "request" else None
    return await _settle(job, carrier, patience)


def close_connections() -> None:
    """
    End this module's threads and close their database connections.

    For the end of a program or a test: a test database cannot be destroyed while
    somebody is connected to it. The next call starts new threads.
    """
    with _lock:
        pools = list(_pools.values())
        _pools.clear()
    for pool in pools:
        pool.close()


class Job(Generic[T]):
    """Work that is done once, by whichever thread comes to it first."""

    def __init__(self, work: Callable[[], T], using: str) -> None:
        self.answer: Future[T] = Future()
        self.using = using
        outer: Job[Any] | None = _running.get()
        # Work that makes such a call itself (a signal's receiver may) holds its thread
        # until that call is answered.
        self.depth: int = 0
        if outer is not None and not outer.answer.done():
            self.depth = outer.depth + 1
        self._work = work
        self._taken = threading.Lock()

    def begin(self) -> bool:
        """Return True to the first who asks, unless the caller was cancelled."""
        return (
            self._taken.acquire(blocking=False)
            and self.answer.set_running_or_notify_cancel()
        )

    def run(self, prepare: Callable[[], None] | None = None) -> Callable[[], None]:
        """Do the work and return how to tell the caller."""
        token = _running.set(self)
        try:
            if prepare is not None:
                prepare()
            return partial(self.answer.set_result, self._work())
        except BaseException as error:
            return partial(self.answer.set_exception, error)
        finally:
            _running.reset(token)


def _answered(job: Job[Any]) -> asyncio.Future[None]:
    # asyncio.wrap_future() and wait() would do, for a third of the whole hop's cost.
    loop = asyncio.get_running_loop()
    waiting: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not waiting.done():
            waiting.set_result(None)

    def tell(answer: Future[Any]) -> None:
        # The loop is closed if its program gave up waiting.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(wake)

    job.answer.add_done_callback(tell)
    return waiting


async def _settle(
    job: Job[T],
    waiting: asyncio.Future[Any],
    patience: float | None = None,
    cancelled: asyncio.CancelledError | None = None,
) -> T:
    while True:
        try:
            await asyncio.wait({waiting}, timeout=patience)
        except asyncio.CancelledError as error:
            if job.answer.cancel():
                waiting.cancel()
                raise
            cancelled = cancelled or error
            continue
        if waiting.done() and not waiting.cancelled():
            waiting.exception()  # the job's answer says the same
        if job.answer.done():
            break
        # asgiref has refused (the thread's own work has ended), has let go, or had no
        # thread for too long.
        if not job.answer.running():
            waiting.cancel()
            _submit(job)
        patience = None
        waiting = asyncio.wrap_future(job.answer)
    if cancelled is None:
        return job.answer.result()
    raise cancelled


def _whose_thread(job: Job[Any]) -> Literal["caller", "request"] | None:
    """
    Tell whose thread asgiref would use: that of a sync caller, or a request's.

    asgiref has no public question for this; these are the places where
    SyncToAsync.__call__() looks (3.9 to 3.13). If they move, asgiref decides alone.
    """
    try:
        loop = asyncio.get_running_loop()
        outer = getattr(SyncToAsync.threadlocal, "main_event_loop", None)
        if outer is not None and outer is not loop and outer.is_running():
            # asgiref runs sync code on this very thread, and that code started a loop
            # (Runner.run_sync): whoever waits for the thread waits for ever.
            return None
        if getattr(AsyncToSync.executors, "current", None) is not None:
            return "caller"
        if job.depth:
            return None
        context = SyncToAsync.thread_sensitive_context.get(None)
        if context is not None:
            # A task that outlives its request has the context, but no thread.
            threads = SyncToAsync.context_to_thread_executor
            return "request" if context in threads else None
        return "caller" if loop in AsyncToSync.loop_thread_executors else None
    except AttributeError:
        return "caller"


def _run(job: Job[Any]) -> None:
    if job.begin():
        job.run()()


_run_at_caller = sync_to_async(_run)


class ConnectionPool:
    """
    A few threads, each with its own database connections, kept while there is work.

    Not a ThreadPoolExecutor: its threads live as long as the process, and so would
    their connections.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[tuple[Job[Any], contextvars.Context] | None]
        self._jobs = queue.SimpleQueue()
        self._threads: set[threading.Thread] = set()
        self._serving = 0
        # Threads that wait for work, less the work that waits for threads.
        self._free = 0
        self._closed = False
        self._opened: dict[threading.Thread, list[BaseDatabaseWrapper]] = {}

    def submit(self, job: Job[Any]) -> bool:
        """Have the job done by some thread; False if the pool was closed."""
        context = contextvars.copy_context()
        with self._lock:
            if self._closed:
                return False
            if self._free <= 0 and self._serving < self._size:
                # A daemon, so that a forgotten pool does not keep the process alive;
                # at its end close_connections() waits for what was begun.
                thread = threading.Thread(
                    target=self._serve, name="agent_sessions", daemon=True
                )
                thread.start()
                self._threads.add(thread)
                self._serving += 1
                self._free += 1
            self._free -= 1
            self._jobs.put((job, context))
        return True

    def close(self) -> None:
        """Finish what was submitted, then end all threads with their connections."""
        with self._lock:
            self._closed = True
            threads = set(self._threads)
            for _ in threads:
                self._jobs.put(None)
        for thread in threads - {threading.current_thread()}:
            thread.join()

    def _serve(self) -> None:
        this = threading.current_thread()
        opened = _thread.opened = self._opened[this] = []
        last_used = time.monotonic()
        try:
            while (order := self._next()) is not None:
                job, context = order
                tell = None
                if job.begin():
                    quiet = time.monotonic() - last_used > CHECK_AFTER_SECONDS
                    prepare = _close_dead_connections if quiet else None
                    tell = context.run(job.run, prepare)
                    _release(opened)
                    last_used = time.monotonic()
                # Before the caller goes on: its next call finds this thread free.
                with self._lock:
                    self._free += 1
                if tell is not None:
                    tell()
                # They hold the result and the caller's context.
                del order, job, context, tell
        finally:
            for connection in opened:
                _close(connection)
            with self._lock:
                self._threads.discard(this)
                self._opened.pop(this, None)

    def _next(self) -> tuple[Job[Any], contextvars.Context] | None:
        while True:
            try:
                return self._jobs.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if self._jobs.empty():
                        self._serving -= 1
                        self._free -= 1
                        return None


def _remember(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    # Told by Django: to ask after every call would cost a tenth of the hop.
    opened = getattr(_thread, "opened", None)
    if opened is not None and connection not in opened:
        opened.append(connection)


def _close_dead_connections() -> None:
    for connection in _thread.opened:
        if connection.connection is not None and not connection.is_usable():
            _close(connection)


def _release(opened: list[BaseDatabaseWrapper]) -> None:
    for connection in opened:
        if connection.settings_dict.get("OPTIONS", {}).get("pool"):
            # Django's own pool (psycopg) is there to be shared with the requests.
            _close(connection)
        if connection.queries_logged:
            # With DEBUG Django keeps the statements; no request ends here to drop them.
            connection.queries_log.clear()


def _close(connection: BaseDatabaseWrapper) -> None:
    # Django lets go of the connection even if the driver finds it in no state to close.
    with suppress(Error):
        connection.close()


_running: contextvars.ContextVar[Job[Any] | None]
_running = contextvars.ContextVar("agent_sessions_running", default=None)
# The connections that a thread of ours has opened.
_thread = threading.local()
_lock = threading.Lock()
# Work at another depth than the first must not wait for the threads of the one before.
_pools: dict[tuple[str, int], ConnectionPool] = {}
_inherited: list[Any] = []


def _submit(job: Job[Any]) -> None:
    while not _pool(job.using, job.depth).submit(job):
        pass


def _pool(using: str, depth: int) -> ConnectionPool:
    with _lock:
        pool = _pools.get((using, depth))
        if pool is None:
            # SQLite has one writer at a time, and shares its file by waiting for it.
            sqlite = connections[using].vendor == "sqlite"
            size = 1 if sqlite else max(1, conf.AGENT_SESSIONS_THREADS)
            pool = _pools[using, depth] = ConnectionPool(size)
        return pool


def _forget_after_fork() -> None:
    # The threads stayed with the parent, and so must their connections: to collect them
    # here would close the parent's sockets.
    global _lock, _pools
    _inherited.append(_pools)
    _lock = threading.Lock()
    _pools = {}


connection_created.connect(_remember)
os.register_at_fork(after_in_child=_forget_after_fork)
atexit.register(close_connections)
