"""
From async code to the synchronous store, once a call, on the right thread.

A request, a sync view or a test has a thread of its own, whose connection and
transaction the call must share: asgiref knows it. A bare event loop (a worker, a
script) has none; there asgiref would put every session of the process on one thread and
one connection, so a few threads of ours serve it.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import queue
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from asgiref.sync import AsyncToSync, SyncToAsync, sync_to_async
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from agent_sessions.conf import conf

T = TypeVar("T")

# A thread without work closes its connections and ends.
IDLE_SECONDS = 60.0
# A connection that was quiet for longer is checked before it is used.
CHECK_AFTER_SECONDS = 5.0


async def cross(work: Callable[[], T], *, using: str) -> T:
    """
    Return what ``work`` returns, run where it may talk to the database ``using``.

    A cancelled caller waits until the work is settled: it is either done, or was never
    begun. Then CancelledError goes on.
    """
    if _has_thread_of_its_own():
        return await _settle(asyncio.ensure_future(sync_to_async(work)()))
    future = None
    while future is None:
        future = _pool(using).submit(work)
    return await _settle(asyncio.wrap_future(future), future)


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


async def _settle(done: Awaitable[T], begun: Future[T] | None = None) -> T:
    waiting = asyncio.ensure_future(done)
    cancelled: asyncio.CancelledError | None = None
    while not waiting.done():
        try:
            await asyncio.wait({waiting})
        except asyncio.CancelledError as error:
            if begun is not None and begun.cancel():
                raise
            cancelled = cancelled or error
    if cancelled is None:
        return waiting.result()
    if not waiting.cancelled():
        waiting.exception()  # the caller gets the cancellation, not this
    raise cancelled


def _has_thread_of_its_own() -> bool:
    """
    Tell whether asgiref would find a thread that belongs to the caller.

    asgiref has no public question for this; these are the places where
    SyncToAsync.__call__() looks (3.9 to 3.13). If they move, asgiref decides alone.
    """
    try:
        loop = asyncio.get_running_loop()
        outer = getattr(SyncToAsync.threadlocal, "main_event_loop", None)
        if outer is not None and outer is not loop and outer.is_running():
            # asgiref runs sync code on this very thread, and that code started a loop
            # (Runner.run_sync): whoever waits for the thread waits for ever.
            return False
        if getattr(AsyncToSync.executors, "current", None) is not None:
            return True
        context = SyncToAsync.thread_sensitive_context.get(None)
        if context is not None and getattr(context, "token", None) is not None:
            return not getattr(context, "_exited", False)
        return loop in AsyncToSync.loop_thread_executors
    except AttributeError:
        return True


class ConnectionPool:
    """
    A few threads, each with its own database connections, kept while there is work.

    Not a ThreadPoolExecutor: its threads live as long as the process, and so would
    their connections.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads: set[threading.Thread] = set()
        # How many threads wait for work; it may be too low, never too high.
        self._idle = 0
        self._closed = False

    def submit(self, work: Callable[[], T]) -> Future[T] | None:
        """Have ``work`` done by some thread; None if the pool was closed."""
        future: Future[T] = Future()
        context = contextvars.copy_context()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = context.run(work)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        with self._lock:
            if self._closed:
                return None
            self._jobs.put(job)
            if self._idle:
                self._idle -= 1
            elif len(self._threads) < self._size:
                # A daemon, so that a forgotten pool does not keep the process alive;
                # whoever awaits a write keeps its loop, and with it the process.
                thread = threading.Thread(
                    target=self._serve, name="agent_sessions", daemon=True
                )
                self._threads.add(thread)
                thread.start()
        return future

    def close(self) -> None:
        """Finish what was submitted, then end all threads with their connections."""
        with self._lock:
            self._closed = True
            threads = set(self._threads)
            for _ in threads:
                self._jobs.put(None)
        for thread in threads:
            thread.join()

    def _serve(self) -> None:
        last_used = time.monotonic()
        try:
            while (job := self._next()) is not None:
                if time.monotonic() - last_used > CHECK_AFTER_SECONDS:
                    _close_dead_connections()
                job()
                # The job holds its result and its caller's context.
                del job
                _release_pooled_connections()
                last_used = time.monotonic()
        finally:
            connections.close_all()
            with self._lock:
                self._threads.discard(threading.current_thread())

    def _next(self) -> Callable[[], None] | None:
        try:
            return self._jobs.get_nowait()
        except queue.Empty:
            pass
        with self._lock:
            self._idle += 1
        while True:
            try:
                return self._jobs.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if self._jobs.empty():
                        self._idle = max(0, self._idle - 1)
                        self._threads.discard(threading.current_thread())
                        return None


def _close_dead_connections() -> None:
    for connection in connections.all(initialized_only=True):
        if connection.connection is not None and not connection.is_usable():
            connection.close()


def _release_pooled_connections() -> None:
    for connection in connections.all(initialized_only=True):
        if _is_pooled(connection):
            # Django's own pool (psycopg) is there to be shared with the requests.
            connection.close()
        if connection.queries_logged:
            # With DEBUG Django keeps the statements; no request ends here to drop them.
            connection.queries_log.clear()


def _is_pooled(connection: BaseDatabaseWrapper) -> bool:
    return bool(connection.settings_dict.get("OPTIONS", {}).get("pool"))


_lock = threading.Lock()
_pools: dict[str, ConnectionPool] = {}
_inherited: list[Any] = []


def _pool(using: str) -> ConnectionPool:
    with _lock:
        pool = _pools.get(using)
        if pool is None:
            # SQLite has one writer at a time, and shares its file by waiting for it.
            sqlite = connections[using].vendor == "sqlite"
            pool = ConnectionPool(1 if sqlite else conf.AGENT_SESSIONS_THREADS)
            _pools[using] = pool
        return pool


def _forget_after_fork() -> None:
    # The threads stayed with the parent, and so must their connections: to collect them
    # here would close the parent's sockets.
    global _lock, _pools
    _inherited.append(_pools)
    _lock = threading.Lock()
    _pools = {}


os.register_at_fork(after_in_child=_forget_after_fork)
