"""
Tokens that let whoever logs in take along a session from before.

A token names one anonymous session, is signed, and ends by itself. It works once,
because a session that was claimed never is anonymous again.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.core import signing
from django.utils import timezone

from agent_sessions.exceptions import (
    InvalidClaimToken,
    InvalidUser,
    SessionGone,
    SessionOwnershipError,
)
from agent_sessions.models import AgentSession
from agent_sessions.store.handles import (
    Session,
    perform_on,
    session_alias,
    session_handle,
)
from agent_sessions.store.owners import User, owner_id
from agent_sessions.store.sessions import claim_session
from agent_sessions.store.transactions import perform

EXPIRES_IN = timedelta(hours=1)

_SALT = "agent_sessions.claim"


def make_claim_token(
    session: Session, *, expires_in: timedelta = EXPIRES_IN, using: str | None = None
) -> str:
    """
    Return a token by which whoever holds it can claim this anonymous session, once.

    Raise SessionGone if there is no such session, SessionOwnershipError if it has, or
    ever had, an owner.
    """
    handle = session_handle(session, using=using)
    if handle.orphaned or handle.user_id is not None:
        raise SessionOwnershipError("The session is not open to this user.")
    pk = perform_on(
        handle, lambda now, _: now.rows().values_list("pk", flat=True).first()
    )
    if pk is None:
        raise SessionGone("There is no such session to claim.")
    until = timezone.now() + expires_in
    # The key and not the session id, which opens the session: tokens can be read.
    return signing.dumps({"session": pk.hex, "until": until.timestamp()}, salt=_SALT)


def claim_with_token(
    token: str, user: User, *, using: str | None = None
) -> AgentSession:
    """
    Make the session that the token names this user's and return its row.

    Raise InvalidClaimToken if that cannot be, whatever the reason, and InvalidUser
    without a user.
    """
    user_id = owner_id(user)
    if user_id is None:
        raise InvalidUser("Only a user can claim a session.")
    alias = session_alias(using)
    rows = AgentSession.objects.using(alias).filter(pk=_read(token))
    try:
        row = perform(alias, lambda _: rows.anonymous().get())
        claim_session(row, user)
        return perform(alias, lambda _: rows.filter(user_id=user_id).get())
    except (AgentSession.DoesNotExist, SessionGone, SessionOwnershipError):
        raise _refusal() from None


def _read(token: str) -> UUID:
    try:
        content = signing.loads(token, salt=_SALT)
    except signing.BadSignature:
        raise _refusal() from None
    if content["until"] < timezone.now().timestamp():
        raise _refusal()
    return UUID(content["session"])


def _refusal() -> InvalidClaimToken:
    return InvalidClaimToken("The token is not valid, has expired, or was used.")
