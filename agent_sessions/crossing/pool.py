"""The threads that serve event loops of their own, each with its own connections."""

from __future__ import annotations

import atexit
import contextvars
import os
import queue
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any, TypeAlias

from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from agent_sessions.conf import conf
from agent_sessions.crossing.jobs import Job

# A thread without work closes its connections and ends.
IDLE_SECONDS = 60.0
# A connection that was quiet for longer is checked before it is used.
CHECK_AFTER_SECONDS = 5.0


def submit(job: Job[Any]) -> None:
    """Have the job done by a thread of ours."""
    while not _pool(job.using, job.depth).submit(job):
        pass


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


Order: TypeAlias = tuple[Job[Any], contextvars.Context]
# What a thread is to do next; None ends it.
Inbox: TypeAlias = queue.SimpleQueue[Order | None]


class ConnectionPool:
    """
    A few threads, each with its own database connections, kept while there is work.

    The thread that worked last works next: its connection and the server's process
    behind that are warm, and after a burst the others can end. Not a
    ThreadPoolExecutor, whose threads live as long as the process, and so would their
    connections.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        # Work that no thread has time for; nobody is idle then.
        self._orders: deque[Order] = deque()
        # Of the threads that take work, and of those among them that wait for some. A
        # signal's handler may raise between any two steps here: a thread that is in
        # neither place that it should be in ends, like one that is idle for long.
        self._serving: set[Inbox] = set()
        self._idle: list[Inbox] = []
        self._threads: set[threading.Thread] = set()
        self._closed = False
        self._opened: dict[threading.Thread, list[BaseDatabaseWrapper]] = {}

    def submit(self, job: Job[Any]) -> bool:
        """Have the job done by some thread; False if the pool was closed."""
        order = job, contextvars.copy_context()
        with self._lock:
            if self._closed:
                return False
            if self._idle:
                self._idle.pop().put(order)
            elif len(self._serving) < self._size:
                self._start().put(order)
            else:
                self._orders.append(order)
        return True

    def close(self) -> None:
        """Finish what was submitted, then end all threads with their connections."""
        with self._lock:
            self._closed = True
            threads = set(self._threads)
            for inbox in self._serving:
                inbox.put(None)
        for thread in threads - {threading.current_thread()}:
            thread.join()

    def _start(self) -> Inbox:
        inbox: Inbox = queue.SimpleQueue()
        # A daemon, so that a forgotten pool does not keep the process alive; at its end
        # close_connections() waits for what was begun.
        thread = threading.Thread(
            target=self._serve, args=[inbox], name="agent_sessions", daemon=True
        )
        thread.start()
        self._threads.add(thread)
        self._serving.add(inbox)
        return inbox

    def _serve(self, inbox: Inbox) -> None:
        this = threading.current_thread()
        opened = _thread.opened = self._opened[this] = []
        last_used = time.monotonic()
        with self._lock:
            # Also if who started it was interrupted before it could say so.
            self._threads.add(this)
            self._serving.add(inbox)
            if self._closed:
                inbox.put(None)
        try:
            while (order := self._next(inbox)) is not None:
                job, context = order
                begun = job.begin()
                if begun:
                    quiet = time.monotonic() - last_used > CHECK_AFTER_SECONDS
                    prepare = _close_dead_connections if quiet else None
                    context.run(job.run, prepare)
                    _release(opened)
                    last_used = time.monotonic()
                # Before the caller goes on: its next call finds this thread idle.
                self._go_on(inbox)
                if begun:
                    job.tell()
                # They hold the result and the caller's context.
                del order, job, context
        finally:
            with self._lock:
                self._leave(inbox)
            for connection in opened:
                _close(connection)
            with self._lock:
                self._threads.discard(this)
                self._opened.pop(this, None)

    def _go_on(self, inbox: Inbox) -> None:
        with self._lock:
            if self._closed:
                return  # the end is in the inbox already
            if self._orders:
                inbox.put(self._orders.popleft())
            else:
                self._idle.append(inbox)

    def _next(self, inbox: Inbox) -> Order | None:
        while True:
            with suppress(queue.Empty):
                if (order := inbox.get(timeout=IDLE_SECONDS)) is not None:
                    return order
            with self._lock:
                if not inbox.empty():
                    continue  # it has just been put there
                if not self._orders:
                    self._leave(inbox)
                    return None
                if self._closed:
                    inbox.put(None)
                return self._orders.popleft()

    def _leave(self, inbox: Inbox) -> None:
        self._serving.discard(inbox)
        if inbox in self._idle:
            self._idle.remove(inbox)


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


# The connections that a thread of ours has opened.
_thread = threading.local()
_lock = threading.Lock()
# Work at another depth than the first must not wait for the threads of the one before.
_pools: dict[tuple[str, int], ConnectionPool] = {}
_inherited: list[Any] = []


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
