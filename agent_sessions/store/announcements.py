from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

from django.dispatch import Signal

from agent_sessions.models import AgentSession
from agent_sessions.store.handles import SessionHandle
from agent_sessions.store.transactions import after_commit


def announce(
    signal: Signal, handle: SessionHandle, session: UUID, **facts: Any
) -> None:
    """Send ``signal`` once the transaction is committed; never if it is rolled back."""
    if not signal.has_listeners(AgentSession):
        return
    send = partial(
        signal.send_robust,
        sender=AgentSession,
        session=session,
        session_id=handle.session_id,
        user_id=handle.user_id,
        using=handle.using,
        **facts,
    )
    after_commit(send, using=handle.using)
