"""
How much may be stored, if the project says so.

What is refused leaves nothing behind. Two calls at the same moment may together pass
the number of a user's sessions by one: nothing locks a user.
"""

from __future__ import annotations

from typing import Any

from agent_sessions.conf import conf
from agent_sessions.exceptions import SessionFull, TooManySessions
from agent_sessions.models import AgentSession


def find_room(items: int) -> int | None:
    """
    Return with how many items a session has room for so many more; None with any.

    Raise SessionFull if none has.
    """
    limit = conf.AGENT_SESSIONS_MAX_ITEMS
    if limit is None:
        return None
    if items > limit:
        raise _full(limit)
    return limit - items


def refuse_full(item_count: int) -> None:
    """Raise SessionFull if a session may not have so many items."""
    limit = conf.AGENT_SESSIONS_MAX_ITEMS
    if limit is not None and item_count > limit:
        raise _full(limit)


def refuse_many(user_id: Any, *, using: str) -> None:
    """Raise TooManySessions if the user has more than they may, this one included."""
    limit = conf.AGENT_SESSIONS_MAX_SESSIONS
    if limit is None or user_id is None:
        return
    rows = AgentSession.objects.using(using).filter(user_id=user_id).order_by()
    if rows[: limit + 1].count() > limit:
        raise TooManySessions(
            f"The user has {limit} session(s), as many as AGENT_SESSIONS_MAX_SESSIONS "
            "allows."
        )


def _full(limit: int) -> SessionFull:
    return SessionFull(
        f"The session would have more than {limit} item(s), which "
        "AGENT_SESSIONS_MAX_ITEMS does not allow."
    )
