"""What operations may answer, in the terms of drf-spectacular."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    OpenApiParameter,
    OpenApiResponse,
    extend_schema,
)

_STRINGS = {"type": "array", "items": {"type": "string"}}


def _problem(description: str, *, fields: bool = False) -> OpenApiResponse:
    schema: Any = {
        "type": "object",
        "required": ["detail"],
        "properties": {"detail": {"type": "string"}},
    }
    if fields:
        # By field or parameter; "detail" where the body is not JSON.
        schema = {
            "type": "object",
            "additionalProperties": {"oneOf": [_STRINGS, {"type": "string"}]},
        }
    return OpenApiResponse(schema, description)


def _coded(description: str, *codes: str, required: bool = True) -> OpenApiResponse:
    schema: Any = {
        "type": "object",
        "required": ["detail", "code"] if required else ["detail"],
        "properties": {
            "detail": {"type": "string"},
            "code": {"type": "string", "enum": list(codes)},
        },
    }
    return OpenApiResponse(schema, description)


_COMMON = {
    400: _problem("Fields or parameters that are wrong, by name.", fields=True),
    401: _problem("Not logged in."),
    403: _problem("Not logged in, or not allowed."),
    406: _problem("None of the types that are accepted."),
    429: _problem("Too many requests, if the project limits them."),
}
BODY = {
    413: _problem("The body is too large."),
    415: _problem("The body is not JSON."),
}
FOUND = {404: _problem("There is no such session, or it is somebody else's.")}
LOCKED = {503: _problem("Another request holds the session. Try again.")}
BUSY = {409: _coded("A run holds the session.", "session_busy")}
PARTED = {
    409: _coded(
        "The session does not have this turn, or cannot be parted there.",
        "turn_gone",
        "turn_compacted",
    )
}
BUSY_OR_PARTED = {
    409: _coded(
        "A run holds the session, which may as well not have this turn, or cannot be "
        "parted there.",
        "session_busy",
        "turn_gone",
        "turn_compacted",
    )
}
CREATES = {
    403: _coded(
        "Not logged in, not allowed, or as many sessions as are allowed.",
        "too_many_sessions",
        required=False,
    )
}
CHECKED = {412: _problem("The session was changed since it was read.")}

IF_MATCH = OpenApiParameter(
    "If-Match",
    str,
    OpenApiParameter.HEADER,
    description="The ETag of the session as it was read: it is changed only if its "
    "title, metadata and archive flag are still the same.",
)
ETAG = OpenApiParameter(
    "ETag",
    str,
    OpenApiParameter.HEADER,
    response=[200, 201],
    description="The session's `revision`. What the agent appends does not change it.",
)
LOCATION = OpenApiParameter(
    "Location", OpenApiTypes.URI, OpenApiParameter.HEADER, response=[201]
)
SESSION_PATH = OpenApiParameter("session", OpenApiTypes.UUID, OpenApiParameter.PATH)
_TAGS = ["agent sessions"]


def operation(
    operation_id: str,
    success: dict[Any, Any],
    *others: dict[Any, Any],
    **options: Any,
) -> Any:
    responses: dict[Any, Any] = {**success, **_COMMON}
    for other in others:
        responses |= other
    return extend_schema(
        operation_id=operation_id, responses=responses, tags=_TAGS, **options
    )
