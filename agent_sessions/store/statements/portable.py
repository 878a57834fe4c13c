"""
The hot verbs in plain ORM: right on every database, and the reference for the others.

Each function is one transaction and its first statement writes the session row: that
takes the row's lock everywhere, and SQLite becomes the writer at once instead of
failing later with "database is locked".
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import (
    Case,
    F,
    Subquery,
    Value,
    When,
)
from django.utils import timezone

from agent_sessions.encoding import decode_item
from agent_sessions.fields import RAW
from agent_sessions.models import (
    AgentSession,
    SessionItem,
    SessionItemQuerySet,
    TurnUsage,
)
from agent_sessions.store.batches import NewItem, batch_preview, split_batch
from agent_sessions.store.handles import SessionHandle
from agent_sessions.store.limits import refuse_full, refuse_many
from agent_sessions.store.statements.open_turns import find_open_turn
from agent_sessions.store.statements.results import Appended, Found, Popped
from agent_sessions.store.transactions import Attempt, write_transaction
from agent_sessions.usage import TokenUsage, usage_day

# What every database takes in one statement.
_KEYS = 500


def append(
    handle: SessionHandle,
    batch: list[NewItem],
    usage: TokenUsage | None,
    attempt: Attempt,
) -> Appended | None:
    """Store the batch behind the session's last item; None if it is not open."""
    if attempt.again and (done := find_batch(handle, batch)):
        return done
    parts = split_batch(batch, using=handle.using)
    now = timezone.now()
    with write_transaction(handle.using):
        created = None
        if not _reserve(handle, batch):
            if handle.pk is not None:
                return None
            created = create_row(handle, now)
            refuse_many(handle.user_id, using=handle.using)
            if not _reserve(handle, batch):
                return None
        # Reserved and locked by this transaction: nobody else moves these meanwhile.
        columns = ("pk", "next_position", "next_turn", "rewound_before", "item_count")
        pk, end, next_turn, rewound_before, item_count = (
            handle.rows().values_list(*columns).get()
        )
        refuse_full(item_count)
        opened = sum(item.starts_turn for item in batch)
        first_position = position = end - len(batch)
        turn = next_turn - opened - 1
        current = turn
        if not batch[0].starts_turn:
            current = find_open_turn(
                handle,
                batch,
                session=pk,
                last_turn=turn,
                rewound_before=rewound_before,
            )
        for part in parts:
            rows = []
            for item in part:
                if item.starts_turn:
                    turn += 1
                    current = turn
                rows.append(
                    SessionItem(
                        id=item.id,
                        session_id=pk,
                        position=position,
                        turn=current,
                        type=item.type,
                        role=item.role,
                        data=item.data,
                        created_at=now,
                    )
                )
                position += 1
            SessionItem.objects.using(handle.using).bulk_create(rows)
        if usage:
            count_usage(pk, current, usage, using=handle.using, now=now)
    return Appended(pk, first_position, len(batch), current, created=pk == created)


def find_batch(handle: SessionHandle, batch: list[NewItem]) -> Appended | None:
    """Return where an earlier try stored the batch, if it did before it was cut off."""
    items = SessionItem.objects.using(handle.using).order_by("-position")
    index = {item.id: number for number, item in enumerate(batch)}
    keys = list(index)
    # Any will do, some may have been popped or pruned meanwhile. The newest knows most.
    for end in range(len(keys), 0, -_KEYS):
        found = (
            items.filter(pk__in=keys[max(0, end - _KEYS) : end])
            .select_related("session")
            .defer("data")
            .first()
        )
        if found is not None:
            first_position = found.position - index[found.pk]
            # Who makes a session with its first items gives both the same time.
            created = first_position == 0 and (
                found.created_at == found.session.created_at
            )
            return Appended(
                found.session_id, first_position, len(batch), found.turn, created
            )
    return None


def read(handle: SessionHandle, limit: int | None, *, turn: int | None = None) -> Found:
    """
    Return the session and its newest ``limit`` live rows, oldest first.

    With ``turn`` only those of that turn.
    """
    items = _items(handle).filter(replaced_at=None).order_by("-position")
    rows = items.values_list("session_id", "position", RAW)
    if turn is not None:
        # All of the turn: for a few of them PostgreSQL might walk there from the end.
        newest = list(rows.filter(turn=turn))[:limit]
    else:
        newest = list(rows if limit is None else rows[:limit])
    session = handle.rows().values_list("pk", flat=True)
    pk = newest[0][0] if newest else session.first()
    exists = pk is not None or handle.is_there()
    return Found(
        pk, [(position, data) for _, position, data in reversed(newest)], exists
    )


def pop(handle: SessionHandle, attempt: Attempt) -> Popped | None:
    """
    Remove the newest live item that decodes, with the broken ones behind it.

    None if the session is not open.
    """
    with write_transaction(handle.using):
        pk = handle.lock()
        if pk is None:
            return None
        items = SessionItem.objects.using(handle.using).filter(session=pk)
        broken: list[int] = []
        popped = None
        removed = turns = 0
        newest = (
            items.live()
            .order_by("-position")
            .select_for_update()
            .values_list("position", "role", RAW)
        )
        while popped is None and (row := newest.first()):
            position, role, data = row
            items.filter(position=position).delete()
            removed += 1
            turns += role == "user"
            popped = decode_item(data)
            if popped is None:
                broken.append(position)
        if removed:
            _count_removed(handle, removed, turns)
        attempt.sealed = True
    return Popped(pk, popped, broken)


def clear(handle: SessionHandle, attempt: Attempt) -> UUID | None:
    """Remove all items, replaced ones too; None if the session is not open."""
    with write_transaction(handle.using):
        emptied = handle.rows().update(
            item_count=0, turn_count=0, preview="", updated_at=timezone.now()
        )
        if not emptied:
            return None
        pk: UUID = handle.rows().values_list("pk", flat=True).get()
        SessionItem.objects.using(handle.using).filter(session=pk).delete()
    return pk


def count_usage(
    session: UUID, turn: int, usage: TokenUsage, *, using: str, now: datetime
) -> None:
    """Add the usage to the row of the turn; the session's row is locked."""
    rows = TurnUsage.objects.using(using)
    counts = asdict(usage)
    added = {name: F(name) + count for name, count in counts.items()}
    if not rows.filter(session=session, turn=turn).update(**added):
        rows.create(session_id=session, turn=turn, day=usage_day(now), **counts)


def copy(items: SessionItemQuerySet, session: UUID) -> None:
    """Copy these items, with their positions and turns, into another session."""
    names = ("position", "turn", "type", "role", "created_at", "replaced_at")
    rows, last = items.order_by("position").values_list(*names, RAW), -1
    while page := list(rows.filter(position__gt=last)[:_KEYS]):
        copies = [
            SessionItem(
                session_id=session, data=text, **dict(zip(names, values, strict=True))
            )
            for *values, text in page
        ]
        SessionItem.objects.using(items.db).bulk_create(copies)
        last = copies[-1].position


def _reserve(handle: SessionHandle, batch: list[NewItem]) -> int:
    opened = sum(item.starts_turn for item in batch)
    changes: dict[str, Any] = {
        "next_position": F("next_position") + len(batch),
        "item_count": F("item_count") + len(batch),
        "updated_at": timezone.now(),
    }
    if opened:
        changes["next_turn"] = F("next_turn") + opened
        changes["turn_count"] = F("turn_count") + opened
    if preview := batch_preview(batch):
        changes["preview"] = Case(
            When(preview="", then=Value(preview)), default=F("preview")
        )
    return handle.rows().update(**changes)


def _count_removed(handle: SessionHandle, items: int, turns: int) -> None:
    changes: dict[str, Any] = {}
    if turns:
        # Before turn_count: MySQL computes from left to right, with the new values.
        last = When(turn_count__lte=turns, then=Value(""))
        changes["preview"] = Case(last, default=F("preview"))
        changes["turn_count"] = _less("turn_count", turns)
    changes["item_count"] = _less("item_count", items)
    changes["updated_at"] = timezone.now()
    handle.rows().update(**changes)


def create_row(handle: SessionHandle, now: datetime) -> UUID:
    """Make the session's row, unless somebody else is faster; return its key if not."""
    # In the caller's transaction a foreign key may fail only at its very end.
    handle.refuse_missing_user()
    row = AgentSession(
        session_id=handle.session_id,
        user_id=handle.user_id,
        owned_at=None if handle.user_id is None else now,
        created_at=now,
        updated_at=now,
    )
    # Another writer may be creating the same session: whoever is second finds the row.
    AgentSession.objects.using(handle.using).bulk_create([row], ignore_conflicts=True)
    return row.pk


def _items(handle: SessionHandle) -> SessionItemQuerySet:
    # A scalar sub-select: with a JOIN PostgreSQL sorts the whole history.
    # Cut to one row, which Django 6.1 asks for.
    session = Subquery(handle.rows().order_by().values("pk")[:1])
    return SessionItem.objects.using(handle.using).filter(session_id=session)


def _less(counter: str, count: int) -> Case:
    # Never below zero: MySQL's unsigned columns refuse even to compute it.
    enough = When(**{f"{counter}__gte": count}, then=F(counter) - count)
    return Case(enough, default=Value(0))
