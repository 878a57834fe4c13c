"""
What is to be answered: something new, something else instead, or the same again.

Each leaves the question at the session's end, for a run to answer. What gives way stays
as an older version: an archived fork of the session.
"""

from __future__ import annotations

from typing import Any

from agent_sessions import store
from agent_sessions.exceptions import SessionGone
from agent_sessions.models import AgentSession


class Changed(Exception):
    """The session is not as its reader has seen it."""


class NothingToAnswer(Exception):
    """Nothing was said in the session."""


def say(session: AgentSession, *, text: str) -> None:
    store.append_items(session, [{"role": "user", "content": text}])


def say_instead(session: AgentSession, *, turn: int, text: str, seen: int) -> None:
    """Take the session back before the turn, and say something else there."""
    _refuse_unseen(session, seen)
    store.rewind_session(session, before_turn=turn, keep=True)
    say(session, text=text)


def ask_again(session: AgentSession, *, seen: int) -> None:
    """
    Ask for another answer; for the first, if there is none.

    Without an answer nothing is taken back: a tool that has run does not run again.
    """
    _refuse_unseen(session, seen)
    if answer_at_end(session) is not None:
        store.append_items(session, store.retry_session(session, keep=True))
    elif not store.read_items(session, limit=1):
        raise NothingToAnswer


def answer_at_end(session: AgentSession) -> dict[str, Any] | None:
    for item in store.read_items(session, limit=1):
        if item.get("role") == "assistant":
            return item
    return None


def _refuse_unseen(session: AgentSession, seen: int) -> None:
    rows = AgentSession.objects.filter(pk=session.pk)
    position = rows.values_list("next_position", flat=True).first()
    if position is None:
        raise SessionGone("There is no such session.")
    # Positions are not used again, so whatever was said meanwhile shows here.
    if position != seen:
        raise Changed
