"""
The hot verbs on PostgreSQL: one statement, hence one round trip, each.

A statement of its own is a transaction of its own; the wait for locks is bounded within
it. Under READ COMMITTED all parts of a statement see the rows as they were when it
began, even if it then waited for a lock: what that means for each verb stands beside
it.
"""

from __future__ import annotations

from functools import lru_cache
from uuid import UUID

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from agent_sessions.conf import conf
from agent_sessions.encoding import decode_item
from agent_sessions.identifiers import uuid7
from agent_sessions.store.batches import NewItem, batch_preview, split_batch
from agent_sessions.store.handles import SessionHandle
from agent_sessions.store.limits import find_room
from agent_sessions.store.statements import portable, reading
from agent_sessions.store.statements.copying import copy as copy
from agent_sessions.store.statements.phrases import (
    ITEM,
    ITEM_COLUMNS,
    SESSION,
    SESSION_COLUMNS,
    USAGE,
    USAGE_COLUMNS,
    count_turns,
    counters,
    new_session_values,
    owner_rule,
    owner_values,
    row_rule,
    row_values,
)
from agent_sessions.store.statements.prepared import fetch_rows
from agent_sessions.store.statements.results import Appended, Found, Popped
from agent_sessions.store.transactions import (
    Attempt,
    in_transaction,
    lock_milliseconds,
)
from agent_sessions.usage import USAGE_FIELDS, TokenUsage

# Four parameters an item; PostgreSQL takes 65 535 in a statement.
_MAX_ITEMS = 10_000
# Batches of other lengths come too seldom for a plan of their own to be kept.
_MAX_PREPARED = 4


def append(
    handle: SessionHandle,
    batch: list[NewItem],
    usage: TokenUsage | None,
    attempt: Attempt,
) -> Appended | None:
    """Store the batch behind the session's last item; None if it is not open."""
    if attempt.again and (done := portable.find_batch(handle, batch)):
        return done
    if len(batch) > _MAX_ITEMS or len(split_batch(batch, using=handle.using)) > 1:
        return portable.append(handle, batch, usage, attempt)
    connection = connections[handle.using]
    row = None
    pk = None
    if handle.pk is not None or not handle.absent:
        row = _append(handle, batch, usage, connection, None)
    if row is None and handle.pk is None:
        if in_transaction(connection):
            # A deferred key would fail only at the end of the caller's transaction.
            handle.refuse_missing_user()
        pk = uuid7()
        row = _append(handle, batch, usage, connection, pk)
    if row is None:
        # Not open; or full, or one too many; or a rewind may have removed the turn that
        # goes on here. Only a look under the lock can tell.
        limited = (conf.AGENT_SESSIONS_MAX_ITEMS, conf.AGENT_SESSIONS_MAX_SESSIONS)
        if batch[0].starts_turn and limited == (None, None):
            return None
        return portable.append(handle, batch, usage, attempt)
    session, position, turn = row
    first_position = position - len(batch) + 1
    return Appended(session, first_position, len(batch), turn, created=session == pk)


def read(handle: SessionHandle, limit: int | None) -> Found:
    """Return the session and its newest ``limit`` live rows."""
    return reading.read(handle, limit, fetch=fetch_rows)


def pop(handle: SessionHandle, attempt: Attempt) -> Popped | None:
    """Remove the newest live item that decodes; None if the session is not open."""
    connection = connections[handle.using]
    broken: list[int] = []
    while True:
        attempt.sealed = not in_transaction(connection)
        now = timezone.now()
        rows = fetch_rows(
            connection,
            _pop_sql(row_rule(handle), _wait(connection)),
            [*row_values(handle, connection), now],
        )
        attempt.sealed = False
        if not rows:
            # Empty, or another pop was faster: only the lock can tell.
            popped = portable.pop(handle, attempt)
            if popped is not None and broken:
                return Popped(popped.session, popped.item, [*broken, *popped.broken])
            return popped
        session, position, data = rows[0]
        item = decode_item(data)
        if item is not None:
            return Popped(session, item, broken)
        broken.append(position)


def clear(handle: SessionHandle, attempt: Attempt) -> UUID | None:
    """Remove all items, replaced ones too; None if the session is not open."""
    connection = connections[handle.using]
    rows = fetch_rows(
        connection,
        _clear_sql(row_rule(handle), _wait(connection)),
        [*row_values(handle, connection), timezone.now()],
    )
    if not rows:
        return None
    session: UUID
    session, left = rows[0]
    # Something was written while this waited, which it does not see: once more, with
    # the lock first.
    return portable.clear(handle, attempt) if left else session


def _append(
    handle: SessionHandle,
    batch: list[NewItem],
    usage: TokenUsage | None,
    connection: BaseDatabaseWrapper,
    pk: UUID | None,
) -> tuple[UUID, int, int] | None:
    """
    Return the session, and the position and turn of the batch's last item.

    Counts on a row that is there, or makes it as ``pk``. None if it is not open.
    """
    opened = count_turns(batch)
    preview = batch_preview(batch)
    now = timezone.now()
    changed = [preview, now] if preview else [now]
    alive = [] if opened[0] else [handle.turn or 0]
    room = find_room(len(batch))
    most = None
    if pk is None:
        rule, owner = row_rule(handle), ""
        known = row_values(handle, connection)
        values = [*changed, *known, *alive]
    else:
        rule, owner = "", owner_rule(handle, "s.")
        new = new_session_values(
            handle,
            connection,
            pk=pk,
            batch=batch,
            turns=opened[-1],
            preview=preview,
            time=now,
        )
        owned = owner_values(handle, connection)
        if owned:
            most = conf.AGENT_SESSIONS_MAX_SESSIONS
        counted = [] if most is None else owned
        values = [*new, *counted, *changed, *owned, *alive]
    if usage:
        turn = [] if opened[-1] else [handle.turn]
        values += [*turn, *usage.counts]
    turn = [] if opened[0] else [handle.turn]
    if len(batch) == 1:
        item = batch[0]
        values += [item.id, *turn, item.type, item.role, item.data]
    else:
        values += turn
        for item in batch:
            values += [item.id, item.type, item.role, item.data]
    # Long batches are rare, and their statements too long to keep.
    build = _append_sql if len(batch) <= 32 else _append_sql.__wrapped__
    wait = _wait(connection)
    sql = build(opened, bool(preview), bool(usage), rule, owner, wait, room, most)
    rows = fetch_rows(connection, sql, values, again=len(batch) <= _MAX_PREPARED)
    return max(rows, key=lambda row: row[1]) if rows else None


def _wait(connection: BaseDatabaseWrapper) -> str:
    # In the caller's transaction the waits are the caller's business.
    if in_transaction(connection):
        return "true"
    # A condition, so that it is set before the row's lock is waited for.
    milliseconds = lock_milliseconds()
    return f"set_config('lock_timeout', '{milliseconds}ms', true) IS NOT NULL"


@lru_cache(maxsize=512)
def _append_sql(
    opened: tuple[int, ...],
    preview: bool,
    usage: bool,
    rule: str,
    owner: str,
    wait: str,
    room: int | None,
    most: int | None,
) -> str:
    # The session's row first: its lock gives out positions, and the items follow from
    # what it returns, whatever happened while the statement waited for it. As few parts
    # as will do: long batches, and all in the caller's transactions, are planned anew.
    changes = counters(len(opened), opened[-1], preview, "s.")
    alive = "" if opened[0] else " AND s.rewound_before <= %s::int"
    if room is not None:
        alive += f" AND s.item_count <= {room}"
    if rule:
        row = f"UPDATE {SESSION} AS s SET {changes} WHERE {wait} AND {rule}{alive}"
    else:
        row = (
            f"INSERT INTO {SESSION} AS s ({SESSION_COLUMNS})"
            " SELECT %s::uuid, %s, %s, %s::timestamptz, %s, %s, %s::jsonb, %s::int,"
            " %s::int, %s::int, %s::int, %s::int, %s::timestamptz, %s::timestamptz"
            f" WHERE {wait}{_few(most)}"
            f" ON CONFLICT (session_id) DO UPDATE SET {changes} WHERE {owner}{alive}"
        )
    if len(opened) == 1:
        source = "s"
        key, nr, turns, columns = "%s::uuid", "0", f"{opened[0]}", "%s, %s, %s"
    else:
        rows = ", ".join(
            f"(%s::uuid, {offset}, {turns}, %s::text, %s::text, %s::text)"
            for offset, turns in enumerate(opened)
        )
        source = f"s, (VALUES {rows}) AS i (id, nr, turns, type, role, data)"
        key, nr, turns, columns = "i.id", "i.nr", "i.turns", "i.type, i.role, i.data"
    turn = f"s.turn + {turns}"
    if not opened[0]:
        turn = f"CASE {turns} WHEN 0 THEN COALESCE(%s::int, s.turn) ELSE {turn} END"
    return (
        f"WITH s AS ({row} RETURNING s.id, s.next_position - {len(opened)} AS position,"
        f" s.next_turn - {opened[-1] + 1} AS turn, s.updated_at)"
        f"{_usage_sql(opened[-1]) if usage else ''}"
        f" INSERT INTO {ITEM} ({ITEM_COLUMNS})"
        f" SELECT {key}, s.id, s.position + {nr}, {turn}, {columns}, s.updated_at"
        f" FROM {source} RETURNING session_id, position, turn"
    )


def _few(most: int | None) -> str:
    if most is None:
        return ""
    rows = f"SELECT 1 FROM {SESSION} WHERE user_id = %s LIMIT {most}"
    return f" AND (SELECT count(*) FROM ({rows}) AS theirs) < {most}"


def _usage_sql(opened: int) -> str:
    turn = f"s.turn + {opened}" if opened else "COALESCE(%s::int, s.turn)"
    marks = ", ".join(["%s::bigint"] * len(USAGE_FIELDS))
    added = ", ".join(f"{name} = u.{name} + excluded.{name}" for name in USAGE_FIELDS)
    return (
        f", u AS (INSERT INTO {USAGE} AS u ({USAGE_COLUMNS})"
        f" SELECT s.id, {turn}, (s.updated_at AT TIME ZONE 'UTC')::date, {marks} FROM s"
        f" ON CONFLICT (session_id, turn) DO UPDATE SET {added})"
    )


def _locked(rule: str, wait: str) -> str:
    # The lock first, as every writer does it.
    return (
        f"session AS MATERIALIZED (SELECT id FROM {SESSION}"
        f" WHERE {wait} AND {rule} FOR UPDATE)"
    )


@lru_cache(maxsize=64)
def _pop_sql(rule: str, wait: str) -> str:
    # An item that was appended while this waited is not seen: then this pop came before
    # that append.
    return (
        f"WITH {_locked(rule, wait)},"
        f" popped AS (DELETE FROM {ITEM} WHERE id = (SELECT id FROM {ITEM}"
        " WHERE session_id = (SELECT id FROM session) AND replaced_at IS NULL"
        " ORDER BY position DESC LIMIT 1) AND replaced_at IS NULL"
        " RETURNING position, role, data)"
        f" UPDATE {SESSION} AS s SET"
        " item_count = GREATEST(s.item_count - 1, 0), turn_count = s.turn_count -"
        " (popped.role = 'user' AND s.turn_count > 0)::int, preview = CASE WHEN"
        " popped.role = 'user' AND s.turn_count <= 1 THEN '' ELSE s.preview END,"
        " updated_at = %s FROM popped WHERE s.id = (SELECT id FROM session)"
        " RETURNING s.id, popped.position, popped.data"
    )


@lru_cache(maxsize=64)
def _clear_sql(rule: str, wait: str) -> str:
    # Items that were appended while this waited are not seen and stay. So the counters
    # lose what was deleted, not everything.
    return (
        f"WITH {_locked(rule, wait)},"
        f" gone AS (DELETE FROM {ITEM} WHERE session_id = (SELECT id FROM session)"
        " RETURNING role, replaced_at),"
        " total AS (SELECT count(*) AS items, count(*) FILTER (WHERE role = 'user') AS"
        " turns FROM gone WHERE replaced_at IS NULL)"
        f" UPDATE {SESSION} AS s SET"
        " item_count = GREATEST(s.item_count - total.items, 0),"
        " turn_count = GREATEST(s.turn_count - total.turns, 0), preview = '',"
        " updated_at = %s FROM total WHERE s.id = (SELECT id FROM session)"
        " RETURNING s.id, s.item_count"
    )
