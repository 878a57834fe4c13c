"""Whose sessions a request may see: those of its user, or of its cookie."""

from __future__ import annotations

from typing import Any

from django.db.models import Q
from django.http import HttpRequest
from django.shortcuts import get_object_or_404

from agent_sessions import store
from agent_sessions.exceptions import InvalidClaimToken
from agent_sessions.models import AgentSession, AgentSessionQuerySet

# Rows' keys, kept on the server under the visitor's cookie; newest last.
KEY = "visitor_sessions"
AT_MOST = 50


def sessions_of(request: HttpRequest) -> AgentSessionQuerySet:
    """Return the sessions that whoever asks may open, and nobody else's."""
    if request.user.is_authenticated:
        return AgentSession.objects.for_user(request.user)
    known = request.session.get(KEY, [])
    # With them their older versions, which nobody was told of.
    return AgentSession.objects.anonymous().filter(
        Q(pk__in=known) | Q(forked_from__in=known)
    )


def own_session(request: HttpRequest, pk: Any) -> AgentSession:
    """Return one of them. Somebody else's is a 404, like one that never was."""
    return get_object_or_404(sessions_of(request), pk=pk)


def remember(request: HttpRequest, session: AgentSession) -> None:
    """Let a visitor without an account find the session again."""
    if not request.user.is_authenticated:
        key = str(session.pk)
        others = [one for one in request.session.get(KEY, []) if one != key]
        request.session[KEY] = [*others, key][-AT_MOST:]


def claim_tokens(request: HttpRequest) -> list[str]:
    """Return a token for each session that a visitor could take along, newest first."""
    if request.user.is_authenticated:
        return []
    rows = sessions_of(request).newest_first()
    return [store.make_claim_token(row) for row in rows]


def take_along(request: HttpRequest, tokens: list[str]) -> list[AgentSession]:
    """Make what the tokens name the user's who has just logged in; return it."""
    taken = []
    for token in tokens[:AT_MOST]:
        try:
            taken.append(store.claim_with_token(token, request.user))
        except InvalidClaimToken:
            continue  # it is an hour old, or was used: then it is somebody's already
    request.session.pop(KEY, None)
    return taken
