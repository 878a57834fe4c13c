"""What sessions that came from elsewhere lack, where their source has told it since."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, time
from typing import TypeAlias
from uuid import UUID

from django.db.models import F

from agent_sessions.models import AgentSession, TurnUsage
from agent_sessions.store.handles import row_handle, session_alias
from agent_sessions.store.imports import TurnUse
from agent_sessions.store.statements.portable import count_usage
from agent_sessions.store.transactions import Attempt, perform, write_transaction
from agent_sessions.usage import USAGE_FIELDS, TokenUsage

# By session and turn.
Used: TypeAlias = dict[tuple[UUID, int], TokenUsage]


def is_incomplete(
    row: AgentSession,
    *,
    usage: Sequence[TurnUse] = (),
    forked_from: UUID | None = None,
) -> bool:
    """
    Return whether turns of the session have used more than is stored of it.

    Or whether it is a fork, and does not know of which session.
    """
    if forked_from is not None and row.forked_from is None:
        return True
    return bool(usage and _find_more(row.pk, usage, read_used([row.pk], row._state.db)))


def complete_session(
    row: AgentSession,
    *,
    usage: Sequence[TurnUse] = (),
    forked_from: UUID | None = None,
) -> None:
    """Store what is_incomplete() tells of, once however often it is called."""
    handle = row_handle(row)

    def work(attempt: Attempt) -> None:
        with write_transaction(handle.using):
            rows = handle.rows()
            # The lock first, as every writer does it.
            if not rows.update(item_count=F("item_count")):
                return
            more = _find_more(row.pk, usage, _fetch_used([row.pk], handle.using))
            for turn, day, counts in more:
                moment = datetime.combine(day, time(), UTC)
                count_usage(row.pk, turn, counts, using=handle.using, now=moment)
                rows.filter(next_turn__lte=turn).update(next_turn=turn + 1)
            if forked_from is not None:
                unlinked = rows.filter(forked_from=None)
                unlinked.update(forked_from=forked_from, forked_at=row.created_at)

    perform(handle.using, work)


def read_used(sessions: Sequence[UUID], using: str | None = None) -> Used:
    """Return what these sessions' turns have used, by session and turn."""
    alias = session_alias(using)
    return perform(alias, lambda _: _fetch_used(sessions, alias))


def _fetch_used(sessions: Sequence[UUID], alias: str) -> Used:
    rows = TurnUsage.objects.using(alias).filter(session__in=sessions)
    columns = rows.values_list("session", "turn", *USAGE_FIELDS)
    return {(key, turn): TokenUsage(*counts) for key, turn, *counts in columns}


def _find_more(key: UUID, usage: Sequence[TurnUse], used: Used) -> list[TurnUse]:
    more = []
    for turn, day, counts in usage:
        before = used.get((key, turn))
        missing = counts.less(before or TokenUsage())
        if before is None or missing:
            more.append(TurnUse(turn, day, missing))
    return more
