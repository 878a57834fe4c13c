"""How other stores lay out their tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from agent_sessions.importers.records import SourceSession
from agent_sessions.importers.sqlite import (
    MESSAGES_TABLE,
    SESSIONS_TABLE,
    read_text,
    read_time,
)


@dataclass(frozen=True, slots=True)
class Shape:
    """
    A store's two tables.

    The first of ``session_columns`` is unique and orders; items name it in their
    column ``session_id``, are in the column ``data`` and are read in ``order``. The
    columns in ``json`` are of the database's JSON type.
    """

    sessions_table: str
    messages_table: str
    session_columns: tuple[str, ...]
    data: str
    order: str
    read_session: Callable[[Sequence[Any]], SourceSession]
    json: frozenset[str] = frozenset()


def _read_sqlalchemy(row: Sequence[Any]) -> SourceSession:
    session_id, created_at, updated_at = row
    return SourceSession(
        session_id=read_text(session_id),
        place=session_id,
        created_at=read_time(created_at),
        updated_at=read_time(updated_at),
    )


def _read_openai_django(row: Sequence[Any]) -> SourceSession:
    key, session_id, created_at, updated_at = row
    return SourceSession(
        session_id=read_text(session_id),
        place=key,
        created_at=read_time(created_at),
        updated_at=read_time(updated_at),
    )


def _read_agentic(row: Sequence[Any]) -> SourceSession:
    key, session_key, owner, metadata, created_at, updated_at = row
    kept = None
    with suppress(ValueError, TypeError):
        kept = json.loads(metadata)
    return SourceSession(
        session_id=_spell_uuid(key),
        place=key,
        created_at=read_time(created_at),
        updated_at=read_time(updated_at),
        user=None if owner is None else str(owner),
        metadata=kept if isinstance(kept, dict) else {},
        notes={"session_key": read_text(session_key)},
    )


def _spell_uuid(key: Any) -> str:
    # Databases without such a type keep it as 32 digits.
    text = str(key)
    if len(text) != 32:
        return text
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


SQLALCHEMY = Shape(
    sessions_table=SESSIONS_TABLE,
    messages_table=MESSAGES_TABLE,
    session_columns=("session_id", "created_at", "updated_at"),
    data="message_data",
    order="created_at, id",
    read_session=_read_sqlalchemy,
)
OPENAI_DJANGO = Shape(
    sessions_table=SESSIONS_TABLE,
    messages_table=MESSAGES_TABLE,
    session_columns=("id", "session_id", "created_at", "updated_at"),
    data="data",
    order="created_at, id",
    read_session=_read_openai_django,
    json=frozenset({"data"}),
)
AGENTIC = Shape(
    sessions_table="agentic_django_agentsession",
    messages_table="agentic_django_agentsessionitem",
    session_columns=(
        "id",
        "session_key",
        "owner_id",
        "metadata",
        "created_at",
        "updated_at",
    ),
    data="payload",
    order="sequence",
    read_session=_read_agentic,
    json=frozenset({"metadata", "payload"}),
)
