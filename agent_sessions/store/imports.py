"""
Sessions that come from elsewhere, with their own times and places.

A session comes whole or not at all: its row and its items are one transaction. No
signals are sent: nothing of this happens now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from django.db import IntegrityError
from django.db.models import F, Q, QuerySet

from agent_sessions.exceptions import SessionChanged, SessionExists
from agent_sessions.fields import RAW
from agent_sessions.models import AgentSession, SessionItem, TurnUsage
from agent_sessions.paging import FIRST_PAGE, next_page
from agent_sessions.store.batches import PlacedItem
from agent_sessions.store.handles import SessionHandle, row_handle, session_alias
from agent_sessions.store.statements.bulk import insert_placed
from agent_sessions.store.transactions import Attempt, perform, write_transaction
from agent_sessions.usage import TokenUsage

_COUNTERS = (
    "item_count",
    "turn_count",
    "next_position",
    "next_turn",
    "preview",
    "updated_at",
)


class TurnUse(NamedTuple):
    """What a turn has used, and the day on which it is counted."""

    turn: int
    day: date
    usage: TokenUsage


@dataclass(frozen=True, slots=True)
class Arrival:
    """
    A session to insert: its row, unsaved, and its items.

    ``items`` may be asked again. Once they are through, the row's counters, preview and
    last activity have to be right. ``usage`` is what its turns have used.
    """

    row: AgentSession
    items: Callable[[], Iterable[PlacedItem]]
    usage: Sequence[TurnUse] = ()


class StoredItem(NamedTuple):
    """An item as it stands in the database."""

    session: UUID
    position: int
    text: str
    created_at: datetime


def insert_sessions(arrivals: Sequence[Arrival], *, using: str | None = None) -> None:
    """
    Insert these sessions with all their items, all or none of them.

    Raise SessionExists if an id or a key of one is taken, InvalidUser if its user is
    not in the database, ItemTooLarge for an item that the database does not take.
    """
    alias = session_alias(using)
    perform(alias, partial(_insert, arrivals, alias))


def extend_session(
    row: AgentSession, items: Callable[[], Iterable[PlacedItem]]
) -> None:
    """
    Insert items behind the last one of a session, and take over the row's counters.

    ``items`` is as in Arrival; its first call comes with the row locked. Raise
    SessionChanged if the row counts other items than ``row`` does when called,
    SessionGone or SessionOwnershipError as any verb that is given a row.
    """
    handle = row_handle(row)
    before = (row.item_count, row.next_position)
    changed = perform(handle.using, partial(_extend, handle, row, before, items))
    if not changed:
        handle.is_there()
        raise SessionChanged("The session was changed since it was read.")


def find_taken(
    session_ids: Sequence[str], keys: Sequence[UUID], *, using: str | None = None
) -> list[AgentSession]:
    """Return the rows that have one of these session ids or of these keys."""
    rows = AgentSession.objects.using(session_alias(using))
    taken = rows.filter(Q(session_id__in=session_ids) | Q(pk__in=keys)).order_by()
    return perform(rows.db, lambda _: list(taken.all()))


def read_stored(
    sessions: Sequence[UUID], *, using: str | None = None
) -> Iterator[StoredItem]:
    """
    Yield these sessions' items, each session's by position.

    Those of one session a few at a time, those of several all at once.
    """
    alias = session_alias(using)
    items = SessionItem.objects.using(alias).filter(session__in=sessions)
    rows = items.order_by("session_id", "position").values_list(
        "session_id", "position", RAW, "created_at"
    )
    if len(sessions) != 1:
        yield from map(StoredItem._make, perform(alias, partial(_fetch, rows)))
        return
    last, size = -1, FIRST_PAGE
    while True:
        # Ranges, not limits: without statistics, as they are after an import,
        # PostgreSQL sorts all that is left for each page.
        wanted = rows.filter(position__gt=last, position__lte=last + size)
        page = perform(alias, partial(_fetch, wanted))
        yield from map(StoredItem._make, page)
        last += size
        if page:
            size = next_page([text for _, _, text, _ in page])
        else:
            # A gap, or the end.
            later = items.filter(position__gt=last).order_by("position")
            found = perform(alias, partial(_fetch, later.values_list("position")[:1]))
            if not found:
                return
            last = found[0][0] - 1


def _fetch(rows: QuerySet[SessionItem, Any], attempt: Attempt) -> list[Any]:
    return list(rows.all())


def _insert(arrivals: Sequence[Arrival], alias: str, attempt: Attempt) -> None:
    rows = [arrival.row for arrival in arrivals]
    keys = [row.pk for row in rows]
    sessions = AgentSession.objects.using(alias)
    before = [_counters(row) for row in rows]
    try:
        with write_transaction(alias):
            # A write first, for SQLite.
            sessions.bulk_create(rows)
            insert_placed(_chain(arrivals), using=alias)
            TurnUsage.objects.using(alias).bulk_create(_usages(arrivals))
            late = [
                row
                for row, counters in zip(rows, before, strict=True)
                if _counters(row) != counters
            ]
            for row in late:
                sessions.filter(pk=row.pk).update(
                    **{name: getattr(row, name) for name in _COUNTERS}
                )
            # In the caller's transaction the keys may fail only at its end.
            for user_id in {row.user_id for row in rows} - {None}:
                SessionHandle("", user_id, alias).refuse_missing_user()
    except IntegrityError:
        if attempt.again and sessions.filter(pk__in=keys).count() == len(keys):
            return
        for user_id in {row.user_id for row in rows} - {None}:
            SessionHandle("", user_id, alias).refuse_missing_user()
        raise SessionExists("A session id, or a key, is taken.") from None


def _chain(arrivals: Sequence[Arrival]) -> Iterator[PlacedItem]:
    for arrival in arrivals:
        yield from arrival.items()


def _usages(arrivals: Sequence[Arrival]) -> list[TurnUsage]:
    return [
        TurnUsage(session=arrival.row, turn=turn, day=day, **asdict(usage))
        for arrival in arrivals
        for turn, day, usage in arrival.usage
    ]


def _counters(row: AgentSession) -> tuple[object, ...]:
    return tuple(getattr(row, name) for name in _COUNTERS)


def _extend(
    handle: SessionHandle,
    row: AgentSession,
    before: tuple[int, int],
    items: Callable[[], Iterable[PlacedItem]],
    attempt: Attempt,
) -> bool:
    with write_transaction(handle.using):
        rows = handle.rows()
        # The lock first, as every writer does it.
        rows.update(item_count=F("item_count"))
        locked = rows.select_for_update()
        found = locked.values_list("item_count", "next_position").first()
        if found != before:
            # By an earlier try, whose answer was lost.
            return attempt.again and found == (row.item_count, row.next_position)
        insert_placed(items(), using=handle.using)
        rows.update(**{name: getattr(row, name) for name in _COUNTERS})
    return True
