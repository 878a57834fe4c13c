"""
Replacing the end of a history by its summary, for the SDK's compaction session.

What is replaced stays in the table, marked: the agent no longer reads it, a person who
looks at the transcript still can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from django.utils import timezone

from agent_sessions.encoding import decode_item, decode_items
from agent_sessions.exceptions import SessionOwnershipError
from agent_sessions.fields import RAW
from agent_sessions.models import SessionItem, SessionItemQuerySet
from agent_sessions.shapes import Item
from agent_sessions.store.batches import NewItem, encode_batch
from agent_sessions.store.handles import Session, SessionHandle, session_handle
from agent_sessions.store.items import fetch_rows
from agent_sessions.store.statements import portable
from agent_sessions.store.statements.open_turns import find_open_turn
from agent_sessions.store.transactions import Attempt, perform, write_transaction


@dataclass(frozen=True, slots=True)
class Tail:
    """
    The newest items of a session as they stood; ``complete`` if there are no more.
    """

    items: list[Item]
    positions: list[int]
    complete: bool


def read_tail(session: Session, limit: int) -> Tail | None:
    """Return the newest ``limit`` items; None if one of them does not decode."""
    handle = session_handle(session)
    rows = fetch_rows(handle, limit + 1)
    complete = len(rows) <= limit
    rows = rows[-limit:] if limit > 0 else []
    items = decode_items([data for _, data in rows])
    valid = [item for item in items if item is not None]
    if len(valid) < len(items):
        return None
    return Tail(valid, [position for position, _ in rows], complete)


def replace_tail(
    session: Session,
    positions: list[int],
    items: Iterable[Item],
    *,
    prune: Callable[[Item], bool] | None = None,
) -> bool:
    """
    Replace the newest items, which stand at ``positions``, by ``items``.

    All or nothing; False, and nothing done, if the newest items are no longer those.
    ``prune`` names items before them that are deleted, from the oldest on until the
    first that it spares. Raise as append_items() does.
    """
    handle = session_handle(session)
    batch = encode_batch(items)
    if not positions:
        return False
    work = partial(_replace_tail, handle, positions, batch, prune, timezone.now())
    return perform(handle.using, work)


def replace_items(session: Session, items: Iterable[Item]) -> None:
    """
    Replace all items of the session by ``items``, all or nothing.

    Raise TurnGone if a rewind has removed the turn of the run that compacts.
    """
    handle = session_handle(session)
    batch = encode_batch(items)
    perform(handle.using, partial(_replace_all, handle, batch))


def _replace_tail(
    handle: SessionHandle,
    positions: list[int],
    batch: list[NewItem],
    prune: Callable[[Item], bool] | None,
    moment: datetime,
    attempt: Attempt,
) -> bool:
    if attempt.again:
        # Marked at this very moment: by an earlier try, whose answer was lost.
        marked = SessionItem.objects.using(handle.using).filter(
            session__in=handle.rows(), position=positions[0], replaced_at=moment
        )
        if marked.exists():
            return True
    with write_transaction(handle.using):
        live = _lock_live(handle)
        newest = live.order_by("-position").values_list("position", flat=True)
        if sorted(newest[: len(positions)]) != positions:
            return False
        if prune is not None:
            _prune(live.filter(position__lt=positions[0]), prune)
        live.filter(position__gte=positions[0]).update(replaced_at=moment)
        _finish(handle, batch)
    return True


def _replace_all(handle: SessionHandle, batch: list[NewItem], attempt: Attempt) -> None:
    if attempt.again and batch and portable.find_batch(handle, batch):
        return
    with write_transaction(handle.using):
        live = _lock_live(handle)
        _refuse_rewound(handle)
        live.update(replaced_at=timezone.now())
        _finish(handle, batch)


def _lock_live(handle: SessionHandle) -> SessionItemQuerySet:
    while (pk := handle.lock()) is None:
        if not handle.is_there():
            break
    items = SessionItem.objects.using(handle.using)
    return items.filter(session_id=pk).live().select_for_update()


def _refuse_rewound(handle: SessionHandle) -> None:
    # The items that come may repeat what a rewind has removed meanwhile.
    columns = handle.rows().select_for_update()
    row = columns.values_list("pk", "next_turn", "rewound_before").first()
    if row is not None and handle.turn is not None:
        pk, next_turn, rewound_before = row
        find_open_turn(
            handle,
            [],
            session=pk,
            last_turn=next_turn - 1,
            rewound_before=rewound_before,
        )


def _prune(older: SessionItemQuerySet, prune: Callable[[Item], bool]) -> None:
    end = None
    rows = older.order_by("position").values_list("position", RAW)
    for position, data in rows.iterator(chunk_size=500):
        item = decode_item(data)
        if item is None or not prune(item):
            break
        end = position
    if end is not None:
        older.filter(position__lte=end).delete()


def _finish(handle: SessionHandle, batch: list[NewItem]) -> None:
    # What stays is counted anew: this is rare, and it is under the lock.
    rows = handle.rows()
    live = SessionItem.objects.using(handle.using).filter(session__in=rows).live()
    rows.update(
        item_count=live.count(),
        turn_count=live.filter(role="user").count(),
        updated_at=timezone.now(),
    )
    if batch and portable.append(handle, batch, None, Attempt()) is None:
        raise SessionOwnershipError("The session is not open to this user.")
