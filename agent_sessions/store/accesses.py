from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from uuid import UUID

from agent_sessions.conf import conf
from agent_sessions.exceptions import ReasonMissing
from agent_sessions.models import REASON_MAX_LENGTH, SessionAccess
from agent_sessions.store.handles import session_alias
from agent_sessions.store.owners import User, owner_id
from agent_sessions.store.transactions import Attempt, perform, write_transaction


def record_access(
    action: SessionAccess.Action,
    *,
    channel: SessionAccess.Channel,
    sessions: Iterable[UUID] = (),
    user: User = None,
    reason: str = "",
    using: str | None = None,
) -> None:
    """
    Keep who saw, took along or searched what was said, before it is handed out.

    One record for each of ``sessions``, by their rows' UUIDs; one without a session if
    there are none. Raise ReasonMissing if AGENT_SESSIONS_REQUIRE_REASON is set and
    ``reason`` is blank, InvalidUser for a user who is not saved. A reason longer than
    500 characters is cut.
    """
    reason = _clean_reason(reason)
    if conf.AGENT_SESSIONS_REQUIRE_REASON and not reason:
        raise ReasonMissing("What was said is not shown without a reason.")
    user_id = owner_id(user)
    keys: list[UUID | None] = [*sessions]
    rows = [
        SessionAccess(
            user_id=user_id,
            session=session,
            action=action,
            channel=channel,
            reason=reason,
        )
        for session in keys or [None]
    ]
    alias = session_alias(using)

    def work(attempt: Attempt) -> None:
        with write_transaction(alias):
            SessionAccess.objects.using(alias).bulk_create(
                rows, batch_size=500, ignore_conflicts=attempt.again
            )

    perform(alias, work)


def _clean_reason(reason: str) -> str:
    plain = (
        " " if unicodedata.category(character) in {"Cc", "Cs"} else character
        for character in reason
    )
    return " ".join("".join(plain).split())[:REASON_MAX_LENGTH]
