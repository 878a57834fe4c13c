"""The hot verbs on MariaDB 10.5 and later: an append is two statements."""

from __future__ import annotations

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


class _Refused(Exception):
    """Undo what was written to a row that is not open."""


def append(
    handle: SessionHandle,
    batch: list[NewItem],
    usage: TokenUsage | None,
    attempt: Attempt,
) -> Appended | None:
    """Store the batch behind the session's last item; None if it is not open."""
    try:
        return two_statements.append(
            handle, batch, usage, attempt, pk=uuid7(), reserve=_reserve
        )
    except _Refused:
        return None


def _reserve(
    handle: SessionHandle,
    batch: list[NewItem],
    cursor: CursorWrapper,
    pk: UUID,
    time: Any,
) -> Reserved:
    # MariaDB has no UPDATE ... RETURNING. An UPDATE that finds no row would lock the
    # gap where it should be, and two of those deadlock in their INSERT; this does not.
    connection = cursor.db
    turns = count_turns(batch)[-1]
    preview = batch_preview(batch)
    values = new_session_values(
        handle,
        connection,
        pk=pk,
        batch=batch,
        turns=turns,
        preview=preview,
        time=time,
    )
    changed = [time]
    if preview:
        changed.insert(0, preview)
    changes = counters(len(batch), turns, bool(preview))
    marks = ", ".join(["%s"] * len(values))
    cursor.execute(
        f"INSERT INTO {SESSION} ({SESSION_COLUMNS}) VALUES ({marks})"
        f" ON DUPLICATE KEY UPDATE {changes} RETURNING"
        f" id, next_position, next_turn, rewound_before, item_count,"
        f" {row_rule(handle)}",
        [*values, *changed, *row_values(handle, connection)],
    )
    key, *reserved, is_open = cursor.fetchall()[0]
    if not is_open:
        # There is no WHERE clause here that could hold the owner rule.
        raise _Refused
    position, turn, rewound_before, item_count = reserved
    return UUID(str(key)), position, turn, rewound_before, item_count
