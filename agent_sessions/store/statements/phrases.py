"""
SQL that the vendors have in common.

Written by hand because it runs several times in every turn of every agent: the ORM
would spend longer on compiling it than the database on running it. Numbers that Python
made itself are spelled out, everything else is a parameter.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from itertools import accumulate
from typing import Any
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from agent_sessions.models import AgentSession, SessionItem, TurnUsage
from agent_sessions.store.batches import NewItem
from agent_sessions.store.handles import SessionHandle
from agent_sessions.usage import USAGE_FIELDS, TokenUsage, usage_day

SESSION = AgentSession._meta.db_table
ITEM = SessionItem._meta.db_table
USAGE = TurnUsage._meta.db_table

SESSION_COLUMNS = (
    "id, session_id, user_id, owned_at, title, preview, metadata, revision, "
    "item_count, turn_count, next_position, next_turn, created_at, updated_at"
)
USAGE_COLUMNS = f"session_id, turn, day, {', '.join(USAGE_FIELDS)}"
ITEM_COLUMNS = "id, session_id, position, turn, type, role, data, created_at"


def owner_rule(handle: SessionHandle, source: str = "") -> str:
    """
    Return the owner rule of handle.rows() as SQL; owner_values() are its values.

    ``source`` qualifies the columns.
    """
    if handle.user_id is not None:
        # A CASE, which no index answers: while PostgreSQL has no statistics of a young
        # table it prefers the index of the user's sessions, and walks through them all.
        return f"CASE WHEN {source}user_id = %s THEN true ELSE false END"
    owned = "IS NOT NULL" if handle.orphaned else "IS NULL"
    return f"{source}user_id IS NULL AND {source}owned_at {owned}"


def owner_values(handle: SessionHandle, connection: BaseDatabaseWrapper) -> list[Any]:
    if handle.user_id is None:
        return []
    return [adapt_user(handle.user_id, connection)]


def row_rule(handle: SessionHandle) -> str:
    """Return handle.rows() as SQL; row_values() are its values."""
    pinned = "" if handle.pk is None else " AND id = %s"
    return f"session_id = %s AND {owner_rule(handle)}{pinned}"


def row_values(handle: SessionHandle, connection: BaseDatabaseWrapper) -> list[Any]:
    values = [handle.session_id, *owner_values(handle, connection)]
    if handle.pk is not None:
        values.append(adapt_id(handle.pk, connection))
    return values


def adapt_user(user_id: Any, connection: BaseDatabaseWrapper) -> Any:
    return _USER.get_db_prep_value(user_id, connection)


def adapt_id(value: Any, connection: BaseDatabaseWrapper) -> Any:
    return _ID.get_db_prep_value(value, connection)


def adapt_time(value: datetime, connection: BaseDatabaseWrapper) -> Any:
    return _TIME.get_db_prep_value(value, connection)


def count_turns(batch: list[NewItem]) -> tuple[int, ...]:
    """Return for each item how many turns the batch has opened up to it."""
    return tuple(accumulate(int(item.starts_turn) for item in batch))


@lru_cache(maxsize=256)
def counters(items: int, turns: int, preview: bool, source: str = "") -> str:
    """
    Return the SET list of an append; ``preview`` takes a value, then comes the time.

    ``source`` qualifies the columns read. The preview goes first: MariaDB computes from
    left to right, with the new values.
    """
    changes = []
    if preview:
        old = f"{source}preview"
        changes.append(f"preview = CASE WHEN {old} = '' THEN %s ELSE {old} END")
    if turns:
        changes.append(f"turn_count = {source}turn_count + {turns}")
        changes.append(f"next_turn = {source}next_turn + {turns}")
    changes.append(f"item_count = {source}item_count + {items}")
    changes.append(f"next_position = {source}next_position + {items}")
    changes.append("updated_at = %s")
    return ", ".join(changes)


def new_session_values(
    handle: SessionHandle,
    connection: BaseDatabaseWrapper,
    *,
    pk: Any,
    batch: list[NewItem],
    turns: int,
    preview: str,
    time: Any,
) -> list[Any]:
    """
    Return a new row for SESSION_COLUMNS that has the batch counted in already.

    ``time`` is what adapt_time() gives.
    """
    user_id = handle.user_id
    return [
        adapt_id(pk, connection),
        handle.session_id,
        None if user_id is None else adapt_user(user_id, connection),
        None if user_id is None else time,
        "",
        preview,
        "{}",
        0,
        len(batch),
        turns,
        len(batch),
        turns + 1,
        time,
        time,
    ]


def insert_items(
    cursor: CursorWrapper,
    batch: list[NewItem],
    *,
    session: Any,
    first_position: int,
    turn: int,
    open_turn: int,
    time: Any,
) -> None:
    """
    Insert the batch from ``first_position`` on, in one statement.

    ``turn`` is the last turn before the batch, ``open_turn`` the one that items before
    the batch's first user message belong to, ``time`` what adapt_time() gives.
    """
    connection = cursor.db
    key = adapt_id(session, connection)
    values: list[Any] = []
    opened = count_turns(batch)
    for position, (item, count) in enumerate(
        zip(batch, opened, strict=True), start=first_position
    ):
        values += [
            adapt_id(item.id, connection),
            key,
            position,
            turn + count if count else open_turn,
            item.type,
            item.role,
            item.data,
            time,
        ]
    rows = ", ".join(["(%s, %s, %s, %s, %s, %s, %s, %s)"] * len(batch))
    cursor.execute(f"INSERT INTO {ITEM} ({ITEM_COLUMNS}) VALUES {rows}", values)


def upsert_usage(
    connection: BaseDatabaseWrapper,
    session: UUID,
    turn: int,
    usage: TokenUsage,
    now: datetime,
) -> None:
    """Add the usage to the row of the turn, or make it."""
    if connection.vendor == "mysql":
        conflict, new = "ON DUPLICATE KEY UPDATE", "VALUES({})"
    else:
        conflict, new = "ON CONFLICT (session_id, turn) DO UPDATE SET", "excluded.{}"
    added = ", ".join(
        f"{name} = {USAGE}.{name} + {new.format(name)}" for name in USAGE_FIELDS
    )
    marks = ", ".join(["%s"] * (3 + len(USAGE_FIELDS)))
    key = adapt_id(session, connection)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {USAGE} ({USAGE_COLUMNS}) VALUES ({marks})"
            f" {conflict} {added}",
            [key, turn, usage_day(now), *usage.counts],
        )


_ID = AgentSession._meta.get_field("id")
_USER = AgentSession._meta.get_field("user")
_TIME = AgentSession._meta.get_field("updated_at")
