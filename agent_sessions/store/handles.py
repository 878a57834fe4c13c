from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias, TypeVar
from uuid import UUID
from weakref import ref

from django.db import connections, router
from django.db.models import Case, F, Q, When

from agent_sessions.exceptions import (
    InvalidUser,
    SessionGone,
    SessionOwnershipError,
)
from agent_sessions.identifiers import clean_session_id
from agent_sessions.models import AgentSession, AgentSessionQuerySet
from agent_sessions.store.owners import User, owner_id, user_exists
from agent_sessions.store.transactions import (
    Attempt,
    after_commit,
    in_transaction,
    perform,
)

T = TypeVar("T")

# A session that comes and goes between two statements this often is a bug of ours.
_LOOKS = 100


@dataclass(slots=True)
class SessionHandle:
    """
    Which session a call means, and as whom.

    A handle that has seen its row is pinned to it by ``pk``: should the row be deleted,
    its calls raise SessionGone instead of starting over with half a history. ``absent``
    says that there was no row when it last looked. ``turn`` is the turn that this
    handle's own input opened last.

    What a handle has learned in a transaction or an atomic block that is rolled back it
    forgets again. Savepoints that the caller sets by hand, and transactions without
    autocommit, are not seen by Django, so not by a handle.
    """

    session_id: str
    user_id: Any
    using: str
    orphaned: bool = False
    pk: UUID | None = None
    turn: int | None = None
    absent: bool = False
    # For each thing learned in a transaction that may yet be rolled back: the hook that
    # its commit will run, and what was known before.
    _doubts: list[tuple[ref[Callable[[], None]], dict[str, Any]]] = field(
        default_factory=list, init=False, repr=False, compare=False
    )

    def rows(self) -> AgentSessionQuerySet:
        """Return the owner rule as a query: this session if it is open to this user."""
        rows = AgentSession.objects.using(self.using).filter(session_id=self.session_id)
        if self.pk is not None:
            rows = rows.filter(pk=self.pk)
        if self.user_id is not None:
            owned = Q(user_id=self.user_id)
        else:
            owned = Q(user=None, owned_at__isnull=not self.orphaned)
        # A CASE, which no index answers: MariaDB may look for the row of an UPDATE in
        # the index of last activities, and miss it while another call moves it there.
        return rows.filter(Case(When(owned, then=True), default=False))

    def lock(self) -> UUID | None:
        """Lock the row until the transaction ends; None if it is not open."""
        # A write first, for SQLite. Then a locking read: under MariaDB's repeatable
        # read a plain one could answer from a snapshot older than the lock.
        if not self.rows().update(item_count=F("item_count")):
            return None
        return self.rows().select_for_update().values_list("pk", flat=True).get()

    def pin(self, pk: UUID) -> None:
        """Stay with this row from now on."""
        connection = connections[self.using]
        # Where Django does not see the end of a transaction, the row may be undone.
        if connection.in_atomic_block or not in_transaction(connection):
            self.learn(pk=pk)

    def learn(self, **facts: Any) -> None:
        """Know these of its fields from now on, unless the transaction is undone."""
        self.forget_undone()
        before = {name: getattr(self, name) for name in facts}
        if before == facts:
            return
        for name, value in facts.items():
            setattr(self, name, value)
        if connections[self.using].in_atomic_block:
            hook = partial(self._confirm, before)
            self._doubts.append((ref(hook), before))
            after_commit(hook, using=self.using)

    def forget_undone(self) -> None:
        """Forget what was learned in transactions that were rolled back since."""
        # Django tells of commits only. But it drops the hooks of what is rolled back,
        # and nobody else has these. Those learned later are dropped along.
        while self._doubts and self._doubts[-1][0]() is None:
            _, before = self._doubts.pop()
            for name, value in before.items():
                setattr(self, name, value)

    def _confirm(self, before: dict[str, Any]) -> None:
        self._doubts = [doubt for doubt in self._doubts if doubt[1] is not before]

    def is_there(self) -> bool:
        """
        Tell, after rows() was empty, whether to look again; raise if it is no use.

        True if the session has come meanwhile, False if there is none. Raise
        SessionOwnershipError if it is not open, SessionGone if it was pinned and is
        deleted.
        """
        sessions = AgentSession.objects.using(self.using)
        if self.pk is None:
            sessions = sessions.filter(session_id=self.session_id)
        else:
            sessions = sessions.filter(pk=self.pk)
        connection = connections[self.using]
        if connection.vendor == "mysql" and connection.in_atomic_block:
            # Not from the snapshot of the caller's transaction: writes do not see it.
            sessions = sessions.select_for_update()
        # All in one statement: between two the session could come, or change hands.
        columns = sessions.values_list("session_id", "user_id", "owned_at")
        found = perform(self.using, lambda _: columns.all().first())
        if found is None:
            if self.pk is not None:
                raise SessionGone("The session was deleted.")
            return False
        session_id, user_id, owned_at = found
        orphaned = user_id is None and owned_at is not None
        if (session_id, user_id, orphaned) != (
            self.session_id,
            self.user_id,
            self.orphaned,
        ):
            raise SessionOwnershipError("The session is not open to this user.")
        return True

    def refuse_missing_user(self) -> None:
        """Raise InvalidUser if the handle's user has no row."""
        if self.user_id is not None and not perform(
            self.using, lambda _: user_exists(self.user_id, using=self.using)
        ):
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
        # Its own database, unless a router writes elsewhere than it reads.
        using=router.db_for_write(AgentSession, instance=row),
        orphaned=row.is_orphaned,
        pk=row.pk,
    )


def session_handle(
    session: Session, *, user: User = None, using: str | None = None
) -> SessionHandle:
    """
    Return the handle that a store call works on.

    A session id is opened as ``user``. A row, or a handle, already says whose it is and
    is taken at its word: it is for code that is trusted with it. Raise
    SessionOwnershipError if ``user`` is somebody else, TypeError if ``using`` is
    another database.
    """
    if isinstance(session, AgentSession):
        session = row_handle(session)
    if isinstance(session, SessionHandle):
        handle = session
        handle.forget_undone()
        # An orphan has no user either, but is not what an AnonymousUser may see.
        if user is not None and (handle.orphaned or owner_id(user) != handle.user_id):
            raise SessionOwnershipError("The session is not open to this user.")
        if using is not None and using != handle.using:
            raise TypeError(f"The session is in {handle.using!r}, not in {using!r}.")
        return handle
    return SessionHandle(
        session_id=clean_session_id(session),
        user_id=owner_id(user),
        using=session_alias(using),
    )


def perform_on(
    handle: SessionHandle, work: Callable[[SessionHandle, Attempt], T | None]
) -> T | None:
    """
    Return what ``work`` returns for the session; None if there is no such session.

    ``work`` gets the handle as it is now, because another thread's call may pin it
    meanwhile, and gives None where its rows() were empty. Raise SessionGone or
    SessionOwnershipError, or what perform() raises.
    """
    for _ in range(_LOOKS):
        result = perform(handle.using, partial(work, replace(handle)))
        if result is not None or not handle.is_there():
            return result
    raise SessionOwnershipError("The session is not open to this user.")
