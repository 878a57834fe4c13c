"""The reason that somebody gave for opening a session, kept while they work on it."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

from django.http import HttpRequest

from agent_sessions.conf import conf

VALID_SECONDS = 3600

_KEY = "agent_sessions_reasons"
_MAX_KEPT = 50


def needs_reason(request: HttpRequest, session: UUID) -> bool:
    """Tell whether the person has yet to say why they open this session."""
    return conf.AGENT_SESSIONS_REQUIRE_REASON and not given_reason(request, session)


def given_reason(request: HttpRequest, session: UUID) -> str:
    """Return the reason given for this session within the last hour, else ""."""
    reason, given_at = request.session.get(_KEY, {}).get(str(session), ("", 0))
    return str(reason) if given_at > time.time() - VALID_SECONDS else ""


def keep_reason(request: HttpRequest, session: UUID, reason: str) -> None:
    kept: dict[str, Any] = request.session.get(_KEY, {})
    kept.pop(str(session), None)
    newest = list(kept.items())[1 - _MAX_KEPT :]
    request.session[_KEY] = {**dict(newest), str(session): [reason, time.time()]}
