"""
Sessions that change hands: one of them, or all of a user whose account is merged.

For code that is trusted with both users. What was said does not change, so agents go on
as the new owner; one that still runs as the old gets SessionOwnershipError.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from django.db import IntegrityError
from django.db.models import F, QuerySet
from django.utils import timezone

from agent_sessions.exceptions import (
    InvalidUser,
    SessionGone,
    SessionOwnershipError,
)
from agent_sessions.metadata import clean_metadata, merge_patch
from agent_sessions.models import (
    REASON_MAX_LENGTH,
    AgentSession,
    AgentUser,
    SessionAccess,
)
from agent_sessions.store.accesses import clean_words
from agent_sessions.store.handles import (
    Session,
    SessionHandle,
    perform_on,
    session_alias,
    session_handle,
)
from agent_sessions.store.owners import User, owner_id, spell_user, user_exists
from agent_sessions.store.transactions import Attempt, perform, write_transaction

_AT_ONCE = 500
COMMAND = SessionAccess.Channel.COMMAND


class Transferred(NamedTuple):
    """How many sessions changed hands, and whether an AgentUser was merged."""

    sessions: int
    agent_user: bool


def transfer_session(
    session: Session,
    to: User,
    *,
    user: User = None,
    by: User = None,
    reason: str = "",
    channel: SessionAccess.Channel = COMMAND,
    using: str | None = None,
) -> AgentSession:
    """
    Give a user's session to another user and return its row.

    The session id and the last activity stay, ``revision`` goes up by one. It is
    recorded with who did it (``by``), why, and the former owner's key. Raise
    InvalidUser without a user to give it to, SessionGone if there is no such session,
    SessionOwnershipError if it is not ``user``'s, or nobody's: an anonymous session is
    claimed, and an orphan stays one.
    """
    handle = session_handle(session, user=user, using=using)
    if handle.orphaned or handle.user_id is None:
        raise SessionOwnershipError("The session has no owner to take it from.")
    transfer = _Transfer(handle.user_id, owner_id(to), by, reason, channel)
    tried: list[UUID] = []

    def work(now: SessionHandle, attempt: Attempt) -> AgentSession | None:
        with transfer.transaction(now.using):
            rows = AgentSession.objects.using(now.using)
            key = now.lock()
            if key is None:
                # By an earlier try, whose answer was lost.
                return rows.filter(pk__in=tried, user_id=transfer.to).first()
            if transfer.to != now.user_id:
                tried[:] = [key]
                transfer.move([key], now.using)
            return rows.get(pk=key)

    moved = perform_on(handle, work)
    if moved is None:
        raise SessionGone("There is no such session.")
    return moved


def transfer_sessions(
    from_user: User,
    to_user: User,
    *,
    metadata: bool = True,
    by: User = None,
    reason: str = "",
    channel: SessionAccess.Channel = COMMAND,
    using: str | None = None,
) -> Transferred:
    """
    Give all sessions of a user to another, as when accounts are merged; all or none.

    Each is recorded as in transfer_session(). What agents keep about the first user is
    merged into what they keep about the second, whose values win, and is then deleted;
    not without ``metadata``. Both users stay. Raise InvalidUser without two users,
    InvalidMetadata if the merged metadata would be too large.
    """
    owner = owner_id(from_user)
    if owner is None or owner == owner_id(to_user):
        raise InvalidUser("Sessions are transferred between two users.")
    transfer = _Transfer(owner, owner_id(to_user), by, reason, channel)
    alias = session_alias(using)
    tried = Transferred(0, False)

    def work(attempt: Attempt) -> Transferred:
        nonlocal tried
        with transfer.transaction(alias):
            # A write first, for SQLite.
            transfer.lock_agent_users(alias)
            merged = metadata and transfer.merge_metadata(alias)
            moved = transfer.move_all(alias)
        if attempt.again and not (moved or merged):
            # By an earlier try, whose answer was lost.
            return tried
        tried = Transferred(moved, merged)
        return tried

    return perform(alias, work)


@dataclass(frozen=True, slots=True)
class _Transfer:
    owner: Any
    to: Any
    by: User
    reason: str
    channel: SessionAccess.Channel

    @contextmanager
    def transaction(self, using: str) -> Iterator[None]:
        if self.to is None:
            raise InvalidUser("Only a user can be given a session.")
        try:
            with write_transaction(using):
                yield
                # In the caller's transaction the key might fail only at its end.
                self._refuse_missing(using)
        except IntegrityError:
            self._refuse_missing(using)
            raise

    def move(self, keys: list[UUID], using: str) -> None:
        """Give these sessions, which are locked, to the new owner, with a record."""
        rows = AgentSession.objects.using(using)
        by, owner = owner_id(self.by), spell_user(self.owner)
        reason = clean_words(self.reason)[:REASON_MAX_LENGTH]
        for at in range(0, len(keys), _AT_ONCE):
            batch = keys[at : at + _AT_ONCE]
            # A run for the old owner is refused from now on, so its lease is over.
            rows.filter(pk__in=batch).order_by().update(
                user_id=self.to,
                revision=F("revision") + 1,
                lease=None,
                leased_until=None,
            )
            records = (
                SessionAccess(
                    user_id=by,
                    session=key,
                    owner=owner,
                    action=SessionAccess.Action.TRANSFERRED,
                    channel=self.channel,
                    reason=reason,
                )
                for key in batch
            )
            SessionAccess.objects.using(using).bulk_create(records)

    def move_all(self, using: str) -> int:
        theirs = AgentSession.objects.using(using).filter(user_id=self.owner).order_by()
        moved = 0
        # Until none is found: MariaDB may overlook a row that an append moves in its
        # index, and an agent may have made another.
        while keys := list(theirs.select_for_update().values_list("pk", flat=True)):
            self.move(keys, using)
            moved += len(keys)
        return moved

    def merge_metadata(self, using: str) -> bool:
        pair = self._agent_users(using)
        found = {row.user_id: row for row in pair.select_for_update()}
        if self.owner not in found:
            return False
        old = found[self.owner]
        new = found.get(self.to) or AgentUser(user_id=self.to)
        new.created_at = min(old.created_at, new.created_at)
        new.metadata = clean_metadata(merge_patch(old.metadata, new.metadata))
        new.updated_at = timezone.now()
        new.save(using=using)
        pair.filter(user_id=self.owner).delete()
        return True

    def lock_agent_users(self, using: str) -> None:
        self._agent_users(using).update(updated_at=F("updated_at"))

    def _agent_users(self, using: str) -> QuerySet[AgentUser]:
        rows = AgentUser.objects.using(using).order_by()
        return rows.filter(user_id__in=[self.owner, self.to])

    def _refuse_missing(self, using: str) -> None:
        if not user_exists(self.to, using=using):
            raise InvalidUser("The user is not in the database.")
