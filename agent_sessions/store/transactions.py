"""
How a store call reaches the database: bounded waits, and no failure that a second try
can mend.

Django closes dead connections at the end of a request; an agent loop has no such end,
so without this a worker whose server restarted would fail for ever.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from django.db import (
    InterfaceError,
    InternalError,
    OperationalError,
    connections,
    transaction,
)
from django.db.backends.base.base import BaseDatabaseWrapper

from agent_sessions.conf import conf
from agent_sessions.exceptions import SessionLockTimeout

T = TypeVar("T")

RETRY_SECONDS = 10.0

# PostgreSQL's SQLSTATE; MySQL's and MariaDB's error number.
_CONFLICTS = {"40001", "40P01", 1213, 1020}
_LOCK_TIMEOUTS = {"55P03", 1205}
# PostgreSQL ended an idle connection: by an administrator, by idle_session_timeout. The
# statement that learns of it was not begun, or was rolled back.
_NOT_BEGUN = {"57P01", "57P05"}
# SQLITE_BUSY and SQLITE_LOCKED, the low byte of an extended code.
_SQLITE_BUSY = 5
_SQLITE_LOCKED = {_SQLITE_BUSY, 6}

# A database that answered once and refuses now is restarting; one that never answered
# is misconfigured, and its error should show at once.
_reached: set[str] = set()

_sqlite_turns: dict[str, threading.Lock] = {}
# A thread of the parent that holds one has no twin in the child.
os.register_at_fork(after_in_child=_sqlite_turns.clear)


class ThreadsBusy(OperationalError):
    """SQLite would be locked, by other threads of the process."""


@dataclass(slots=True)
class Attempt:
    """
    One try of a store call.

    ``again`` says that an earlier try may have been committed before its answer was
    lost. A call that must not happen twice sets ``sealed`` before its commit: a
    connection lost from there on is an error.
    """

    again: bool = False
    sealed: bool = False


def perform(using: str, work: Callable[[Attempt], T]) -> T:
    """
    Return ``work``'s result, tried again after deadlocks and lost connections.

    For up to 10 s, and only outside the caller's transaction: inside, nothing is tried
    again and nothing is closed. Raise SessionLockTimeout when a lock was not to be had.
    """
    connection = connections[using]
    nested = in_transaction(connection)
    start = time.monotonic()
    again = False
    longest = 0.01
    while True:
        attempt = Attempt(again=again)
        if connection.connection is not None:
            _reached.add(using)
        opened = None
        try:
            if not nested:
                connection.ensure_connection()
            opened = connection.connection
            result = work(attempt)
        except (OperationalError, InterfaceError, InternalError) as error:
            delay = random.uniform(0, longest)
            longest = min(longest * 2, 0.5)
            waited = time.monotonic() + delay - start
            code = error_code(error)
            if code in _LOCK_TIMEOUTS or (
                code in _SQLITE_LOCKED and (nested or waited > _sqlite_patience())
            ):
                raise SessionLockTimeout(
                    "Another transaction holds the session. If it is the caller's own, "
                    "call the agent through async_to_sync, which shares it."
                ) from None
            if nested:
                raise
            if code not in _CONFLICTS | _SQLITE_LOCKED:
                if not _is_lost(connection, opened):
                    raise
                connection.close()
                sealed = attempt.sealed and code not in _NOT_BEGUN
                if sealed or using not in _reached:
                    raise
                again = True
            if waited > RETRY_SECONDS:
                raise
        else:
            _reached.add(using)
            return result
        # Waits for the server or for another writer; nothing is held meanwhile.
        time.sleep(delay)


@contextmanager
def write_transaction(using: str) -> Iterator[None]:
    """
    Open a transaction, or a savepoint in the caller's, whose lock waits are bounded.

    In the caller's transaction the waits are the caller's business.
    """
    connection = connections[using]
    atomic = transaction.atomic(using=using)
    if in_transaction(connection):
        with atomic:
            yield
    elif connection.vendor == "sqlite":
        with _bounded_sqlite_wait(connection), atomic:
            yield
    elif getattr(connection, "mysql_is_mariadb", False):
        with atomic, connection.execute_wrapper(_bound_mariadb_wait):
            yield
    else:
        with atomic:
            # MySQL has no way to bound one statement.
            if connection.vendor == "postgresql":
                with connection.cursor() as cursor:
                    cursor.execute(
                        "SELECT set_config('lock_timeout', %s, true)",
                        [f"{lock_milliseconds()}ms"],
                    )
            yield


def in_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether the caller has a transaction open."""
    # A caller may also have turned autocommit off and commit by itself.
    return connection.in_atomic_block or (
        connection.connection is not None and not connection.autocommit
    )


def _sqlite_patience() -> float:
    # SQLite does not give out its lock in turn: who waited in vain waits once more.
    return min(RETRY_SECONDS, 2 * conf.AGENT_SESSIONS_LOCK_TIMEOUT)


def after_commit(function: Callable[[], Any], *, using: str) -> None:
    """Call ``function`` once the transaction is committed, at once if there is none."""
    connection = connections[using]
    if connection.in_atomic_block or connection.get_autocommit():
        transaction.on_commit(function, using=using)
    # A caller who turned autocommit off commits where Django does not see it.


def lock_milliseconds() -> int:
    """Return AGENT_SESSIONS_LOCK_TIMEOUT in whole milliseconds, at least one."""
    # PostgreSQL takes 0 for no limit at all.
    return max(1, round(conf.AGENT_SESSIONS_LOCK_TIMEOUT * 1000))


@contextmanager
def _bounded_sqlite_wait(connection: BaseDatabaseWrapper) -> Iterator[None]:
    connection.ensure_connection()
    milliseconds = lock_milliseconds()
    turn = _sqlite_turns.setdefault(
        str(connection.settings_dict["NAME"]), threading.Lock()
    )
    # SQLite asks again and again for its lock, and who asks last may be first. Among
    # the threads of a process turns are fair.
    if not turn.acquire(timeout=milliseconds / 1000):
        raise ThreadsBusy("Other threads of the process write to the database.")
    try:
        # Not through a cursor of Django's: no statement for logs and query counts.
        opened = connection.connection
        (before,) = opened.execute("PRAGMA busy_timeout").fetchone()
        if before != milliseconds:
            opened.execute(f"PRAGMA busy_timeout = {milliseconds}")
        try:
            yield
        finally:
            if before != milliseconds and connection.connection is opened:
                opened.execute(f"PRAGMA busy_timeout = {before}")
    finally:
        turn.release()


def _bound_mariadb_wait(
    execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
) -> Any:
    if sql.startswith(("INSERT", "UPDATE", "DELETE")) or sql.endswith("FOR UPDATE"):
        seconds = max(1, round(conf.AGENT_SESSIONS_LOCK_TIMEOUT))
        sql = f"SET STATEMENT innodb_lock_wait_timeout={seconds} FOR {sql}"
    return execute(sql, params, many, context)


def error_code(error: Exception) -> str | int | None:
    """Return the SQLSTATE of PostgreSQL, or the error number of the others."""
    if isinstance(error, ThreadsBusy):
        return _SQLITE_BUSY
    cause: Any = error.__cause__
    # psycopg and psycopg2.
    if state := getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None):
        return str(state)
    if hasattr(cause, "sqlite_errorcode"):
        return int(cause.sqlite_errorcode) & 0xFF
    if cause is not None and cause.args and isinstance(cause.args[0], int):
        return cause.args[0]
    return None


def _is_lost(connection: BaseDatabaseWrapper, opened: Any) -> bool:
    # Django itself may have put another in its place, on leaving the atomic block.
    if opened is None or connection.connection is not opened:
        return True
    return not connection.is_usable()
