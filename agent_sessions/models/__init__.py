from __future__ import annotations

from agent_sessions.models.records import (
    REASON_MAX_LENGTH,
    SessionAccess,
    SessionAccessQuerySet,
)
from agent_sessions.models.sessions import (
    TITLE_MAX_LENGTH,
    AgentSession,
    AgentSessionQuerySet,
    AgentUser,
    AgentUserQuerySet,
    SessionItem,
    SessionItemQuerySet,
    keep_or_delete,
    sessions_aside,
)

__all__ = [
    "REASON_MAX_LENGTH",
    "TITLE_MAX_LENGTH",
    "AgentSession",
    "AgentSessionQuerySet",
    "AgentUser",
    "AgentUserQuerySet",
    "SessionAccess",
    "SessionAccessQuerySet",
    "SessionItem",
    "SessionItemQuerySet",
    "keep_or_delete",
    "sessions_aside",
]
