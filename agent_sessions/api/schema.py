"""
What drf-spectacular cannot see by itself. Imported only where that is installed.

Each operation says all that it may answer, so that a client can be generated, and that
what the server says can be held against it.
"""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import (
    OpenApiSerializerExtension,
    OpenApiSerializerFieldExtension,
    OpenApiViewExtension,
)
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    OpenApiParameter,
    OpenApiResponse,
    extend_schema,
    extend_schema_view,
    inline_serializer,
)
from rest_framework import fields

from agent_sessions.api import filters, serializers

_OBJECT = {"type": "object", "additionalProperties": {}}
_STRINGS = {"type": "array", "items": {"type": "string"}}


class MetadataFieldExtension(OpenApiSerializerFieldExtension):
    target_class = "agent_sessions.api.serializers.MetadataField"

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> Any:
        return dict(_OBJECT)


class FlagExtension(OpenApiSerializerFieldExtension):
    target_class = "agent_sessions.api.filters.Flag"

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> Any:
        return {"type": "boolean"}


class NamesExtension(OpenApiSerializerFieldExtension):
    target_class = "agent_sessions.api.filters.Names"

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> Any:
        known = "|".join(self.target.known)
        return {"type": "string", "pattern": f"^({known})(,({known}))*$"}


class BodyExtension(OpenApiSerializerExtension):
    """Bodies take no other fields."""

    target_class = serializers.Body
    match_subclasses = True

    def map_serializer(self, auto_schema: Any, direction: Any) -> Any:
        schema = auto_schema._map_serializer(
            self.target, direction, bypass_extensions=True
        )
        return {**schema, "additionalProperties": False}


class SessionExtension(OpenApiSerializerExtension):
    """To staff who may not read them, what people wrote is null."""

    target_class = serializers.SessionRepresentation

    def get_name(self, auto_schema: Any, direction: Any) -> str:
        return "AgentSession"

    def map_serializer(self, auto_schema: Any, direction: Any) -> Any:
        schema = auto_schema._map_serializer(
            self.target, direction, bypass_extensions=True
        )
        for name in self.target.content_fields:
            schema["properties"][name]["nullable"] = True
        return schema


class ItemExtension(OpenApiSerializerExtension):
    target_class = serializers.ItemRepresentation

    def get_name(self, auto_schema: Any, direction: Any) -> str:
        return "SessionItem"

    def map_serializer(self, auto_schema: Any, direction: Any) -> Any:
        schema = auto_schema._map_serializer(
            self.target, direction, bypass_extensions=True
        )
        schema["properties"]["data"] |= {
            "nullable": True,
            "description": "The item as the agent stored it, without what `omitted` "
            "names; null if the row does not decode.",
        }
        schema["properties"]["omitted"]["description"] = (
            "JSON pointers to heavy parts that were left out: see `include`."
        )
        return schema


class UserExtension(OpenApiSerializerExtension):
    target_class = serializers.UserRepresentation

    def get_name(self, auto_schema: Any, direction: Any) -> str:
        return "AgentUser"


class BlockExtension(OpenApiSerializerExtension):
    target_class = serializers.BlockRepresentation

    def get_name(self, auto_schema: Any, direction: Any) -> str:
        return "TranscriptBlock"

    def map_serializer(self, auto_schema: Any, direction: Any) -> Any:
        moment = {"type": "string", "format": "date-time"}
        return {
            "type": "object",
            "description": "Something that happened. `kind` tells what, and which "
            "other fields there are; new kinds may come.",
            "required": ["kind", "position", "turn", "created_at", "replaced_at"],
            "properties": {
                "kind": {"type": "string"},
                "position": {"type": "integer"},
                "turn": {"type": "integer"},
                "created_at": moment,
                "replaced_at": {**moment, "nullable": True},
            },
            "additionalProperties": {},
        }


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


_COMMON = {
    400: _problem("Fields or parameters that are wrong, by name.", fields=True),
    401: _problem("Not logged in."),
    403: _problem("Not logged in, or not allowed."),
    406: _problem("None of the types that are accepted."),
    429: _problem("Too many requests, if the project limits them."),
}
_BODY = {
    413: _problem("The body is too large."),
    415: _problem("The body is not JSON."),
}
_FOUND = {404: _problem("There is no such session, or it is somebody else's.")}
_LOCKED = {503: _problem("Another request holds the session. Try again.")}
_CHECKED = {412: _problem("The session was changed since it was read.")}

_IF_MATCH = OpenApiParameter(
    "If-Match",
    str,
    OpenApiParameter.HEADER,
    description="The ETag of the session as it was read: it is changed only if its "
    "title, metadata and archive flag are still the same.",
)
_ETAG = OpenApiParameter(
    "ETag",
    str,
    OpenApiParameter.HEADER,
    response=[200, 201],
    description="The session's `revision`. What the agent appends does not change it.",
)
_LOCATION = OpenApiParameter(
    "Location", OpenApiTypes.URI, OpenApiParameter.HEADER, response=[201]
)
_SESSION_PATH = OpenApiParameter("session", OpenApiTypes.UUID, OpenApiParameter.PATH)
_TAGS = ["agent sessions"]


def _operation(
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


def _copy(view: Any) -> Any:
    # What is said of a view must not be said of the one that serves.
    return type(view.__name__, (view,), {"__doc__": view.__doc__})


class SessionViewExtension(OpenApiViewExtension):
    target_class = "agent_sessions.api.viewsets.SessionViewSet"

    def view_replacement(self) -> Any:
        shown = serializers.SessionRepresentation
        page = inline_serializer(
            "TranscriptPage",
            {
                "next": fields.URLField(allow_null=True),
                "previous": fields.URLField(allow_null=True),
                "results": serializers.BlockRepresentation(many=True),
            },
        )
        text = OpenApiResponse(OpenApiTypes.STR, "The file.")
        return extend_schema_view(
            list=_operation(
                "list_sessions",
                {200: shown(many=True)},
                parameters=[filters.SessionListQuery],
                description="List sessions, newest activity first. `metadata.<key>=`"
                "`<value>` asks for those whose metadata has this value; up to five.",
            ),
            create=_operation(
                "create_session",
                {201: shown},
                _BODY,
                request=serializers.NewSession,
                parameters=[_ETAG, _LOCATION],
            ),
            retrieve=_operation(
                "read_session",
                {200: shown},
                _FOUND,
                parameters=[filters.ScopedQuery, _ETAG],
            ),
            partial_update=_operation(
                "update_session",
                {200: shown},
                _BODY,
                _FOUND,
                _CHECKED,
                _LOCKED,
                request={
                    "application/json": serializers.SessionChanges,
                    "application/merge-patch+json": serializers.SessionChanges,
                },
                parameters=[_IF_MATCH, _ETAG],
            ),
            destroy=_operation(
                "delete_session",
                {204: None},
                _FOUND,
                _CHECKED,
                _LOCKED,
                parameters=[_IF_MATCH],
            ),
            clear=_operation(
                "clear_session", {204: None}, _FOUND, _LOCKED, request=None
            ),
            claim=_operation(
                "claim_session",
                {200: shown},
                _BODY,
                _LOCKED,
                request=serializers.ClaimToken,
                parameters=[_ETAG],
            ),
            transcript=_operation(
                "read_transcript",
                {200: page},
                _FOUND,
                parameters=[filters.TranscriptQuery],
            ),
            export=_operation(
                "export_session",
                {
                    (200, "application/json"): OpenApiResponse(
                        _OBJECT, "The file, as an attachment."
                    ),
                    (200, "application/x-ndjson"): text,
                    (200, "text/markdown"): text,
                },
                _FOUND,
                parameters=[filters.ExportQuery],
            ),
        )(_copy(self.target))


class ItemViewExtension(OpenApiViewExtension):
    target_class = "agent_sessions.api.viewsets.ItemViewSet"

    def view_replacement(self) -> Any:
        shown = serializers.ItemRepresentation
        position = OpenApiParameter("position", OpenApiTypes.INT, OpenApiParameter.PATH)
        return extend_schema_view(
            list=_operation(
                "list_items",
                {200: shown(many=True)},
                _FOUND,
                parameters=[_SESSION_PATH, filters.ItemListQuery],
            ),
            retrieve=_operation(
                "read_item",
                {200: shown},
                _FOUND,
                parameters=[_SESSION_PATH, position, filters.ItemQuery],
            ),
        )(_copy(self.target))


class MeViewExtension(OpenApiViewExtension):
    target_class = "agent_sessions.api.viewsets.MeViewSet"

    def view_replacement(self) -> Any:
        shown = serializers.UserRepresentation
        return extend_schema_view(
            retrieve=_operation("read_me", {200: shown}),
            partial_update=_operation(
                "update_me",
                {200: shown},
                _BODY,
                _LOCKED,
                request={
                    "application/json": serializers.UserChanges,
                    "application/merge-patch+json": serializers.UserChanges,
                },
            ),
        )(_copy(self.target))
