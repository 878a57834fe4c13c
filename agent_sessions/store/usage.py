"""What sessions have used of models: written with the items, read by turn and day."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from django.db.models import F, QuerySet, Sum
from django.utils import timezone

from agent_sessions.exceptions import SessionGone
from agent_sessions.models import AgentSession, TurnUsage
from agent_sessions.store.handles import (
    Session,
    SessionHandle,
    perform_on,
    row_handle,
    session_alias,
    session_handle,
)
from agent_sessions.store.owners import User, owner_id
from agent_sessions.store.statements.portable import count_usage
from agent_sessions.store.transactions import Attempt, perform, write_transaction
from agent_sessions.usage import USAGE_FIELDS, TokenUsage

# Under other names: an aggregate may not hide the column that it adds up.
_SUMS = {f"sum_{name}": Sum(name) for name in USAGE_FIELDS}


@dataclass(frozen=True, slots=True)
class DayUsage:
    """What was used on a day, in UTC, by runs whose turns began on it."""

    day: date
    usage: TokenUsage


@dataclass(frozen=True, slots=True)
class SessionUsage:
    """What a session, named by its row's UUID, has used in some days."""

    session: UUID
    usage: TokenUsage


def record_usage(
    session: Session,
    usage: TokenUsage,
    *,
    user: User = None,
    using: str | None = None,
) -> None:
    """
    Add ``usage`` to the session's last turn.

    For what no item came with: append_items() takes the usage of its items. Raise
    SessionGone if there is no such session, SessionOwnershipError if it is not open to
    ``user``. Should the connection be lost, it is counted once; too little only if
    another run of the same turn counts as much in the same moment.
    """
    handle = session_handle(session, user=user, using=using)
    turn, expected = handle.turn, TokenUsage()

    def work(now: SessionHandle, attempt: Attempt) -> bool | None:
        nonlocal turn, expected
        with write_transaction(now.using):
            pk = now.lock()
            if pk is None:
                return None
            if turn is None:
                turn = now.rows().values_list("next_turn", flat=True).get() - 1
            rows = TurnUsage.objects.using(now.using).filter(session=pk, turn=turn)
            row = rows.select_for_update().first()
            counted = TokenUsage() if row is None else row.usage
            if attempt.again and expected and not expected.less(counted):
                # By an earlier try, whose answer was lost.
                return True
            expected = counted + usage
            count_usage(pk, turn, usage, using=now.using, now=timezone.now())
        return True

    if perform_on(handle, work) is None:
        raise SessionGone("There is no such session.")


def read_usage(
    session: Session, *, user: User = None, using: str | None = None
) -> TokenUsage:
    """
    Return what the session's runs have used; nothing if there is no such session.

    Raise SessionOwnershipError if it is not open to ``user``, SessionGone if it was
    deleted.
    """
    handle = session_handle(session, user=user, using=using)

    def work(now: SessionHandle, attempt: Attempt) -> TokenUsage | None:
        pk = now.rows().values_list("pk", flat=True).first()
        if pk is None:
            return None
        counts = (
            TurnUsage.objects.using(now.using).filter(session=pk).aggregate(**_SUMS)
        )
        return TokenUsage(*(int(count or 0) for count in counts.values()))

    return perform_on(handle, work) or TokenUsage()


def get_usage_by_turn(
    session: Session, *, user: User = None, using: str | None = None
) -> dict[int, TokenUsage]:
    """
    Return what each turn has used that has used anything, by its number.

    Turns that were removed are among them. Raise as read_usage() does.
    """
    handle = session_handle(session, user=user, using=using)

    def work(now: SessionHandle, attempt: Attempt) -> dict[int, TokenUsage] | None:
        pk = now.rows().values_list("pk", flat=True).first()
        if pk is None:
            return None
        rows = TurnUsage.objects.using(now.using).filter(session=pk).order_by("turn")
        return {row.turn: row.usage for row in rows}

    return perform_on(handle, work) or {}


def read_turn_usage(
    pk: UUID, turns: Collection[int], *, using: str
) -> dict[int, TokenUsage]:
    """Return what those of the turns have used that have used anything."""
    rows = TurnUsage.objects.using(using).filter(session=pk, turn__in=turns)
    return {row.turn: row.usage for row in rows.order_by()}


def sum_usage(sessions: Sequence[AgentSession]) -> dict[UUID, TokenUsage]:
    """Return what those of the sessions have used that have used anything."""
    if not sessions:
        return {}
    rows = TurnUsage.objects.using(row_handle(sessions[0]).using)
    rows = rows.filter(session__in=[session.pk for session in sessions])
    sums = rows.order_by().values_list("session").annotate(**_SUMS)
    return dict(_read_sums(sums))


def get_usage_by_day(
    user: User,
    *,
    since: date | None = None,
    until: date | None = None,
    using: str | None = None,
) -> list[DayUsage]:
    """
    Return what the user's sessions have used, by day, oldest first.

    From ``since`` to ``until``, both included. Days without use are left out; no user
    has used nothing. What a deleted session had used is not counted.
    """
    rows = _used_by(user, since, until, using)
    days = rows.order_by("day").values_list("day").annotate(**_SUMS)
    return [DayUsage(day, usage) for day, usage in _read_sums(days)]


def get_usage_by_session(
    user: User,
    *,
    since: date | None = None,
    until: date | None = None,
    limit: int = 20,
    using: str | None = None,
) -> list[SessionUsage]:
    """
    Return the user's ``limit`` sessions that have used most tokens, the most first.

    From ``since`` to ``until``, as get_usage_by_day() counts. Raise ValueError if
    ``limit`` is negative.
    """
    if limit < 0:
        raise ValueError("limit cannot be negative.")
    rows = _used_by(user, since, until, using)
    sessions = rows.order_by().values_list("session").annotate(**_SUMS)
    most = sessions.order_by(F("sum_total_tokens").desc(), "session")[:limit]
    return [SessionUsage(session, usage) for session, usage in _read_sums(most)]


def _used_by(
    user: User, since: date | None, until: date | None, using: str | None
) -> QuerySet[TurnUsage]:
    rows = TurnUsage.objects.using(session_alias(using))
    key = owner_id(user)
    if key is None:
        return rows.none()
    rows = rows.filter(session__user=key)
    if since is not None:
        rows = rows.filter(day__gte=since)
    return rows if until is None else rows.filter(day__lte=until)


def _read_sums(sums: QuerySet[Any, Any]) -> list[tuple[Any, TokenUsage]]:
    rows = perform(sums.db, lambda _: list(sums.all()))
    return [(key, TokenUsage(*map(int, counts))) for key, *counts in rows]
