from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from functools import partial
from uuid import UUID

from django.db import IntegrityError

from agent_sessions.encoding import decode_items
from agent_sessions.exceptions import InvalidItem
from agent_sessions.shapes import Item
from agent_sessions.signals import items_added, session_cleared, session_created
from agent_sessions.store.announcements import announce
from agent_sessions.store.batches import encode_batch
from agent_sessions.store.handles import (
    Session,
    SessionHandle,
    perform_on,
    session_handle,
)
from agent_sessions.store.leases import refuse_leased
from agent_sessions.store.owners import User
from agent_sessions.store.sessions import refuse_changed
from agent_sessions.store.statements import portable
from agent_sessions.store.statements.dispatch import statements
from agent_sessions.store.statements.results import Appended, Found, Row
from agent_sessions.store.transactions import Attempt, write_transaction
from agent_sessions.usage import TokenUsage

logger = logging.getLogger("agent_sessions")

# More than any history holds, and what every database still takes as a LIMIT.
_MAX_LIMIT = 2**31 - 1


def append_items(
    session: Session,
    items: Iterable[Item],
    *,
    user: User = None,
    usage: TokenUsage | None = None,
    using: str | None = None,
) -> Appended | None:
    """
    Store ``items`` behind the session's last one, all or none, and return where.

    ``usage`` is added to the session and to the turn of the last item.

    The session is created if there is none. An empty batch does nothing and returns
    None. Raise InvalidItem or ItemTooLarge for an item that cannot be stored,
    SessionFull or TooManySessions if the project allows no more, SessionOwnershipError
    if the session is not open to ``user``, SessionGone if it was deleted, TurnGone if a
    rewind removed the turn that this goes on with, SessionLockTimeout if it stays
    locked.
    """
    handle = session_handle(session, user=user, using=using)
    if isinstance(items, dict | str):
        raise InvalidItem(f"items is a list of items, not {type(items).__name__}.")
    batch = encode_batch(items)
    if not batch:
        return None

    def work(now: SessionHandle, attempt: Attempt) -> Appended | None:
        try:
            return statements(now.using).append(now, batch, usage, attempt)
        except IntegrityError:
            # On a second try: the first one's commit has arrived meanwhile.
            if attempt.again and (done := portable.find_batch(now, batch)):
                return done
            now.refuse_missing_user()
            raise

    while (appended := perform_on(handle, work)) is None:
        # It was deleted between two statements, if its user is still there.
        handle.refuse_missing_user()
    handle.pin(appended.session)
    handle.learn(turn=appended.turn)
    if appended.created:
        announce(session_created, handle, appended.session)
    announce(
        items_added,
        handle,
        appended.session,
        first_position=appended.first_position,
        count=appended.count,
    )
    return appended


def read_items(
    session: Session,
    *,
    user: User = None,
    limit: int | None = None,
    turn: int | None = None,
    using: str | None = None,
) -> list[Item]:
    """
    Return the session's items, oldest first; none if there is no such session.

    With ``limit`` the newest ``limit`` items that decode, still oldest first; 0 gives
    none, a negative number all. With ``turn`` only the items of that turn. Rows that do
    not decode are skipped, with a warning that names their positions. Raise
    SessionOwnershipError if the session is not open to ``user``, SessionGone if it was
    deleted. Source: agents.Session.get_items(); the sign rule is SQLiteSession's (SDK
    0.24).
    """
    handle = session_handle(session, user=user, using=using)
    if limit is not None and limit < 0:
        limit = None
    window = limit if limit is None else min(limit, _MAX_LIMIT)
    while True:
        rows = fetch_rows(handle, window, turn=turn)
        items = decode_items([data for _, data in rows])
        valid = [item for item in items if item is not None]
        if window is None or len(rows) < window or len(valid) == window:
            break
        # Broken rows among the newest: fill up with older ones.
        window = min(window * 2, _MAX_LIMIT)
    if len(valid) < len(items):
        pairs = zip(rows, items, strict=True)
        broken = [row[0] for row, item in pairs if item is None]
        warn_broken(handle.pk, broken, "skipped")
    return valid if limit is None else valid[-limit:] if limit else []


def pop_item(
    session: Session, *, user: User = None, using: str | None = None
) -> Item | None:
    """
    Remove the session's newest item and return it; None if there is none.

    Rows behind it that do not decode are removed with it, with a warning. Raise
    SessionOwnershipError if the session is not open to ``user``, SessionGone if it was
    deleted; OperationalError if the connection is lost while the database answers,
    because nobody can tell then whether the item is still there.
    """
    handle = session_handle(session, user=user, using=using)
    popped = perform_on(handle, statements(handle.using).pop)
    if popped is None:
        return None
    handle.pin(popped.session)
    if popped.broken:
        warn_broken(handle.pk, popped.broken, "removed")
    return popped.item


def clear_session(
    session: Session,
    *,
    unless_leased: bool = False,
    revisions: Collection[int] | None = None,
    user: User = None,
    using: str | None = None,
) -> None:
    """
    Remove all items; the session stays, with its owner, title and metadata.

    With ``unless_leased``, for a person, raise SessionBusy while a run holds the
    session; a run that does not and still writes gets TurnGone. With ``revisions`` the
    row must have one of them, else SessionChanged is raised.

    Raise SessionOwnershipError if the session is not open to ``user``, SessionGone if
    it was deleted. A session that never was is left so.
    """
    handle = session_handle(session, user=user, using=using)
    clear = statements(handle.using).clear

    def work(now: SessionHandle, attempt: Attempt) -> UUID | None:
        with write_transaction(now.using):
            if now.lock() is None:
                return None
            row = now.rows().select_for_update().get()
            refuse_changed(row, revisions)
            if unless_leased:
                refuse_leased(now, row)
                now.rows().update(rewound_before=row.next_turn)
            return clear(now, attempt)

    bound = unless_leased or revisions is not None
    pk = perform_on(handle, work if bound else clear)
    if pk is None:
        return
    handle.pin(pk)
    announce(session_cleared, handle, pk)


def fetch_rows(
    handle: SessionHandle, limit: int | None, *, turn: int | None = None
) -> list[Row]:
    """Return the newest ``limit`` live rows, oldest first, and pin the handle."""
    read: Callable[..., Found] = statements(handle.using).read
    if turn is not None:
        # People read single turns, not agents: no statement of its own.
        read = partial(portable.read, turn=turn)

    def work(now: SessionHandle, attempt: Attempt) -> Found | None:
        found = read(now, limit)
        unknown = now.pk is None and not found.exists
        return found if found.session or unknown else None

    found = perform_on(handle, work)
    handle.absent = found is None or found.session is None
    if found is None or found.session is None:
        return []
    handle.pin(found.session)
    return found.rows


def warn_broken(session: UUID | None, positions: list[int], verb: str) -> None:
    """Log which rows of a session do not decode, and what became of them."""
    logger.warning(
        "Rows of session %s do not decode and were %s: positions %s.",
        session,
        verb,
        ", ".join(map(str, sorted(positions))),
    )
