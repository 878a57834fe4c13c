"""
Sessions as JSON Lines, to take along and to bring back.

The first line is a header, ``{"format": "agent_sessions", "version": 1}``. Then comes
each session, ``{"session": {...}}``, followed by its items, oldest first,
``{"item": {...}}``. Replaced items are among them. An item's ``data`` is the item
itself; or a string, the text of a row that JSON would not give back to the letter
(broken rows). The last line, ``{"end": {"sessions": N}}``, tells a whole file from one
that was cut off. Times are ISO 8601, keys are UUIDs; ``user`` is the owner's key as
text and ``username`` their user name. A session's ``usage`` is a list with one list for
each turn that has used anything: its number, its day, and the counts of TokenUsage in
order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID

from django.utils import timezone

from agent_sessions.encoding import decode_item, encode_item
from agent_sessions.exceptions import InvalidItem
from agent_sessions.fields import RAW
from agent_sessions.models import (
    AgentSession,
    AgentSessionQuerySet,
    SessionItem,
    TurnUsage,
)
from agent_sessions.usage import USAGE_FIELDS

FORMAT = "agent_sessions"
VERSION = 1

SESSIONS_AT_ONCE = 100
# An item may hold an image of megabytes.
ITEMS_AT_ONCE = 100


def dump_sessions(
    sessions: Iterable[UUID], *, using: str, among: AgentSessionQuerySet | None = None
) -> Iterator[bytes]:
    """
    Yield these sessions line by line, in their order; unknown ones are left out.

    So are those that are not, or no longer, ``among`` some. Memory stays flat: at most
    100 items are held at once.
    """
    known = AgentSession.objects.using(using) if among is None else among
    yield _line({"format": FORMAT, "version": VERSION})
    count = 0
    remaining = iter(sessions)
    while keys := list(islice(remaining, SESSIONS_AT_ONCE)):
        rows = known.select_related("user").in_bulk(keys)
        usage = _read_usage(keys, using)
        for key in keys:
            if key in rows:
                session = {**_dump_session(rows[key]), "usage": usage.get(key, [])}
                count += 1
                yield _line({"session": session})
                yield from _dump_items(rows[key], using)
    yield _line({"end": {"sessions": count}})


def _dump_session(row: AgentSession) -> dict[str, Any]:
    return {
        "id": row.pk,
        "session_id": row.session_id,
        "user": None if row.user_id is None else str(row.user_id),
        "username": None if row.user is None else row.user.get_username(),
        "owned_at": row.owned_at,
        "title": row.title,
        "preview": row.preview,
        "metadata": row.metadata,
        "archived_at": row.archived_at,
        "revision": row.revision,
        "item_count": row.item_count,
        "turn_count": row.turn_count,
        "next_position": row.next_position,
        "next_turn": row.next_turn,
        "rewound_before": row.rewound_before,
        "forked_from": row.forked_from,
        "forked_at": row.forked_at,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }


def _read_usage(keys: list[UUID], using: str) -> dict[UUID, list[list[Any]]]:
    rows = TurnUsage.objects.using(using).filter(session__in=keys).order_by("turn")
    usage: dict[UUID, list[list[Any]]] = {}
    for key, *values in rows.values_list("session", "turn", "day", *USAGE_FIELDS):
        usage.setdefault(key, []).append(values)
    return usage


def _dump_items(row: AgentSession, using: str) -> Iterator[bytes]:
    # What came after the session's line was written is not counted in it.
    items = SessionItem.objects.using(using).filter(
        session=row.pk, position__lt=row.next_position
    )
    columns = (
        items.annotate(text=RAW)
        .order_by("position")
        .values_list(
            "id",
            "position",
            "turn",
            "type",
            "role",
            "created_at",
            "replaced_at",
            "text",
        )
    )
    after = -1
    while True:
        page = list(columns.filter(position__gt=after)[:ITEMS_AT_ONCE])
        for pk, position, turn, kind, role, created_at, replaced_at, data in page:
            item = {
                "id": pk,
                "position": position,
                "turn": turn,
                "type": kind,
                "role": role,
                "created_at": created_at,
                "replaced_at": replaced_at,
            }
            yield _item_line(item, data)
            after = position
        if len(page) < ITEMS_AT_ONCE:
            return


def _item_line(item: dict[str, Any], data: str) -> bytes:
    decoded = decode_item(data)
    text = None
    # What others wrote into the table may be more than we write: NaN, endless nesting.
    with suppress(InvalidItem):
        text = None if decoded is None else encode_item(decoded)
    if text != data:
        return _line({"item": {**item, "data": data}})
    # The text as it stands, without a second encoding.
    head = _line({"item": item}).rstrip(b"}\n")
    return head + b',"data":' + data.encode() + b"}}\n"


def _line(value: dict[str, Any]) -> bytes:
    text = json.dumps(
        value, ensure_ascii=False, separators=(",", ":"), default=_dump_value
    )
    # Databases keep no half of a surrogate pair.
    return text.encode() + b"\n"


def _dump_value(value: Any) -> str:
    if isinstance(value, datetime) and timezone.is_naive(value):
        value = timezone.make_aware(value)
    return str(value) if isinstance(value, UUID) else str(value.isoformat())
