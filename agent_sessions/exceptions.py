"""
Everything this app refuses to do, by name.

Each error is also the Django or builtin error that already means it, so code that
knows nothing of this app handles it right. No message ever holds the content of an
item, a title or metadata: they are people's words.
"""

from __future__ import annotations

from django.core.exceptions import ObjectDoesNotExist, PermissionDenied
from django.db import OperationalError


class AgentSessionError(Exception):
    """Base class for this app's errors. Do not raise directly."""


class InvalidClaimToken(AgentSessionError, ValueError):
    """The token was not made here, has expired, or its session is claimed or gone."""


class InvalidCriteria(AgentSessionError, ValueError):
    """Sessions are chosen by nothing, or by what excludes each other."""


class InvalidItem(AgentSessionError, TypeError, ValueError):
    """An item is not a JSON object; the message names the path of the fault."""


class InvalidMetadata(AgentSessionError, TypeError, ValueError):
    """Metadata is not a JSON object that every database can keep, or is too large."""


class InvalidSessionId(AgentSessionError, ValueError):
    """The session id is empty, too long, or holds characters that are refused."""


class InvalidSource(AgentSessionError, ValueError):
    """What is to be imported cannot be read, or is not what it should be."""


class InvalidTitle(AgentSessionError, ValueError):
    """The title is too long or holds control characters."""


class InvalidUser(AgentSessionError, ValueError):
    """The user is not saved, was deleted, or is not a user of this project."""


class ItemTooLarge(AgentSessionError, ValueError):
    """An item is larger than the database, or the project, accepts."""


class NothingToErase(AgentSessionError, ObjectDoesNotExist):
    """Nothing is stored of the user: perhaps another was meant, or another database."""


class ReasonMissing(AgentSessionError, PermissionDenied):
    """An access needs a reason (AGENT_SESSIONS_REQUIRE_REASON) and has none."""


class SessionBusy(AgentSessionError, RuntimeError):
    """Another run holds the session, or has taken it over."""


class SessionChanged(AgentSessionError, ValueError):
    """The session no longer has the revision that the caller has read."""


class SessionExists(AgentSessionError, ValueError):
    """The session id is taken, by whomever."""


class SessionFull(AgentSessionError, ValueError):
    """The session has as many items as AGENT_SESSIONS_MAX_ITEMS allows."""


class SessionGone(AgentSessionError, ObjectDoesNotExist):
    """The session does not exist, or was deleted while this code held on to it."""


class SessionLockTimeout(AgentSessionError, OperationalError):
    """Another transaction held the session for longer than this call may wait."""


class SessionOwnershipError(AgentSessionError, PermissionDenied):
    """The session is not open to this user."""


class TooManySessions(AgentSessionError, ValueError):
    """The user has as many sessions as AGENT_SESSIONS_MAX_SESSIONS allows."""


class TurnCompacted(AgentSessionError, ValueError):
    """What a compaction wrote stands for turns on both sides of the one named."""


class TurnGone(AgentSessionError, ObjectDoesNotExist):
    """The session has no such turn, or a rewind removed it while a run was in it."""
