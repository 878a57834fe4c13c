"""What people are told when the store refuses what they entered, in their language."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _

from agent_sessions.conf import conf
from agent_sessions.exceptions import (
    InvalidClaimToken,
    InvalidMetadata,
    InvalidSessionId,
    InvalidTitle,
    ReasonMissing,
    SessionExists,
)
from agent_sessions.fields import SESSION_ID_RULE
from agent_sessions.identifiers import SESSION_ID_MAX_LENGTH
from agent_sessions.metadata import DEEPEST
from agent_sessions.models import TITLE_MAX_LENGTH

# The rule and not the fault: the errors themselves speak to developers.
_RULES: dict[type[Exception], Any] = {
    InvalidClaimToken: _("The token is not valid, has expired, or was used."),
    InvalidMetadata: _(
        "Metadata is a JSON object of at most %(bytes)s bytes, %(levels)s levels and "
        "%(keys)s keys, without NUL characters, lone surrogates and NaN."
    ),
    InvalidSessionId: SESSION_ID_RULE,
    InvalidTitle: _(
        "A title has at most %(title)s characters, no control characters or lone "
        "surrogates."
    ),
    ReasonMissing: _("What was said is not shown without a reason."),
    SessionExists: _("This session id is taken."),
}


def explain(error: Exception) -> str:
    """Return the rule that an error of the store is about; without one, its text."""
    rule = _RULES.get(type(error))
    if rule is None:
        return str(error)
    words: str = str(rule) % {
        "bytes": conf.AGENT_SESSIONS_METADATA_MAX_BYTES,
        "keys": conf.AGENT_SESSIONS_METADATA_MAX_KEYS,
        "levels": min(conf.AGENT_SESSIONS_METADATA_MAX_DEPTH, DEEPEST),
        "session_id": SESSION_ID_MAX_LENGTH,
        "title": TITLE_MAX_LENGTH,
    }
    return words
