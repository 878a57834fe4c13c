"""One statement that reads the items and tells unknown sessions from closed ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias
from uuid import UUID

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from agent_sessions.store.handles import SessionHandle
from agent_sessions.store.statements.phrases import (
    ITEM,
    SESSION,
    owner_rule,
    owner_values,
    row_rule,
    row_values,
)
from agent_sessions.store.statements.results import Found
from agent_sessions.store.transactions import in_transaction

Fetch: TypeAlias = Callable[[BaseDatabaseWrapper, str, list[Any]], list[Any]]

# No position is negative: the row that tells of the session itself.
_HEADER = -1
_KEYS = {"postgresql": "id::text", "mysql": "CONCAT(id, ' ', item_count)"}


def fetch_plainly(
    connection: BaseDatabaseWrapper, sql: str, values: list[Any]
) -> list[Any]:
    """Return the statement's rows."""
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return list(cursor.fetchall())


def read(
    handle: SessionHandle, limit: int | None, *, fetch: Fetch = fetch_plainly
) -> Found:
    """Return the session and its newest ``limit`` live rows."""
    connection = connections[handle.using]
    sql = _sql(connection.vendor, owner_rule(handle), row_rule(handle), limit)
    values = [
        *owner_values(handle, connection),
        handle.session_id,
        *row_values(handle, connection),
    ]
    # In order already, or in reverse: this takes one pass.
    rows = sorted(fetch(connection, sql, values))
    if not rows:
        return Found(None, [], exists=False)
    _, session = rows.pop(0)
    if connection.vendor == "mysql":
        session, _, count = session.partition(" ")
        # MariaDB 10.11 now and then shows a commit without an earlier one; then the
        # session counts more than there is. In a transaction it would do so again.
        counted = int(count or 0)
        expected = counted if limit is None else min(counted, limit)
        if len(rows) != expected and not in_transaction(connection):
            rows = sorted(fetch(connection, sql, values))
            if not rows:
                return Found(None, [], exists=False)
            session = rows.pop(0)[1].partition(" ")[0]
        # There a union of numbers is a decimal.
        rows = [(int(position), data) for position, data in rows]
    pk = UUID(session) if session else None
    if pk is None or (handle.pk is not None and pk != handle.pk):
        return Found(None, [], exists=True)
    return Found(pk, rows, exists=True)


@lru_cache(maxsize=256)
def _sql(vendor: str, owner: str, row: str, limit: int | None) -> str:
    # The limit is spelled out: for one that it does not know PostgreSQL keeps no plan.
    key = _KEYS.get(vendor, "id")
    order = "" if limit is None else f"DESC LIMIT {limit:d}"
    return (
        f"SELECT {_HEADER} AS position,"
        f" CASE WHEN {owner} THEN {key} ELSE '' END AS data"
        f" FROM {SESSION} WHERE session_id = %s UNION ALL"
        f" SELECT position, data FROM (SELECT position, data FROM {ITEM}"
        f" WHERE session_id = (SELECT id FROM {SESSION} WHERE {row})"
        f" AND replaced_at IS NULL ORDER BY position {order}) AS items"
    )
