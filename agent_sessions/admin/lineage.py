"""Where a session comes from, and what was forked from it."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.db.models import QuerySet

from agent_sessions.admin.session_list import relative_time
from agent_sessions.admin.states import ARCHIVED, spell_states
from agent_sessions.models import AgentSession

FORKS_SHOWN = 10


@dataclass(frozen=True)
class Fork:
    key: UUID
    words: str
    item_count: int
    made: str
    states: str


@dataclass(frozen=True)
class Lineage:
    """
    What a session's page says of its origin and its newest forks.

    ``is_linked`` if the origin may be seen, ``is_gone`` if it was deleted.
    """

    origin: UUID | None
    is_linked: bool
    is_gone: bool
    made: str
    forks: list[Fork]
    has_more: bool


def find_lineage(
    visible: QuerySet[AgentSession], row: AgentSession, *, shows_words: bool
) -> Lineage:
    """Return the relatives of a session; forks only if they are ``visible``."""
    is_linked = is_gone = False
    if row.forked_from is not None:
        is_linked = visible.filter(pk=row.forked_from).exists()
        sessions = AgentSession.objects.using(visible.db)
        is_gone = not is_linked and not sessions.filter(pk=row.forked_from).exists()
    forks = visible.filter(forked_from=row.pk).order_by("-forked_at", "-id")
    found = [_describe(fork, shows_words) for fork in forks[: FORKS_SHOWN + 1]]
    return Lineage(
        origin=row.forked_from,
        is_linked=is_linked,
        is_gone=is_gone,
        made=_when(row),
        forks=found[:FORKS_SHOWN],
        has_more=len(found) > FORKS_SHOWN,
    )


def _describe(fork: AgentSession, shows_words: bool) -> Fork:
    words = (fork.title if shows_words else "") or str(fork)
    states = spell_states([ARCHIVED] if fork.archived_at is not None else [])
    return Fork(fork.pk, words, fork.item_count, _when(fork), states)


def _when(row: AgentSession) -> str:
    return "" if row.forked_at is None else relative_time(row.forked_at)
