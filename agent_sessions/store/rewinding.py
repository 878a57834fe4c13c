"""
Taking a session back, to ask again or to ask something else.

Neither positions nor turn numbers are used again. So a run that is still writing to a
turn that is gone is told so (TurnGone), and what it began is not written by half.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from django.utils import timezone

from agent_sessions.exceptions import SessionGone, TurnGone
from agent_sessions.identifiers import uuid7
from agent_sessions.models import AgentSession, SessionItem, SessionItemQuerySet
from agent_sessions.shapes import Item, item_role
from agent_sessions.signals import session_created, session_rewound
from agent_sessions.store.announcements import announce
from agent_sessions.store.cuts import Cut, InsideSummary, cut_before, find_cut
from agent_sessions.store.forks import copy_session, draft_copy
from agent_sessions.store.handles import (
    Session,
    SessionHandle,
    perform_on,
    row_handle,
    session_handle,
)
from agent_sessions.store.items import warn_broken
from agent_sessions.store.leases import refuse_leased
from agent_sessions.store.limits import refuse_many
from agent_sessions.store.owners import User
from agent_sessions.store.previews import read_preview
from agent_sessions.store.sessions import refuse_changed
from agent_sessions.store.statements.open_turns import locked_items
from agent_sessions.store.transactions import Attempt, write_transaction

_CHUNK = 20
# What Runner.run() takes as input, beside the user's message.
_INPUT_ROLES = {"user", "system", "developer"}


@dataclass(slots=True)
class Rewound:
    """
    What a rewind has done: ``session`` as it is now, ``rows`` that were removed, oldest
    first, and ``kept``, the copy of it all, if one was wanted.
    """

    cut: Cut
    session: AgentSession
    rows: list[SessionItem]
    kept: AgentSession | None = None

    @property
    def items(self) -> list[Item]:
        """The items that were removed; rows that do not decode are none."""
        return [row.data for row in self.rows if isinstance(row.data, dict)]

    @property
    def broken(self) -> list[int]:
        """The positions of rows that do not decode."""
        return [row.position for row in self.rows if not isinstance(row.data, dict)]

    @property
    def opening(self) -> list[Item]:
        """Those of the first turn that was removed."""
        turn = self.cut.turn
        rows = [row for row in self.rows if row.turn == turn]
        return [row.data for row in rows if isinstance(row.data, dict)]


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
    choose = cut_before(before_turn)
    handle = session_handle(session, user=user, using=using)
    return _rewind(handle, choose, keep).items


def take_back_turns(
    session: Session,
    *,
    before_turn: int,
    keep: bool = False,
    revisions: Collection[int] | None = None,
    user: User = None,
    using: str | None = None,
) -> Rewound:
    """
    Rewind as rewind_session() does, for a person, and return all that was done.

    A person waits for a run to end: raise SessionBusy while one holds the session. The
    copy that ``keep`` makes counts: raise TooManySessions if the user may have no more.
    With ``revisions`` the row must have one of them: raise SessionChanged. In all three
    cases nothing is done.
    """
    choose = cut_before(before_turn)
    handle = session_handle(session, user=user, using=using)

    def refuse(now: SessionHandle, row: AgentSession) -> None:
        refuse_changed(row, revisions)
        refuse_leased(now, row)

    return _rewind(handle, choose, keep, refuse)


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


def _rewind(
    handle: SessionHandle,
    choose: Callable[[SessionItemQuerySet], Cut],
    keep: bool,
    refuse: Callable[[SessionHandle, AgentSession], None] | None = None,
) -> Rewound:
    tried: list[Rewound] = []
    key = uuid7()

    def work(now: SessionHandle, attempt: Attempt) -> Rewound | None:
        with write_transaction(now.using):
            pk = now.lock()
            if pk is None:
                return None
            items = locked_items(pk, now.using)
            if attempt.again and tried and _is_gone(items, tried[-1].cut):
                # By an earlier try, whose answer was lost.
                return tried[-1]
            row = now.rows().select_for_update().get()
            if refuse is not None:
                refuse(now, row)
            cut = choose(items)
            rows = list(items.filter(cut.behind()).order_by("position"))
            rewound = Rewound(cut, row, rows)
            tried.append(rewound)
            if keep:
                kept = rewound.kept = draft_copy(row, key, timezone.now())
                kept.archived_at, kept.updated_at = kept.forked_at, row.updated_at
                copy_session(row, kept, None, using=now.using)
                if refuse is not None:
                    refuse_many(kept.user_id, using=now.using)
            _remove(items, rewound)
        return rewound

    rewound = perform_on(handle, work)
    if rewound is None:
        raise SessionGone("There is no such session.")
    handle.pin(rewound.session.pk)
    if broken := rewound.broken:
        warn_broken(rewound.session.pk, broken, "removed")
    if rewound.kept is not None:
        announce(session_created, row_handle(rewound.kept), key)
    announce(
        session_rewound,
        handle,
        rewound.session.pk,
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


def _remove(items: SessionItemQuerySet, rewound: Rewound) -> None:
    cut, row = rewound.cut, rewound.session
    removed = [item for item in rewound.rows if item.replaced_at is None]
    turns = [item for item in removed if item.role == "user"]
    items.filter(cut.behind()).delete()
    cut.mend(items)
    changes: dict[str, Any] = {
        "rewound_before": row.next_turn,
        "item_count": max(0, row.item_count - len(removed)),
        "turn_count": max(0, row.turn_count - len(turns)),
        "updated_at": timezone.now(),
    }
    if cut.restored:
        live = items.live()
        changes["item_count"] = live.count()
        changes["turn_count"] = live.filter(role="user").count()
    if row.preview:
        changes["preview"] = read_preview(items) if changes["turn_count"] else ""
    for name, value in changes.items():
        setattr(row, name, value)
    AgentSession.objects.using(items.db).filter(pk=row.pk).update(**changes)
