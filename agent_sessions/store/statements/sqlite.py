"""The hot verbs on SQLite 3.35 and later: an append is two statements."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

from django.db.backends.utils import CursorWrapper

from agent_sessions.identifiers import uuid7
from agent_sessions.store.batches import NewItem, batch_preview
from agent_sessions.store.handles import SessionHandle
from agent_sessions.store.statements import two_statements
from agent_sessions.store.statements.copying import copy as copy
from agent_sessions.store.statements.phrases import (
    SESSION,
    SESSION_COLUMNS,
    count_turns,
    counters,
    new_session_values,
    owner_rule,
    owner_values,
    row_rule,
    row_values,
)
from agent_sessions.store.statements.portable import clear as clear
from agent_sessions.store.statements.portable import pop as pop
from agent_sessions.store.statements.reading import read as read
from agent_sessions.store.statements.results import Appended
from agent_sessions.store.statements.two_statements import Reserved
from agent_sessions.store.transactions import Attempt
from agent_sessions.usage import TokenUsage

_RETURNING = "RETURNING id, next_position, next_turn, rewound_before, item_count"


def append(
    handle: SessionHandle,
    batch: list[NewItem],
    usage: TokenUsage | None,
    attempt: Attempt,
) -> Appended | None:
    """Store the batch behind the session's last item; None if it is not open."""
    return two_statements.append(
        handle, batch, usage, attempt, pk=uuid7(), reserve=_reserve
    )


def _reserve(
    handle: SessionHandle,
    batch: list[NewItem],
    cursor: CursorWrapper,
    pk: UUID,
    time: Any,
) -> Reserved | None:
    connection = cursor.db
    turns = count_turns(batch)[-1]
    preview = batch_preview(batch)
    changed = [time]
    if preview:
        changed.insert(0, preview)
    counted = len(batch), turns, bool(preview)
    fetch = partial(_fetch, cursor)
    reserved = None
    if handle.pk is not None or not handle.absent:
        changes = counters(*counted)
        reserved = fetch(
            f"UPDATE {SESSION} SET {changes} WHERE {row_rule(handle)} {_RETURNING}",
            [*changed, *row_values(handle, connection)],
        )
    if reserved is None and handle.pk is None:
        values = new_session_values(
            handle,
            connection,
            pk=pk,
            batch=batch,
            turns=turns,
            preview=preview,
            time=time,
        )
        marks = ", ".join(["%s"] * len(values))
        changes = counters(*counted, f"{SESSION}.")
        owner = owner_rule(handle, f"{SESSION}.")
        owned = owner_values(handle, connection)
        reserved = fetch(
            f"INSERT INTO {SESSION} ({SESSION_COLUMNS}) VALUES ({marks})"
            f" ON CONFLICT (session_id) DO UPDATE SET {changes} WHERE {owner}"
            f" {_RETURNING}",
            [*values, *changed, *owned],
        )
        # A deferred key would fail only at the end of the caller's transaction. After
        # the write: a transaction that has read may be too late to become the writer.
        handle.refuse_missing_user()
    return reserved


def _fetch(cursor: CursorWrapper, sql: str, values: list[Any]) -> Reserved | None:
    cursor.execute(sql, values)
    # All of them: SQLite keeps a statement open, and its lock, until it is through.
    rows = cursor.fetchall()
    return (UUID(rows[0][0]), *rows[0][1:]) if rows else None
