"""
A session by its turns: which there are, and which of them speak of something.

What compaction has replaced is not counted, as the agent does not read it; a turn that
was replaced as a whole is not there. A page costs the same however long the session
is: an index leads to its turns.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from django.db import connections
from django.db.models import Count, Max, Min, Q

from agent_sessions.encoding import decode_item
from agent_sessions.fields import RAW
from agent_sessions.models import SessionItem, SessionItemQuerySet
from agent_sessions.shapes import item_text, preview_text
from agent_sessions.store.handles import (
    Session,
    SessionHandle,
    perform_on,
    session_handle,
)
from agent_sessions.store.owners import User
from agent_sessions.store.pairs import CALLS
from agent_sessions.store.transactions import Attempt
from agent_sessions.store.usage import read_turn_usage
from agent_sessions.transcript.calls import tool_name
from agent_sessions.usage import TokenUsage

MAX_TURNS = 200
# How many of a session's newest positions a search looks at.
SEARCHED_POSITIONS = 20_000

# An item may hold an image of megabytes, so few are held at once.
_CHUNK = 20
_MESSAGES = Q(type__in=("", "message"), role__in=("user", "assistant"))


@dataclass(frozen=True, slots=True)
class Turn:
    """
    What a user's message led to; 0 is what came before the first one.

    ``preview`` is the start of the message, up to 200 characters, ``tools`` the names
    of the tools in the order of their first use, ``calls`` how often each was called.
    ``usage`` is what its runs have used.
    """

    number: int
    preview: str
    started_at: datetime
    ended_at: datetime
    item_count: int
    tools: tuple[str, ...] = ()
    calls: dict[str, int] = field(default_factory=dict)
    usage: TokenUsage = field(default_factory=TokenUsage)


def get_turns(
    session: Session,
    *,
    user: User = None,
    limit: int = 20,
    before: int | None = None,
    using: str | None = None,
) -> list[Turn]:
    """
    Return the session's newest ``limit`` turns, oldest first; none if there is none.

    With ``before`` those before the turn of that number: a page's first turn leads to
    the page before it. Raise ValueError unless ``limit`` is 1 to 200,
    SessionOwnershipError if the session is not open to ``user``, SessionGone if it was
    deleted.
    """
    handle = session_handle(session, user=user, using=using)
    _refuse_limit(limit)

    def work(now: SessionHandle, attempt: Attempt) -> list[Turn] | None:
        pk = now.rows().values_list("pk", flat=True).first()
        if pk is None:
            return None
        items = _items(now, pk)
        return _read_turns(items, pk, _summarize(_before(items, before), limit))

    return perform_on(handle, work) or []


def find_turns(
    session: Session,
    words: str,
    *,
    user: User = None,
    limit: int = 20,
    before: int | None = None,
    role: Literal["user", "assistant"] | None = None,
    using: str | None = None,
) -> list[Turn]:
    """
    Return the newest ``limit`` turns in whose messages the words stand, oldest first.

    With ``role`` only in what users, or assistants, said. Upper and lower case are one;
    tools' arguments and outputs are not searched. Looks at the session's newest 20,000
    positions at most. Raise as get_turns() does, and ValueError without words.
    """
    handle = session_handle(session, user=user, using=using)
    _refuse_limit(limit)
    if not words.strip():
        raise ValueError("There are no words to look for.")

    def work(now: SessionHandle, attempt: Attempt) -> list[Turn] | None:
        row = now.rows().values_list("pk", "next_position").first()
        if row is None:
            return None
        pk, end = row
        items = _items(now, pk)
        recent = items.live().filter(position__gte=end - SEARCHED_POSITIONS)
        if role is not None:
            recent = recent.filter(role=role)
        numbers = _find_numbers(_before(recent, before), words, limit)
        rows = _summarize(items.filter(turn__in=numbers), limit)
        return _read_turns(items, pk, rows)

    return perform_on(handle, work) or []


@dataclass(slots=True)
class _Details:
    preview: str = ""
    # In the order of their first use.
    calls: Counter[str] = field(default_factory=Counter)


def _items(handle: SessionHandle, pk: UUID) -> SessionItemQuerySet:
    return SessionItem.objects.using(handle.using).filter(session=pk)


def _before(items: SessionItemQuerySet, turn: int | None) -> SessionItemQuerySet:
    return items if turn is None else items.filter(turn__lt=turn)


def _refuse_limit(limit: int) -> None:
    if not 1 <= limit <= MAX_TURNS:
        raise ValueError(f"limit is 1 to {MAX_TURNS}, not {limit!r}.")


def _summarize(items: SessionItemQuerySet, limit: int) -> list[Any]:
    """Return a row for each of the newest ``limit`` live turns, newest first."""
    rows: list[Any] = []
    size, numbers = limit, items.order_by("-turn").values_list("turn", flat=True)
    while len(rows) < limit:
        # The index alone tells which turns there are, of all or of replaced items.
        # Without bounds on both sides MariaDB walks there from the session's end.
        page = list(numbers.distinct()[:size])
        if not page:
            break
        live = items.live().filter(turn__range=(page[-1], page[0]))
        turns = (
            live.order_by()
            .values("turn")
            .annotate(
                started_at=Min("created_at"),
                ended_at=Max("created_at"),
                item_count=Count("pk"),
            )
        )
        rows += turns.order_by("-turn")
        if len(page) < size:
            break
        numbers = numbers.filter(turn__lt=page[-1])
        size *= 2
    return rows[:limit]


def _read_turns(items: SessionItemQuerySet, pk: UUID, rows: list[Any]) -> list[Turn]:
    numbers = [row["turn"] for row in rows]
    details = _read_details(items, numbers) if numbers else {}
    usages = read_turn_usage(pk, numbers, using=items.db)
    turns = []
    for row in reversed(rows):
        number = row.pop("turn")
        found = details[number]
        turn = Turn(
            number,
            found.preview,
            tools=tuple(found.calls),
            calls=dict(found.calls),
            usage=usages.get(number, TokenUsage()),
            **row,
        )
        turns.append(turn)
    return turns


def _read_details(
    items: SessionItemQuerySet, numbers: list[int]
) -> dict[int, _Details]:
    details = {number: _Details() for number in numbers}
    # A message that was replaced still says what its turn is about.
    telling = Q(role="user") | (CALLS & Q(replaced_at=None))
    # Bounds, and an order that begins with the turn, so that PostgreSQL does not walk
    # there from the session's start.
    rows = items.filter(turn__range=(numbers[-1], numbers[0]), turn__in=numbers)
    rows = rows.filter(telling).order_by("turn", "position")
    columns = rows.values_list("turn", "role", RAW)
    for turn, role, data in columns.iterator(chunk_size=_CHUNK):
        item = decode_item(data)
        if item is None:
            continue
        if role == "user":
            details[turn].preview = preview_text(item)
        elif name := tool_name(item):
            details[turn].calls[name] += 1
    return details


def _find_numbers(items: SessionItemQuerySet, words: str, limit: int) -> list[int]:
    hits = items.filter(_MESSAGES)
    # SQLite itself folds the case of ASCII alone.
    if words.isascii() or connections[items.db].vendor != "sqlite":
        hits = hits.filter(data__icontains=_as_stored(words))
    rows = hits.order_by("-turn", "-position").values_list("turn", RAW)
    return _first_turns(rows.iterator(chunk_size=_CHUNK), words.lower(), limit)


def _first_turns(rows: Iterable[tuple[int, str]], words: str, limit: int) -> list[int]:
    numbers: dict[int, None] = {}
    for turn, data in rows:
        # What the database found may be JSON's own words, such as "content".
        item = None if turn in numbers else decode_item(data)
        if item is not None and words in item_text(item).lower():
            numbers[turn] = None
            if len(numbers) == limit:
                break
    return list(numbers)


def _as_stored(words: str) -> str:
    text = json.dumps(words, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(words)
    return text[1:-1]
