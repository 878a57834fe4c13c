from __future__ import annotations

import secrets
import time
import unicodedata
import uuid

from agent_sessions.exceptions import InvalidSessionId

SESSION_ID_MAX_LENGTH = 255


def uuid7() -> uuid.UUID:
    """
    Return a UUID that sorts by its time of making, to the millisecond.

    Source: RFC 9562, section 5.7. Python has its own from 3.14.
    """
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 7 << 76
    return uuid.UUID(int=value & ~(0b11 << 62) | 0b10 << 62)


def new_session_id() -> str:
    """Return a random session id that nobody can guess from a URL or a clock."""
    return str(uuid.uuid4())


def clean_session_id(session_id: str) -> str:
    """
    Return ``session_id`` if all databases tell it from every other one.

    Raise InvalidSessionId if it is empty, longer than 255 characters, holds control
    characters or lone surrogates, or begins or ends with white space (MariaDB takes
    "a" and "a " for the same). Raise TypeError if it is not a string.
    """
    if not isinstance(session_id, str):
        kind = type(session_id).__name__
        raise TypeError(f"A session is given by its id, a string, not by {kind}.")
    if not session_id:
        raise InvalidSessionId("A session id cannot be empty.")
    if len(session_id) > SESSION_ID_MAX_LENGTH:
        raise InvalidSessionId(
            f"A session id has at most {SESSION_ID_MAX_LENGTH} characters; "
            f"this one has {len(session_id)}."
        )
    if session_id != session_id.strip():
        raise InvalidSessionId(
            f"A session id cannot begin or end with white space: {session_id!r}."
        )
    if not session_id.isprintable() and any(
        unicodedata.category(character) in {"Cc", "Cs"} for character in session_id
    ):
        raise InvalidSessionId(
            f"A session id cannot hold control characters or lone surrogates: "
            f"{session_id!r}."
        )
    return session_id
