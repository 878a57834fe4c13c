from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import UUID

from django.db import connections, router, transaction
from django.db.models import F

from agent_sessions.exceptions import (
    InvalidUser,
    SessionGone,
    SessionOwnershipError,
)
from agent_sessions.identifiers import clean_session_id
from agent_sessions.models import AgentSession, AgentSessionQuerySet
from agent_sessions.store.owners import User, owner_id, user_exists


@dataclass(slots=True)
class SessionHandle:
    """
    Which session a call means, and as whom.

    A handle that has seen its row is pinned to it by ``pk``: should the row be deleted,
    its calls raise SessionGone instead of starting over with half a history. ``absent``
    says that there was no row when it last looked. ``turn``
    is the turn that this handle's own input opened last.
    """

    session_id: str
    user_id: Any
    using: str
    orphaned: bool = False
    pk: UUID | None = None
    turn: int | None = None
    absent: bool = False
    _uncommitted: UUID | None = None

    def rows(self) -> AgentSessionQuerySet:
        """Return the owner rule as a query: this session if it is open to this user."""
        rows = AgentSession.objects.using(self.using).filter(session_id=self.session_id)
        if self.pk is not None:
            rows = rows.filter(pk=self.pk)
        if self.user_id is not None:
            return rows.filter(user_id=self.user_id)
        return rows.orphaned() if self.orphaned else rows.anonymous()

    def lock(self) -> UUID | None:
        """Lock the row until the transaction ends; None if it is not open."""
        # A write first, for SQLite. Then a locking read: under MariaDB's repeatable
        # read a plain one could answer from a snapshot older than the lock.
        if not self.rows().update(item_count=F("item_count")):
            return None
        return self.rows().select_for_update().values_list("pk", flat=True).get()

    def pin(self, pk: UUID) -> None:
        """Stay with this row from now on."""
        if pk != self._uncommitted:
            self.pk = pk

    def pin_after_commit(self, pk: UUID) -> None:
        """Stay with a row made just now, unless the caller's transaction undoes it."""
        self._uncommitted = pk
        transaction.on_commit(self._commit_pin, using=self.using)

    def _commit_pin(self) -> None:
        self.pk, self._uncommitted = self._uncommitted, None

    def exists(self) -> bool:
        """Tell whether there is such a session, open or not."""
        sessions = AgentSession.objects.using(self.using)
        return sessions.filter(session_id=self.session_id).exists()

    def refuse(self) -> None:
        """
        Raise the reason why rows() was empty; return if there is no such session yet.

        Raise SessionGone, SessionOwnershipError, or InvalidUser if the user is gone.
        """
        if self.pk is not None:
            rows = AgentSession.objects.using(self.using).filter(pk=self.pk)
            if not rows.exists():
                raise SessionGone("The session was deleted.")
        elif not self.exists():
            return
        raise SessionOwnershipError("The session is not open to this user.")

    def refuse_missing_user(self) -> None:
        """Raise InvalidUser if the handle's user has no row."""
        if self.user_id is not None and not user_exists(self.user_id, using=self.using):
            raise InvalidUser("The user is not in the database.")


Session: TypeAlias = AgentSession | SessionHandle | str


def session_alias(using: str | None = None) -> str:
    """Return the database that sessions are written to, and read from."""
    alias = using or router.db_for_write(AgentSession)
    connections[alias]  # an unknown alias fails here, with Django's own error
    return alias


def row_handle(row: AgentSession) -> SessionHandle:
    """Return a handle pinned to this row and its present owner."""
    return SessionHandle(
        session_id=row.session_id,
        user_id=row.user_id,
        using=row._state.db or session_alias(),
        orphaned=row.is_orphaned,
        pk=row.pk,
    )


def session_handle(
    session: Session, *, user: User = None, using: str | None = None
) -> SessionHandle:
    """
    Return the handle that a store call works on.

    A session id is opened as ``user``. A row, or a handle, already says whose it is and
    is taken at its word: it is for code that is trusted with it.
    """
    if isinstance(session, SessionHandle):
        return session
    if isinstance(session, AgentSession):
        return row_handle(session)
    return SessionHandle(
        session_id=clean_session_id(session),
        user_id=owner_id(user),
        using=session_alias(using),
    )
