from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import partial
from uuid import UUID

from agent_sessions.conf import conf
from agent_sessions.exceptions import ReasonMissing
from agent_sessions.models import REASON_MAX_LENGTH, AgentSession, SessionAccess
from agent_sessions.store.handles import session_alias
from agent_sessions.store.owners import User, owner_id, spell_user
from agent_sessions.store.transactions import Attempt, perform, write_transaction

_AT_ONCE = 500


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
    reason = clean_words(reason)[:REASON_MAX_LENGTH]
    if conf.AGENT_SESSIONS_REQUIRE_REASON and not reason:
        raise ReasonMissing("What was said is not shown without a reason.")
    user_id = owner_id(user)
    keys = list(sessions)
    alias = session_alias(using)
    owners = perform(alias, partial(_read_owners, keys, alias))
    about: list[UUID | None] = [*keys] or [None]
    rows = [
        SessionAccess(
            user_id=user_id,
            session=session,
            owner=owners.get(session, ""),
            action=action,
            channel=channel,
            reason=reason,
        )
        for session in about
    ]

    def work(attempt: Attempt) -> None:
        with write_transaction(alias):
            SessionAccess.objects.using(alias).bulk_create(
                rows, batch_size=_AT_ONCE, ignore_conflicts=attempt.again
            )

    perform(alias, work)


def _read_owners(
    keys: list[UUID], alias: str, attempt: Attempt
) -> dict[UUID | None, str]:
    owned = AgentSession.objects.using(alias).filter(user__isnull=False).order_by()
    found: dict[UUID | None, str] = {}
    for at in range(0, len(keys), _AT_ONCE):
        rows = owned.filter(pk__in=keys[at : at + _AT_ONCE])
        for key, owner in rows.values_list("pk", "user_id"):
            found[key] = spell_user(owner)
    return found


def clean_words(text: str) -> str:
    """Return ``text`` as one line that every database can keep."""
    plain = (
        " " if unicodedata.category(character) in {"Cc", "Cs"} else character
        for character in text
    )
    return " ".join("".join(plain).split())
