"""
Plan a statement once a connection, not once a call.

Planning takes PostgreSQL longer than running does for statements as short as the hot
verbs', and their plan is the same for all values. So a connection that meets one again
prepares it, in the same message that runs it. The statement's name is its digest: a
name that a pooler has seen on another connection stands for the same words.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

from agent_sessions.conf import conf
from agent_sessions.store.transactions import error_code, in_transaction

# Each takes some 50 kB of the server's memory.
_MAX_STATEMENTS = 32
# A pooler hands each transaction to another connection of its own: there it is in vain.
_MAX_MISSES = 3
# There is no such statement, one of that name is there, its tables were altered.
_MISSES = {"26000", "42P05", "0A000"}

# What each connection of psycopg's has met: how often, at most twice.
_met: WeakKeyDictionary[Any, dict[str, int]] = WeakKeyDictionary()
_misses: Counter[str] = Counter()
_lock = threading.Lock()


def fetch_rows(
    connection: BaseDatabaseWrapper,
    sql: str,
    values: list[Any],
    *,
    again: bool = True,
) -> list[Any]:
    """Return the statement's rows; prepare it unless it will not come ``again``."""
    message, prepares = _message(connection, sql) if again else (sql, False)
    with connection.cursor() as cursor:
        if message != sql:
            try:
                cursor.execute(message, values)
            except DatabaseError as error:
                # Nothing ran: the message is a transaction of its own.
                if error_code(error) not in _MISSES:
                    raise
                _forget(connection)
            else:
                if prepares:
                    cursor.nextset()
                return list(cursor.fetchall())
        cursor.execute(sql, values)
        return list(cursor.fetchall())


def _message(connection: BaseDatabaseWrapper, sql: str) -> tuple[str, bool]:
    # Return what to send, and whether it holds two statements.
    if not _is_wanted(connection):
        return sql, False
    connection.ensure_connection()
    if not hasattr(connection.connection, "pgconn"):
        # psycopg2 shows the last result of a message alone.
        return sql, False
    with _lock:
        met = _met.setdefault(connection.connection, {})
        times = met.get(sql, 0)
        if times == 0 and len(met) >= _MAX_STATEMENTS:
            return sql, False
        met[sql] = min(times + 1, 2)
    if times == 0:
        return sql, False
    prepare, execute = _spell(sql)
    return (execute, False) if times > 1 else (f"{prepare}; {execute}", True)


def _is_wanted(connection: BaseDatabaseWrapper) -> bool:
    # In the caller's transaction a miss would end that transaction. With binding at the
    # server a message holds one statement, and psycopg can prepare by itself.
    return (
        conf.AGENT_SESSIONS_PREPARE
        and _misses[connection.alias] < _MAX_MISSES
        and not in_transaction(connection)
        and not connection.settings_dict["OPTIONS"].get("server_side_binding")
    )


def _forget(connection: BaseDatabaseWrapper) -> None:
    with _lock:
        _met.pop(connection.connection, None)
        _misses[connection.alias] += 1


@lru_cache(maxsize=256)
def _spell(sql: str) -> tuple[str, str]:
    # The words of PREPARE and EXECUTE; PostgreSQL cuts names after 63 bytes.
    name = f"agent_sessions_{hashlib.sha256(sql.encode()).hexdigest()[:40]}"
    first, *others = sql.split("%s")
    body = first + "".join(f"${nr}{part}" for nr, part in enumerate(others, 1))
    marks = ", ".join(["%s"] * len(others))
    return f"PREPARE {name} AS {body}", f"EXECUTE {name} ({marks})"
