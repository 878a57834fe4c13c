"""
Which session another was copied from, to whom sees both.

The column stays when that session is deleted, or given to somebody else.
"""

from __future__ import annotations

from uuid import UUID

from django.db.models import OuterRef, Subquery

from agent_sessions.models import AgentSession, AgentSessionQuerySet

_ORIGIN = "origin"


def annotate_origins(rows: AgentSessionQuerySet) -> AgentSessionQuerySet:
    """Return ``rows`` with the origins of those whose origin is one of them, too."""
    origins = rows.filter(pk=OuterRef("forked_from")).order_by()
    return rows.annotate(**{_ORIGIN: Subquery(origins.values("pk"))})


def filter_forks(rows: AgentSessionQuerySet, origin: UUID) -> AgentSessionQuerySet:
    """Return those of the annotated ``rows`` that are copies of this session."""
    # The column as well, which has an index.
    return rows.filter(**{"forked_from": origin, _ORIGIN: origin})


def read_origin(row: AgentSession) -> UUID | None:
    """Return the origin that the row is known to have; None without annotation."""
    origin: UUID | None = getattr(row, _ORIGIN, None)
    return origin


def set_origin(row: AgentSession, origin: UUID | None) -> AgentSession:
    """Return the row, which the store gave out, with an origin that is known."""
    setattr(row, _ORIGIN, origin)
    return row
