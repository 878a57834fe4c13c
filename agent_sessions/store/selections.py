"""
What people do to many sessions at once.

The callers are trusted with every session they name: the admin and commands, after they
have asked for permission.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import NamedTuple
from uuid import UUID

from django.db.models import F, QuerySet
from django.utils import timezone

from agent_sessions.models import AgentSession, AgentSessionQuerySet, SessionItem
from agent_sessions.store.handles import session_alias
from agent_sessions.store.transactions import Attempt, perform, write_transaction

# Sessions of one transaction: an agent that waits for one of them waits for this many.
BATCH = 100


class Deleted(NamedTuple):
    """How many sessions went, and how many items with them."""

    sessions: int
    items: int


def archive_sessions(
    sessions: Iterable[UUID], *, archived: bool = True, using: str | None = None
) -> int:
    """
    Archive these sessions, or bring them back, and return how many were changed.

    They are given by their rows' UUIDs; unknown ones, and those that are so already,
    are left alone. Last activities stay, as in update_session().
    """
    now = timezone.now()

    def change(rows: AgentSessionQuerySet) -> int:
        return rows.filter(archived_at__isnull=archived).update(
            archived_at=now if archived else None, revision=F("revision") + 1
        )

    return _in_batches(sessions, change, using=using)


def remove_owners(sessions: Iterable[UUID], *, using: str | None = None) -> int:
    """
    Take these sessions from their owners and return how many had one.

    They become orphans, which nobody can claim or open by id; an agent that still runs
    on one gets SessionOwnershipError.
    """

    def change(rows: AgentSessionQuerySet) -> int:
        return rows.filter(user__isnull=False).update(user=None)

    return _in_batches(sessions, change, using=using)


def delete_sessions(sessions: Iterable[UUID], *, using: str | None = None) -> int:
    """
    Delete these sessions with all their items and return how many there were.

    A hundred in one transaction, so an interruption leaves whole sessions. An agent
    that still runs on one gets SessionGone.
    """

    alias = session_alias(using)
    return delete_rows(sessions, AgentSession.objects.using(alias)).sessions


def delete_rows(sessions: Iterable[UUID], rows: AgentSessionQuerySet) -> Deleted:
    """
    Delete those of these sessions that are still among ``rows`` under their locks.

    As delete_sessions(), which leaves none out.
    """
    alias = rows.db
    totals = Deleted(0, 0)
    for batch in _batches(sessions):
        found = perform(alias, partial(_delete_batch, rows.filter(pk__in=batch)))
        totals = Deleted(totals.sessions + found.sessions, totals.items + found.items)
    return totals


def iterate_keys(rows: AgentSessionQuerySet) -> Iterator[UUID]:
    """Yield the UUIDs of these rows in their order, a hundred at a time."""
    # Page by page: no cursor stays open over the transactions in between.
    pages = rows.order_by("pk").values_list("pk", flat=True)
    page = perform(rows.db, partial(_read_page, pages))
    while page:
        yield from page
        page = perform(rows.db, partial(_read_page, pages.filter(pk__gt=page[-1])))


def count_rows(sessions: Iterable[UUID], *, using: str) -> Deleted:
    """Return what delete_rows() would."""
    totals = Deleted(0, 0)
    for batch in _batches(sessions):
        found = perform(using, partial(_count_items, batch, using))
        totals = Deleted(totals.sessions + len(batch), totals.items + found)
    return totals


def _read_page(keys: QuerySet[AgentSession, UUID], attempt: Attempt) -> list[UUID]:
    return list(keys[:BATCH])


def _count_items(keys: list[UUID], using: str, attempt: Attempt) -> int:
    return SessionItem.objects.using(using).filter(session__in=keys).count()


def _delete_batch(rows: AgentSessionQuerySet, attempt: Attempt) -> Deleted:
    with write_transaction(rows.db):
        keys, items = take_rows(rows)
    return Deleted(len(keys), items)


def take_rows(rows: AgentSessionQuerySet) -> tuple[list[UUID], int]:
    """Delete these rows, in a transaction, and return which, and how many items."""
    rows = rows.order_by()
    # The locks first, as in delete_session().
    rows.update(item_count=F("item_count"))
    keys = list(rows.select_for_update().values_list("pk", flat=True))
    found, _ = SessionItem.objects.using(rows.db).filter(session__in=keys).delete()
    AgentSession.objects.using(rows.db).filter(pk__in=keys).delete()
    return keys, found


def _in_batches(
    sessions: Iterable[UUID],
    change: Callable[[AgentSessionQuerySet], int],
    *,
    using: str | None,
) -> int:
    alias = session_alias(using)
    return sum(_change_batch(batch, change, alias) for batch in _batches(sessions))


def _change_batch(
    keys: list[UUID], change: Callable[[AgentSessionQuerySet], int], alias: str
) -> int:
    def work(attempt: Attempt) -> int:
        rows = AgentSession.objects.using(alias).filter(pk__in=keys).order_by()
        with write_transaction(alias):
            return change(rows)

    return perform(alias, work)


def _batches(sessions: Iterable[UUID]) -> Iterator[list[UUID]]:
    remaining = iter(sessions)
    while batch := list(islice(remaining, BATCH)):
        yield batch
