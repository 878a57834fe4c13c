"""An append for databases that change data in one table a statement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias
from uuid import UUID

from django.db import connections
from django.db.backends.utils import CursorWrapper
from django.utils import timezone

from agent_sessions.store.batches import NewItem, split_batch
from agent_sessions.store.handles import SessionHandle
from agent_sessions.store.limits import refuse_full, refuse_many
from agent_sessions.store.statements import portable
from agent_sessions.store.statements.open_turns import find_open_turn
from agent_sessions.store.statements.phrases import (
    adapt_time,
    count_turns,
    insert_items,
    upsert_usage,
)
from agent_sessions.store.statements.results import Appended
from agent_sessions.store.transactions import Attempt, write_transaction
from agent_sessions.usage import TokenUsage

# The session's key, its next position and turn after the batch was counted in, the turn
# before which there was a rewind, and how many items it has.
Reserved: TypeAlias = tuple[UUID, int, int, int, int]
Reserve: TypeAlias = Callable[
    [SessionHandle, list[NewItem], CursorWrapper, UUID, Any], Reserved | None
]

# Eight parameters an item; SQLite takes 32 766 in a statement.
_MAX_ITEMS = 4_000


def append(
    handle: SessionHandle,
    batch: list[NewItem],
    usage: TokenUsage | None,
    attempt: Attempt,
    *,
    pk: UUID,
    reserve: Reserve,
) -> Appended | None:
    """
    Reserve positions on the session's row, then insert the items.

    ``reserve`` counts the batch in, makes the row as ``pk`` if there is none, and
    returns None if the session is not open. Usage takes a statement more.
    """
    if attempt.again and (done := portable.find_batch(handle, batch)):
        return done
    connection = connections[handle.using]
    parts = split_batch(batch, using=handle.using)
    now = timezone.now()
    time = adapt_time(now, connection)
    with write_transaction(handle.using), connection.cursor() as cursor:
        reserved = reserve(handle, batch, cursor, pk, time)
        if reserved is None:
            return None
        session, end, next_turn, rewound_before, item_count = reserved
        refuse_full(item_count)
        if session == pk:
            refuse_many(handle.user_id, using=handle.using)
        first_position = position = end - len(batch)
        turn = next_turn - 1 - count_turns(batch)[-1]
        current = turn
        if not batch[0].starts_turn:
            current = find_open_turn(
                handle,
                batch,
                session=session,
                last_turn=turn,
                rewound_before=rewound_before,
            )
        for part in parts:
            for start in range(0, len(part), _MAX_ITEMS):
                chunk = part[start : start + _MAX_ITEMS]
                insert_items(
                    cursor,
                    chunk,
                    session=session,
                    first_position=position,
                    turn=turn,
                    open_turn=current,
                    time=time,
                )
                position += len(chunk)
                if opened := count_turns(chunk)[-1]:
                    turn += opened
                    current = turn
        if usage:
            upsert_usage(connection, session, current, usage, now)
    return Appended(session, first_position, len(batch), current, created=session == pk)
