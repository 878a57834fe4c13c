"""
How a store call reaches the database: bounded waits, and no failure that a second try
can mend.

Django closes dead connections at the end of a request; an agent loop has no such end,
so without this a worker whose server restarted would fail for ever.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

from django.db import InterfaceError, InternalError, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import atomic

from agent_sessions.conf import conf
from agent_sessions.exceptions import SessionLockTimeout

T = TypeVar("T")

RETRY_SECONDS = 10.0

# PostgreSQL's SQLSTATE; MySQL's and MariaDB's error number.
_CONFLICTS = {"40001", "40P01", 1213, 1020}
_LOCK_TIMEOUTS = {"55P03", 1205}
# SQLITE_BUSY and SQLITE_LOCKED, the low byte of an extended code.
_SQLITE_LOCKED = {5, 6}

# A database that answered once and refuses now is restarting; one that never answered
# is misconfigured, and its error should show at once.
_reached: set[str] = set()


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
    nested = connection.in_atomic_block
    deadline = time.monotonic() + RETRY_SECONDS
    again = False
    for delay in _delays():
        attempt = Attempt(again=again)
        try:
            result = work(attempt)
        except (OperationalError, InterfaceError, InternalError) as error:
            late = nested or time.monotonic() + delay > deadline
            code = _error_code(error)
            if code in _LOCK_TIMEOUTS or (late and code in _SQLITE_LOCKED):
                raise SessionLockTimeout(
                    "Another transaction holds the session. If it is the caller's own, "
                    "call the agent through async_to_sync, which shares it."
                ) from None
            if nested:
                raise
            if code not in _CONFLICTS | _SQLITE_LOCKED:
                if not _is_lost(connection):
                    raise
                connection.close()
                if attempt.sealed or using not in _reached:
                    raise
                again = True
            if late:
                raise
        else:
            _reached.add(using)
            return result
        # Waits for the server or for another writer; nothing is held meanwhile.
        time.sleep(delay)
    raise AssertionError("unreachable")


@contextmanager
def write_transaction(using: str) -> Iterator[None]:
    """
    Open a transaction, or a savepoint in the caller's, whose lock waits are bounded.

    In the caller's transaction the waits are the caller's business.
    """
    connection = connections[using]
    bounded = not connection.in_atomic_block
    with atomic(using=using), _bounded_waits(connection, bounded):
        yield


def _bounded_waits(
    connection: BaseDatabaseWrapper, bounded: bool
) -> AbstractContextManager[Any]:
    if bounded and connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT set_config('lock_timeout', %s, true)",
                [f"{int(conf.AGENT_SESSIONS_LOCK_TIMEOUT * 1000)}ms"],
            )
    elif bounded and getattr(connection, "mysql_is_mariadb", False):
        return connection.execute_wrapper(_bound_mariadb_wait)
    # SQLite waits for OPTIONS["timeout"]. MySQL has no way to bound one statement.
    return nullcontext()


def _bound_mariadb_wait(
    execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
) -> Any:
    if sql.startswith(("INSERT", "UPDATE", "DELETE")):
        seconds = max(1, round(conf.AGENT_SESSIONS_LOCK_TIMEOUT))
        sql = f"SET STATEMENT innodb_lock_wait_timeout={seconds} FOR {sql}"
    return execute(sql, params, many, context)


def _delays() -> Iterator[float]:
    longest = 0.01
    while True:
        yield random.uniform(0, longest)
        longest = min(longest * 2, 0.5)


def _error_code(error: Exception) -> str | int | None:
    cause: Any = error.__cause__
    if getattr(cause, "sqlstate", None):
        return str(cause.sqlstate)
    if hasattr(cause, "sqlite_errorcode"):
        return int(cause.sqlite_errorcode) & 0xFF
    if cause is not None and cause.args and isinstance(cause.args[0], int):
        return cause.args[0]
    return None


def _is_lost(connection: BaseDatabaseWrapper) -> bool:
    return connection.connection is None or not connection.is_usable()
