"""
Whether the rows are what the store would have written.

Gaps between positions are normal: what is popped or cleared leaves them. Nothing here
repeats what was said.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import partial
from itertools import islice
from typing import Any
from uuid import UUID

from django.db.models import Count, F, Max, Q
from django.utils import timezone

from agent_sessions.models import AgentSession, AgentSessionQuerySet
from agent_sessions.store.handles import session_alias
from agent_sessions.store.selections import BATCH, iterate_keys
from agent_sessions.store.transactions import Attempt, perform, write_transaction
from agent_sessions.store.transcripts import read_blocks
from agent_sessions.transcript.blocks import Block, Broken, ToolCall

# A call of a session used since then may still be running.
RUNNING = timedelta(hours=1)

_COUNTED: dict[str, Any] = {
    "live_items": Count("items", filter=Q(items__replaced_at=None)),
    "live_turns": Count("items", filter=Q(items__replaced_at=None, items__role="user")),
    "last_position": Max("items__position"),
    "last_turn": Max("items__turn"),
}
_COUNTERS = ("item_count", "turn_count", "next_position", "next_turn")


class Kind(StrEnum):
    BROKEN = "broken row"
    COUNTER = "wrong counter"
    UNANSWERED = "tool call without output"
    ORPHANED = "orphaned session"


@dataclass(frozen=True, slots=True)
class Finding:
    """``place`` says where in the session; ``fixed`` that it was, and is no more."""

    kind: Kind
    session: UUID
    place: str = ""
    fixed: bool = False

    def __str__(self) -> str:
        words = f"{self.session}: {self.kind}"
        words += f", {self.place}" if self.place else ""
        return f"{words}; fixed" if self.fixed else words


def check_sessions(*, fix: bool = False, using: str | None = None) -> Iterator[Finding]:
    """
    Yield what is wrong with the sessions, few items at a time, and orphans.

    With ``fix`` counters are set right, each session's under its lock. Whether a tool
    call has its output is asked of the 200 items around it, and only where the last
    activity was an hour ago or more.
    """
    sessions = AgentSession.objects.using(session_alias(using))
    idle_since = timezone.now() - RUNNING
    keys = iterate_keys(sessions)
    while page := list(islice(keys, BATCH)):
        rows = sessions.filter(pk__in=page)
        yield from _check_counters(rows, fix)
        for key in page:
            row = perform(sessions.db, partial(_read_row, sessions, key))
            if row is not None:
                yield from _check_row(row, is_idle=row.updated_at <= idle_since)


def _check_counters(rows: AgentSessionQuerySet, fix: bool) -> Iterator[Finding]:
    wrong = perform(rows.db, partial(_find_wrong, rows))
    for key, names in wrong.items():
        if fix:
            names = perform(rows.db, partial(_fix_counters, rows.filter(pk=key)))
        for name in names:
            yield Finding(Kind.COUNTER, key, place=name, fixed=fix)


def _find_wrong(rows: AgentSessionQuerySet, attempt: Attempt) -> dict[UUID, list[str]]:
    return {key: list(changes) for key, changes in _compare(rows).items() if changes}


def _fix_counters(rows: AgentSessionQuerySet, attempt: Attempt) -> list[str]:
    with write_transaction(rows.db):
        # The lock first: what an append had not committed yet was not wrong.
        rows.update(item_count=F("item_count"))
        changes = next(iter(_compare(rows).values()), {})
        if changes:
            rows.update(**changes)
    return list(changes)


def _compare(rows: AgentSessionQuerySet) -> dict[UUID, dict[str, int]]:
    # One statement, so one moment: an append in between would look like a fault.
    counted = rows.order_by().values("pk", *_COUNTERS).annotate(**_COUNTED)
    return {row["pk"]: _wrong_counters(row) for row in counted}


def _wrong_counters(row: dict[str, Any]) -> dict[str, int]:
    changes = {"item_count": row["live_items"], "turn_count": row["live_turns"]}
    for name, last in (("next_position", "last_position"), ("next_turn", "last_turn")):
        if row[last] is not None:
            # Too high is right: neither is given out twice.
            changes[name] = max(row[name], row[last] + 1)
    return {name: value for name, value in changes.items() if row[name] != value}


def _read_row(
    sessions: AgentSessionQuerySet, key: UUID, attempt: Attempt
) -> AgentSession | None:
    return sessions.filter(pk=key).first()


def _check_row(row: AgentSession, *, is_idle: bool) -> Iterator[Finding]:
    if row.is_orphaned:
        yield Finding(Kind.ORPHANED, row.pk)
    for block in read_blocks(row):
        place = f"position {block.position}"
        if isinstance(block, Broken):
            yield Finding(Kind.BROKEN, row.pk, place)
        elif is_idle and _is_unanswered(block):
            yield Finding(Kind.UNANSWERED, row.pk, place)


def _is_unanswered(block: Block) -> bool:
    return (
        isinstance(block, ToolCall)
        and block.replaced_at is None
        and not block.is_answered
    )
