from __future__ import annotations

import unicodedata
from collections.abc import Collection
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from django.db import IntegrityError
from django.utils import timezone

from agent_sessions.exceptions import (
    InvalidSessionId,
    InvalidTitle,
    InvalidUser,
    SessionChanged,
    SessionExists,
    SessionGone,
    SessionOwnershipError,
)
from agent_sessions.identifiers import clean_session_id, new_session_id
from agent_sessions.metadata import Metadata, clean_metadata, merge_patch
from agent_sessions.models import (
    TITLE_MAX_LENGTH,
    AgentSession,
    AgentSessionQuerySet,
    SessionItem,
)
from agent_sessions.signals import session_claimed, session_created
from agent_sessions.store.announcements import announce
from agent_sessions.store.handles import (
    Session,
    SessionHandle,
    perform_on,
    row_handle,
    session_alias,
    session_handle,
)
from agent_sessions.store.limits import refuse_many
from agent_sessions.store.owners import User, owner_id
from agent_sessions.store.transactions import Attempt, perform, write_transaction


def create_session(
    user: User,
    *,
    title: str = "",
    metadata: Metadata | None = None,
    session_id: str | None = None,
    using: str | None = None,
) -> AgentSession:
    """
    Create a session and return its row; anonymous if there is no user.

    Without ``session_id`` a random UUID is made. Raise SessionExists if the id is
    taken, InvalidSessionId, InvalidTitle, InvalidMetadata or InvalidUser for bad
    values, TooManySessions if the user may have no more.
    """
    now = timezone.now()
    user_id = owner_id(user)
    row = AgentSession(
        session_id=new_session_id()
        if session_id is None
        else clean_session_id(session_id),
        user_id=user_id,
        owned_at=None if user_id is None else now,
        title=clean_title(title),
        metadata=clean_metadata({} if metadata is None else metadata),
        created_at=now,
        updated_at=now,
    )
    alias = session_alias(using)
    perform(alias, partial(_insert, row, alias))
    announce(session_created, row_handle(row), row.pk)
    return row


def get_session(
    user: User, session_id: str, *, using: str | None = None
) -> AgentSession | None:
    """
    Return the session if it is open to this user, else None.

    None is also the answer to ids that no session can have. Without a user only
    sessions that never had an owner are open.
    """
    try:
        handle = session_handle(session_id, user=user, using=using)
    except InvalidSessionId:
        return None
    return perform(handle.using, lambda _: handle.rows().first())


def get_sessions(
    user: User,
    *,
    limit: int | None = None,
    offset: int = 0,
    include_archived: bool = False,
    using: str | None = None,
) -> list[AgentSession]:
    """
    Return the user's sessions, newest activity first; none without a user.

    Raise ValueError if ``limit`` or ``offset`` is negative.
    """
    rows = _recent(user, using=using)
    if not include_archived:
        rows = rows.active()
    page = rows[_page(limit, offset)]
    return perform(rows.db, lambda _: list(page.all()))


def get_sessions_for_user(
    user: User, *, limit: int | None = None, offset: int = 0, using: str | None = None
) -> list[str]:
    """
    Return the ids of the user's sessions, as get_sessions() orders them.

    Raise ValueError if ``limit`` or ``offset`` is negative.
    """
    rows = _recent(user, using=using).active()
    page = rows.values_list("session_id", flat=True)[_page(limit, offset)]
    return perform(rows.db, lambda _: list(page.all()))


def claim_session(session: Session, user: User, *, using: str | None = None) -> None:
    """
    Make an anonymous session this user's.

    Of several claims at once exactly one wins; the winner may repeat it. Raise
    InvalidUser without a user, SessionGone if there is no such session, and
    SessionOwnershipError if it has, or ever had, another owner.
    """
    handle = session_handle(session, using=using)
    user_id = owner_id(user)
    if user_id is None:
        raise InvalidUser("Only a user can claim a session.")
    if handle.orphaned or handle.user_id not in (None, user_id):
        raise SessionOwnershipError("The session is not open to this user.")
    claimed = perform_on(handle, partial(_claim, user_id, timezone.now()))
    if claimed is None:
        raise SessionGone("There is no such session to claim.")
    pk, changed = claimed
    handle.learn(user_id=user_id)
    handle.pin(pk)
    if changed:
        announce(session_claimed, handle, pk)


def update_session(
    session: Session,
    *,
    user: User = None,
    title: str | None = None,
    metadata: Metadata | None = None,
    metadata_patch: Metadata | None = None,
    archived: bool | None = None,
    revisions: Collection[int] | None = None,
    using: str | None = None,
) -> AgentSession:
    """
    Change what people keep about a session and return its row; None leaves a value.

    ``metadata`` replaces the whole, ``metadata_patch`` is a JSON merge patch, merged
    under the row's lock. Raises ``revision`` by one and leaves the last activity alone.
    With ``revisions`` the row must have one of them, else SessionChanged is raised and
    nothing done. Raise InvalidTitle, InvalidMetadata, SessionOwnershipError, or
    SessionGone if there is no such session.
    """
    handle = session_handle(session, user=user, using=using)
    if metadata is not None and metadata_patch is not None:
        raise TypeError("Give metadata or metadata_patch, not both.")
    changes: dict[str, Any] = {}
    if title is not None:
        changes["title"] = clean_title(title)
    if metadata is not None:
        changes["metadata"] = clean_metadata(metadata)
    if metadata_patch is not None:
        clean_metadata(metadata_patch)
    if archived is not None:
        changes["archived_at"] = timezone.now() if archived else None
    revision: int | None = None

    def work(now: SessionHandle, attempt: Attempt) -> AgentSession | None:
        nonlocal revision
        with write_transaction(now.using):
            if now.lock() is None:
                return None
            row = now.rows().select_for_update().get()
            if metadata_patch is not None:
                merged = merge_patch(row.metadata, metadata_patch)
                changes["metadata"] = clean_metadata(merged)
            if revision is not None and row.revision >= revision and _has(row, changes):
                # By an earlier try, whose answer was lost.
                return row
            refuse_changed(row, revisions)
            if changes:
                revision = row.revision = row.revision + 1
                for name, value in changes.items():
                    setattr(row, name, value)
                now.rows().update(**changes, revision=revision)
        return row

    changed = perform_on(handle, work)
    if changed is None:
        raise SessionGone("There is no such session.")
    return changed


def delete_session(
    session: Session,
    *,
    user: User = None,
    revisions: Collection[int] | None = None,
    using: str | None = None,
) -> bool:
    """
    Delete the session with all its items; return False if there is none.

    An agent that still runs on it gets SessionGone. With ``revisions`` the row must
    have one of them, else SessionChanged is raised and nothing done. Raise
    SessionOwnershipError if the session is not open to ``user``.
    """
    handle = session_handle(session, user=user, using=using)
    found: bool | None = None

    def work(now: SessionHandle, attempt: Attempt) -> bool | None:
        nonlocal found
        with write_transaction(now.using):
            # The lock first: an append that waits here finds the row gone, and an
            # append that came first is in time to be deleted.
            pk = now.lock()
            if pk is None:
                # Gone, if an earlier try's answer was lost; otherwise not there.
                return found
            if revisions is not None:
                refuse_changed(now.rows().select_for_update().get(), revisions)
            found = True
            SessionItem.objects.using(now.using).filter(session=pk).delete()
            AgentSession.objects.using(now.using).filter(pk=pk).delete()
        return True

    try:
        return perform_on(handle, work) is not None
    except SessionGone:
        return False


def clean_title(title: str) -> str:
    """Return ``title`` if every database can keep it. Raise InvalidTitle."""
    if not isinstance(title, str):
        raise InvalidTitle(f"A title is a string, not {type(title).__name__}.")
    if len(title) > TITLE_MAX_LENGTH:
        raise InvalidTitle(f"A title has at most {TITLE_MAX_LENGTH} characters.")
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in title):
        raise InvalidTitle("A title cannot hold control characters or lone surrogates.")
    return title


def refuse_changed(row: AgentSession, revisions: Collection[int] | None) -> None:
    """Raise SessionChanged unless the row, which is locked, has one of them."""
    if revisions is not None and row.revision not in revisions:
        raise SessionChanged("The session was changed since it was read.")


def _has(row: AgentSession, values: dict[str, Any]) -> bool:
    return all(getattr(row, name) == value for name, value in values.items())


def _insert(row: AgentSession, alias: str, attempt: Attempt) -> None:
    handle = SessionHandle(row.session_id, row.user_id, alias)
    try:
        with write_transaction(alias):
            # A write first, for SQLite.
            row.save(force_insert=True, using=alias)
            refuse_many(row.user_id, using=alias)
            # In the caller's transaction the key may fail only at its end.
            handle.refuse_missing_user()
    except IntegrityError:
        sessions = AgentSession.objects.using(alias)
        if attempt.again and sessions.filter(pk=row.pk).exists():
            return
        if sessions.filter(session_id=row.session_id).exists():
            raise SessionExists("This session id is taken.") from None
        handle.refuse_missing_user()
        raise


def _claim(
    user_id: Any, moment: datetime, handle: SessionHandle, attempt: Attempt
) -> tuple[UUID, bool] | None:
    owned = SessionHandle(handle.session_id, user_id, handle.using, pk=handle.pk)
    try:
        with write_transaction(handle.using):
            if handle.user_id is None:
                # What runs for nobody is refused from now on, so its lease is over.
                handle.rows().update(
                    user_id=user_id, owned_at=moment, lease=None, leased_until=None
                )
                # In the caller's transaction the key may fail only at its end.
                owned.refuse_missing_user()
            # Read back as the claimant: it finds this claim and an earlier one.
            mine = owned.rows().select_for_update()
            found = mine.values_list("pk", "owned_at").first()
    except IntegrityError:
        owned.refuse_missing_user()
        raise
    if found is None:
        return None
    pk, owned_at = found
    return pk, owned_at == moment


def _recent(user: User, *, using: str | None) -> AgentSessionQuerySet:
    sessions = AgentSession.objects.using(session_alias(using))
    user_id = owner_id(user)
    if user_id is None:
        return sessions.none()
    return sessions.filter(user_id=user_id).newest_first()


def _page(limit: int | None, offset: int) -> slice:
    if offset < 0 or (limit is not None and limit < 0):
        raise ValueError("limit and offset cannot be negative.")
    return slice(offset, None if limit is None else offset + limit)
