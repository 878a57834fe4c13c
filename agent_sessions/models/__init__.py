from __future__ import annotations

from agent_sessions.models.records import (
    KEY_MAX_LENGTH,
    LABEL_MAX_LENGTH,
    REASON_MAX_LENGTH,
    ErasureReceipt,
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
from agent_sessions.models.usage import TurnUsage

__all__ = [
    "KEY_MAX_LENGTH",
    "LABEL_MAX_LENGTH",
    "REASON_MAX_LENGTH",
    "TITLE_MAX_LENGTH",
    "AgentSession",
    "AgentSessionQuerySet",
    "AgentUser",
    "AgentUserQuerySet",
    "ErasureReceipt",
    "SessionAccess",
    "SessionAccessQuerySet",
    "SessionItem",
    "SessionItemQuerySet",
    "TurnUsage",
    "keep_or_delete",
    "sessions_aside",
]
