"""
Who may run on a session, where only one run at a time is wanted.

A lease ends by itself, so that a holder who is killed keeps nobody out for long. Its
time is the database's: clocks of machines may differ.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from agent_sessions.exceptions import SessionBusy
from agent_sessions.identifiers import uuid7
from agent_sessions.models import AgentSession
from agent_sessions.signals import session_created
from agent_sessions.store.announcements import announce
from agent_sessions.store.handles import (
    Session,
    SessionHandle,
    perform_on,
    session_handle,
)
from agent_sessions.store.limits import refuse_many
from agent_sessions.store.owners import User
from agent_sessions.store.statements.portable import create_row
from agent_sessions.store.transactions import Attempt, write_transaction

LEASE_TIME = timedelta(seconds=30)


class Clock(Now):
    """The time of the database, by which leases end."""

    def as_mysql(
        self, compiler: Any, connection: Any, **context: Any
    ) -> tuple[str, Any]:
        # Not the server's own time of day, which is turned back once a year.
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **context)


def acquire_lease(
    session: Session,
    *,
    expires_in: timedelta = LEASE_TIME,
    lease: UUID | None = None,
    user: User = None,
    using: str | None = None,
) -> UUID:
    """
    Take the session for one run and return the lease, which is to be given back.

    The session is created if there is none. A ``lease`` that is given is taken, or
    taken again. Raise SessionBusy if somebody else has one that has not expired,
    ValueError unless it lasts, TooManySessions if the user may have no more,
    SessionOwnershipError if the session is not open to ``user``, SessionGone if it was
    deleted.
    """
    handle = session_handle(session, user=user, using=using)
    if expires_in <= timedelta(0):
        raise ValueError("A lease lasts for some time.")
    key = uuid7() if lease is None else lease
    free = Q(lease=None) | Q(lease=key) | Q(leased_until__lte=Clock())

    def work(now: SessionHandle, attempt: Attempt) -> tuple[UUID, bool] | None:
        with write_transaction(now.using):
            taken = {"lease": key, "leased_until": Clock() + expires_in}
            made = None
            if not now.rows().filter(free).update(**taken):
                if now.pk is None and not now.rows().exists():
                    made = create_row(now, timezone.now())
                    refuse_many(now.user_id, using=now.using)
                if not now.rows().filter(free).update(**taken):
                    _refuse_busy(now)
                    return None
            pk = now.rows().values_list("pk", flat=True).get()
        return pk, pk == made

    while (found := perform_on(handle, work)) is None:
        # It was deleted between two statements, if its user is still there.
        handle.refuse_missing_user()
    pk, created = found
    handle.pin(pk)
    if created:
        announce(session_created, handle, pk)
    return key


def renew_lease(
    session: Session,
    lease: UUID,
    *,
    expires_in: timedelta = LEASE_TIME,
    user: User = None,
    using: str | None = None,
) -> None:
    """
    Have the lease last from now on.

    Raise SessionBusy if it had expired and somebody else has taken the session.
    """
    handle = session_handle(session, user=user, using=using)

    def work(now: SessionHandle, attempt: Attempt) -> bool | None:
        with write_transaction(now.using):
            held = now.rows().filter(lease=lease)
            if held.update(leased_until=Clock() + expires_in):
                return True
            _refuse_busy(now)
        return None

    perform_on(handle, work)


def release_lease(
    session: Session, lease: UUID, *, user: User = None, using: str | None = None
) -> bool:
    """Give the lease back; False if it was lost, or given back, before."""
    handle = session_handle(session, user=user, using=using)

    def work(now: SessionHandle, attempt: Attempt) -> bool | None:
        with write_transaction(now.using):
            if now.lock() is None:
                return None
            held = now.rows().filter(lease=lease)
            return bool(held.update(lease=None, leased_until=None)) or attempt.again

    return bool(perform_on(handle, work))


def refuse_leased(handle: SessionHandle, row: AgentSession) -> None:
    """Raise SessionBusy if a run holds the session, whose row is locked."""
    if row.lease is None:
        return
    # A locking read, as for the row: not from a snapshot that is older.
    held = handle.rows().select_for_update().filter(leased_until__gt=Clock())
    if held.values_list("pk").first() is not None:
        raise SessionBusy("A run holds the session.")


def _refuse_busy(handle: SessionHandle) -> None:
    if handle.rows().exists():
        raise SessionBusy("Another run holds the session.")
