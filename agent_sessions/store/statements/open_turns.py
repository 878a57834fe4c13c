"""Which turn goes on where a batch does not begin with a user's message."""

from __future__ import annotations

from uuid import UUID

from django.db import connections

from agent_sessions.exceptions import TurnGone
from agent_sessions.models import SessionItem, SessionItemQuerySet
from agent_sessions.store.batches import NewItem
from agent_sessions.store.handles import SessionHandle
from agent_sessions.store.pairs import find_calls, find_unanswered


def locked_items(session: UUID, using: str) -> SessionItemQuerySet:
    """Return the items of a session that this transaction has locked."""
    items = SessionItem.objects.using(using).filter(session=session)
    if connections[using].vendor == "mysql":
        # Not from a snapshot that is older than the lock.
        return items.select_for_update()
    return items


def find_open_turn(
    handle: SessionHandle,
    batch: list[NewItem],
    *,
    session: UUID,
    last_turn: int,
    rewound_before: int,
) -> int:
    """
    Return the turn of what comes before the batch's first user message.

    It is the one that the handle has opened, or the session's last. Under the session's
    lock. Raise TurnGone if a rewind has removed it since.
    """
    if rewound_before <= (handle.turn or 0):
        return last_turn if handle.turn is None else handle.turn
    items = locked_items(session, handle.using)
    if handle.turn is not None:
        if items.filter(turn=handle.turn).values_list("pk").first() is None:
            raise TurnGone("The turn was removed by a rewind while this run went on.")
        return handle.turn
    # Nobody knows whose batch this is, but what it answers must still be there.
    answered = find_unanswered(item.data for item in batch)
    if len(find_calls(items, answered)) < len(answered):
        raise TurnGone("The call that an output answers was removed by a rewind.")
    if last_turn >= rewound_before:
        return last_turn
    return items.order_by("-turn").values_list("turn", flat=True).first() or 0
