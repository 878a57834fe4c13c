"""
Copies of sessions that know where they come from.

Lineage is a plain UUID and no foreign key: whichever side is deleted, the other stays
whole, and deleting costs no look at forks.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from django.db.models import Max
from django.utils import timezone

from agent_sessions.exceptions import SessionGone
from agent_sessions.identifiers import new_session_id, uuid7
from agent_sessions.models import AgentSession
from agent_sessions.signals import session_created
from agent_sessions.store.announcements import announce
from agent_sessions.store.cuts import Cut, cut_before
from agent_sessions.store.handles import (
    Session,
    SessionHandle,
    perform_on,
    row_handle,
    session_handle,
)
from agent_sessions.store.limits import refuse_many
from agent_sessions.store.owners import User
from agent_sessions.store.previews import read_preview
from agent_sessions.store.sessions import clean_title, refuse_changed
from agent_sessions.store.statements.dispatch import statements
from agent_sessions.store.statements.open_turns import locked_items
from agent_sessions.store.transactions import Attempt, write_transaction


def fork_session(
    session: Session,
    *,
    before_turn: int | None = None,
    title: str | None = None,
    revisions: Collection[int] | None = None,
    user: User = None,
    using: str | None = None,
) -> AgentSession:
    """
    Copy the session with its items, up to before a turn, and return the copy's row.

    It belongs to the same user and has an id of its own; title and metadata are those
    of the session, unless ``title`` is given. What compaction has replaced is copied
    too; what it replaced after the cut is read again. With ``revisions`` the row must
    have one of them, else SessionChanged is raised. Raise TurnGone, TurnCompacted or
    ValueError as rewind_session() does, InvalidTitle, TooManySessions, SessionGone if
    there is no such session, SessionOwnershipError if it is not open to ``user``.
    """
    handle = session_handle(session, user=user, using=using)
    choose = None if before_turn is None else cut_before(before_turn)
    if title is not None:
        clean_title(title)
    key, moment = uuid7(), timezone.now()

    def work(now: SessionHandle, attempt: Attempt) -> AgentSession | None:
        if attempt.again:
            made = AgentSession.objects.using(now.using).filter(pk=key).first()
            if made is not None:
                return made
        with write_transaction(now.using):
            pk = now.lock()
            if pk is None:
                return None
            source = now.rows().select_for_update().get()
            refuse_changed(source, revisions)
            cut = choose and choose(locked_items(pk, now.using))
            copy = draft_copy(source, key, moment)
            if title is not None:
                copy.title = title
            copy_session(source, copy, cut, using=now.using)
            refuse_many(copy.user_id, using=now.using)
        return copy

    copy = perform_on(handle, work)
    if copy is None:
        raise SessionGone("There is no such session.")
    announce(session_created, row_handle(copy), copy.pk)
    return copy


def get_forks(
    session: Session,
    *,
    user: User = None,
    limit: int | None = None,
    using: str | None = None,
) -> list[AgentSession]:
    """
    Return the session's forks that have the same owner, newest first.

    Archived ones too: a rewind keeps the older course as one. Not the forks of forks.
    Raise SessionOwnershipError if the session is not open to ``user``.
    """
    handle = session_handle(session, user=user, using=using)
    if limit is not None and limit < 0:
        raise ValueError("limit cannot be negative.")

    def work(now: SessionHandle, attempt: Attempt) -> list[AgentSession] | None:
        pk = now.rows().values_list("pk", flat=True).first()
        if pk is None:
            return None
        forks = AgentSession.objects.using(now.using).filter(forked_from=pk)
        if now.user_id is not None:
            forks = forks.filter(user_id=now.user_id)
        else:
            forks = forks.filter(user=None, owned_at__isnull=not now.orphaned)
        return list(forks.order_by("-forked_at", "-id")[:limit])

    return perform_on(handle, work) or []


def draft_copy(source: AgentSession, key: UUID, moment: datetime) -> AgentSession:
    """Return a row for a copy of the whole session, not saved."""
    return AgentSession(
        id=key,
        session_id=new_session_id(),
        user_id=source.user_id,
        # The copy of an orphan is one.
        owned_at=source.owned_at if source.user_id is None else moment,
        title=source.title,
        preview=source.preview,
        metadata=source.metadata,
        item_count=source.item_count,
        turn_count=source.turn_count,
        next_position=source.next_position,
        next_turn=source.next_turn,
        forked_from=source.pk,
        forked_at=moment,
        created_at=moment,
        updated_at=moment,
    )


def copy_session(
    source: AgentSession, copy: AgentSession, cut: Cut | None, *, using: str
) -> None:
    """Save ``copy`` with the items of ``source`` up to the cut; both are locked."""
    copy.save(force_insert=True, using=using)
    items = locked_items(source.pk, using)
    if cut is None:
        statements(using).copy(items, copy.pk)
        return
    statements(using).copy(items.exclude(cut.behind()), copy.pk)
    copied = locked_items(copy.pk, using)
    cut.mend(copied)
    live = copied.live()
    last = copied.aggregate(position=Max("position"), turn=Max("turn"))
    copy.item_count = live.count()
    copy.turn_count = live.filter(role="user").count()
    copy.next_position = 0 if last["position"] is None else last["position"] + 1
    copy.next_turn = (last["turn"] or 0) + 1
    copy.preview = read_preview(copied) if copy.turn_count and copy.preview else ""
    copy.save(using=using)
