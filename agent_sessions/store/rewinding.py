"""
Taking a session back, to ask again or to ask something else.

Neither positions nor turn numbers are used again. So a run that is still writing to a
turn that is gone is told so (TurnGone), and what it began is not written by half.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

from django.utils import timezone

from agent_sessions.encoding import decode_item
from agent_sessions.exceptions import SessionGone, TurnGone
from agent_sessions.fields import RAW
from agent_sessions.identifiers import uuid7
from agent_sessions.models import AgentSession, SessionItemQuerySet
from agent_sessions.shapes import Item, item_role
from agent_sessions.signals import session_created, session_rewound
from agent_sessions.store.announcements import announce
from agent_sessions.store.cuts import Cut, InsideSummary, find_cut
from agent_sessions.store.forks import copy_session, draft_copy
from agent_sessions.store.handles import (
    Session,
    SessionHandle,
    perform_on,
    row_handle,
    session_handle,
)
from agent_sessions.store.owners import User
from agent_sessions.store.previews import read_preview
from agent_sessions.store.statements.open_turns import locked_items
from agent_sessions.store.transactions import Attempt, write_transaction

logger = logging.getLogger("agent_sessions")

_CHUNK = 20
# What Runner.run() takes as input, beside the user's message.
_INPUT_ROLES = {"user", "system", "developer"}


def rewind_session(
    session: Session,
    *,
    before_turn: int,
    keep: bool = False,
    user: User = None,
    using: str | None = None,
) -> list[Item]:
    """
    Remove this turn and all after it, and return what was removed, oldest first.

    With ``keep`` the session is copied as it was: an archived fork, among get_forks().

    What compaction has replaced of them goes too; a compaction that came later is
    undone, and what it replaced of earlier turns is read again. Outputs of tools stay
    with their calls. Raise TurnGone if there is no such turn, TurnCompacted if it was
    written by a compaction, ValueError unless it is 1 or higher, SessionGone if there
    is no such session, SessionOwnershipError if it is not open to ``user``.
    """
    if before_turn < 1:
        raise ValueError("Turn 0 has no beginning; clear_session() removes all items.")
    handle = session_handle(session, user=user, using=using)
    return _rewind(handle, partial(find_cut, turn=before_turn), keep).items


def retry_session(
    session: Session,
    *,
    keep: bool = False,
    user: User = None,
    using: str | None = None,
) -> list[Item]:
    """
    Remove the last turn and return what had opened it, as input for another run.

    That is the user's message, with messages of the system or developer that follow it
    at once. ``keep`` and errors are as in rewind_session().
    """
    handle = session_handle(session, user=user, using=using)
    items = []
    for item in _rewind(handle, _find_last_cut, keep).opening:
        if item_role(item) not in _INPUT_ROLES:
            break
        items.append(item)
    return items


@dataclass(slots=True)
class _Rewound:
    """What a try has removed: ``opening`` of the first turn, ``kept`` a copy of all."""

    pk: UUID
    cut: Cut
    items: list[Item] = field(default_factory=list)
    opening: list[Item] = field(default_factory=list)
    live: int = 0
    live_turns: int = 0
    kept: AgentSession | None = None


def _rewind(
    handle: SessionHandle, choose: Callable[[SessionItemQuerySet], Cut], keep: bool
) -> _Rewound:
    tried: list[_Rewound] = []
    key = uuid7()

    def work(now: SessionHandle, attempt: Attempt) -> _Rewound | None:
        with write_transaction(now.using):
            pk = now.lock()
            if pk is None:
                return None
            items = locked_items(pk, now.using)
            if attempt.again and tried and _is_gone(items, tried[-1].cut):
                # By an earlier try, whose answer was lost.
                return tried[-1]
            cut = choose(items)
            rewound = _read(items, pk, cut)
            tried.append(rewound)
            row = now.rows().select_for_update().get()
            if keep:
                kept = rewound.kept = draft_copy(row, key, timezone.now())
                kept.archived_at, kept.updated_at = kept.forked_at, row.updated_at
                copy_session(row, kept, None, using=now.using)
            _remove(items, row, rewound)
        return rewound

    rewound = perform_on(handle, work)
    if rewound is None:
        raise SessionGone("There is no such session.")
    handle.pin(rewound.pk)
    if rewound.kept is not None:
        announce(session_created, row_handle(rewound.kept), key)
    announce(
        session_rewound,
        handle,
        rewound.pk,
        before_turn=rewound.cut.turn,
        count=len(rewound.items),
    )
    return rewound


def _is_gone(items: SessionItemQuerySet, cut: Cut) -> bool:
    opening = items.filter(position=cut.first_position).values_list("pk")
    return opening.first() is None


def _find_last_cut(items: SessionItemQuerySet) -> Cut:
    messages = items.filter(role="user").order_by("-position")
    for turn in messages.values_list("turn", flat=True).iterator(chunk_size=_CHUNK):
        try:
            return find_cut(items, turn)
        except InsideSummary:
            # The copy of a message: the message itself comes next.
            continue
    raise TurnGone("The session has no turn to retry.")


def _read(items: SessionItemQuerySet, pk: UUID, cut: Cut) -> _Rewound:
    rewound = _Rewound(pk, cut)
    rows = items.filter(cut.behind()).order_by("position")
    broken = []
    for position, turn, role, replaced_at, text in rows.values_list(
        "position", "turn", "role", "replaced_at", RAW
    ):
        if replaced_at is None:
            rewound.live += 1
            rewound.live_turns += role == "user"
        item = decode_item(text)
        if item is None:
            broken.append(position)
            continue
        rewound.items.append(item)
        if turn == cut.turn:
            rewound.opening.append(item)
    if broken:
        logger.warning(
            "Rows of session %s do not decode and were removed: positions %s.",
            pk,
            ", ".join(map(str, broken)),
        )
    return rewound


def _remove(items: SessionItemQuerySet, row: AgentSession, rewound: _Rewound) -> None:
    cut = rewound.cut
    items.filter(cut.behind()).delete()
    cut.mend(items)
    changes: dict[str, Any] = {
        "rewound_before": row.next_turn,
        "item_count": max(0, row.item_count - rewound.live),
        "turn_count": max(0, row.turn_count - rewound.live_turns),
        "updated_at": timezone.now(),
    }
    if cut.restored:
        live = items.live()
        changes["item_count"] = live.count()
        changes["turn_count"] = live.filter(role="user").count()
    if row.preview:
        changes["preview"] = read_preview(items) if changes["turn_count"] else ""
    AgentSession.objects.using(items.db).filter(pk=row.pk).update(**changes)
