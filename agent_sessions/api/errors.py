from __future__ import annotations

from django.core.exceptions import RequestDataTooBig
from django.utils.translation import gettext_lazy as _
from rest_framework import exceptions, status

from agent_sessions.exceptions import (
    InvalidClaimToken,
    InvalidMetadata,
    InvalidSessionId,
    InvalidTitle,
    InvalidUser,
    ReasonMissing,
    SessionBusy,
    SessionChanged,
    SessionExists,
    SessionGone,
    SessionLockTimeout,
    SessionOwnershipError,
    TooManySessions,
    TurnCompacted,
    TurnGone,
)
from agent_sessions.refusals import explain


class PreconditionFailed(exceptions.APIException):
    status_code = status.HTTP_412_PRECONDITION_FAILED
    default_detail = _("The session was changed since it was read.")
    default_code = "precondition_failed"


class ContentTooLarge(exceptions.APIException):
    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = _("The request's body is too large.")
    default_code = "too_large"


class Coded(exceptions.APIException):
    """What has more than one reason; ``code`` tells programs which."""

    def __init__(self) -> None:
        super().__init__({"detail": self.default_detail, "code": self.default_code})


class TooMany(Coded):
    status_code = status.HTTP_403_FORBIDDEN
    default_detail = _("You have as many sessions as are allowed.")
    default_code = "too_many_sessions"


class Conflict(Coded):
    """The session is not as the request takes it to be."""

    status_code = status.HTTP_409_CONFLICT


class RunGoesOn(Conflict):
    default_detail = _("The agent is still at work in this session.")
    default_code = "session_busy"


class TurnIsGone(Conflict):
    default_detail = _("The session has no such turn.")
    default_code = "turn_gone"


class TurnIsCompacted(Conflict):
    default_detail = _(
        "The session cannot be parted here: a summary stands for what is on both sides."
    )
    default_code = "turn_compacted"


class Busy(exceptions.APIException):
    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = _("Another request holds the session. Try again.")
    default_code = "busy"
    wait = 1


# Whose a session is may change between two statements: then it is not found either.
_ANSWERS: dict[type[Exception], type[exceptions.APIException]] = {
    InvalidUser: exceptions.PermissionDenied,
    RequestDataTooBig: ContentTooLarge,
    SessionBusy: RunGoesOn,
    SessionChanged: PreconditionFailed,
    SessionGone: exceptions.NotFound,
    SessionLockTimeout: Busy,
    SessionOwnershipError: exceptions.NotFound,
    TooManySessions: TooMany,
    TurnCompacted: TurnIsCompacted,
    TurnGone: TurnIsGone,
}
_FIELDS: dict[type[Exception], str] = {
    InvalidClaimToken: "token",
    InvalidMetadata: "metadata",
    InvalidSessionId: "session_id",
    InvalidTitle: "title",
    ReasonMissing: "reason",
    SessionExists: "session_id",
}


def http_error(error: Exception) -> Exception:
    """Return what HTTP has for an error of the store; any other as it is."""
    for kind in type(error).__mro__:
        if answer := _ANSWERS.get(kind):
            return answer()
        if field := _FIELDS.get(kind):
            return exceptions.ValidationError({field: [explain(error)]})
    return error


def spell_name(name: object) -> str:
    """Return a field's or parameter's name for an answer, if it looks like one."""
    # Half a surrogate pair could not be answered with.
    if isinstance(name, str) and name.isprintable() and len(name) <= 80:
        return name
    return "..."
