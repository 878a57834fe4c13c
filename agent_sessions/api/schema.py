"""
What drf-spectacular cannot see by itself. Imported only where that is installed.

Each operation says all that it may answer, so that a client can be generated, and that
what the server says can be held against it.
"""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiViewExtension
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    OpenApiParameter,
    OpenApiResponse,
    extend_schema_serializer,
    extend_schema_view,
    inline_serializer,
)
from rest_framework import fields
from rest_framework.serializers import Serializer

from agent_sessions.api import bodies, content_filters, filters, serializers
from agent_sessions.api.schema_answers import (
    BODY,
    BUSY,
    BUSY_OR_PARTED,
    CHECKED,
    CREATES,
    ETAG,
    FOUND,
    IF_MATCH,
    LOCATION,
    LOCKED,
    PARTED,
    SESSION_PATH,
    operation,
)
from agent_sessions.api.schema_shapes import OBJECT


def _copy(view: Any) -> Any:
    # What is said of a view must not be said of the one that serves.
    return type(view.__name__, (view,), {"__doc__": view.__doc__})


# Whole pages, though their routes are lists.
@extend_schema_serializer(many=False)
class TurnPage(Serializer[Any]):
    previous = fields.URLField(allow_null=True)
    results = serializers.TurnRepresentation(many=True)


@extend_schema_serializer(many=False)
class TurnUsagePage(Serializer[Any]):
    total = serializers.UsageRepresentation()
    next = fields.URLField(allow_null=True)
    previous = fields.URLField(allow_null=True)
    results = serializers.TurnUsageRepresentation(many=True)


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
            list=operation(
                "list_sessions",
                {200: shown(many=True)},
                parameters=[filters.SessionListQuery],
                description="List sessions, newest activity first. `metadata.<key>=`"
                "`<value>` asks for those whose metadata has this value; up to five.",
            ),
            create=operation(
                "create_session",
                {201: shown},
                BODY,
                CREATES,
                request=bodies.NewSession,
                parameters=[ETAG, LOCATION],
            ),
            retrieve=operation(
                "read_session",
                {200: shown},
                FOUND,
                parameters=[filters.ScopedQuery, ETAG],
            ),
            partial_update=operation(
                "update_session",
                {200: shown},
                BODY,
                FOUND,
                CHECKED,
                LOCKED,
                request={
                    "application/json": bodies.SessionChanges,
                    "application/merge-patch+json": bodies.SessionChanges,
                },
                parameters=[IF_MATCH, ETAG],
            ),
            destroy=operation(
                "delete_session",
                {204: None},
                FOUND,
                CHECKED,
                LOCKED,
                parameters=[IF_MATCH],
            ),
            clear=operation(
                "clear_session",
                {204: None},
                FOUND,
                BUSY,
                CHECKED,
                LOCKED,
                request=None,
                parameters=[IF_MATCH],
            ),
            rewind=operation(
                "rewind_session",
                {200: serializers.RewoundRepresentation},
                BODY,
                CREATES,
                FOUND,
                BUSY_OR_PARTED,
                CHECKED,
                LOCKED,
                request=bodies.Rewind,
                parameters=[content_filters.HeavyQuery, IF_MATCH],
            ),
            fork=operation(
                "fork_session",
                {201: shown},
                BODY,
                CREATES,
                FOUND,
                PARTED,
                CHECKED,
                LOCKED,
                request=bodies.NewFork,
                parameters=[IF_MATCH, ETAG, LOCATION],
            ),
            claim=operation(
                "claim_session",
                {200: shown},
                BODY,
                LOCKED,
                request=bodies.ClaimToken,
                parameters=[ETAG],
            ),
            transcript=operation(
                "read_transcript",
                {200: page},
                FOUND,
                parameters=[content_filters.TranscriptQuery],
            ),
            export=operation(
                "export_session",
                {
                    (200, "application/json"): OpenApiResponse(
                        OBJECT, "The file, as an attachment."
                    ),
                    (200, "application/x-ndjson"): text,
                    (200, "text/markdown"): text,
                },
                FOUND,
                parameters=[content_filters.ExportQuery],
            ),
        )(_copy(self.target))


class ItemViewExtension(OpenApiViewExtension):
    target_class = "agent_sessions.api.contents.ItemViewSet"

    def view_replacement(self) -> Any:
        shown = serializers.ItemRepresentation
        position = OpenApiParameter("position", OpenApiTypes.INT, OpenApiParameter.PATH)
        return extend_schema_view(
            list=operation(
                "list_items",
                {200: shown(many=True)},
                FOUND,
                parameters=[SESSION_PATH, content_filters.ItemListQuery],
            ),
            retrieve=operation(
                "read_item",
                {200: shown},
                FOUND,
                parameters=[SESSION_PATH, position, content_filters.ItemQuery],
            ),
        )(_copy(self.target))


class TurnViewExtension(OpenApiViewExtension):
    target_class = "agent_sessions.api.contents.TurnViewSet"

    def view_replacement(self) -> Any:
        return extend_schema_view(
            list=operation(
                "list_turns",
                {200: TurnPage},
                FOUND,
                parameters=[SESSION_PATH, content_filters.TurnListQuery],
            )
        )(_copy(self.target))


class SessionUsageViewExtension(OpenApiViewExtension):
    target_class = "agent_sessions.api.usage.SessionUsageViewSet"

    def view_replacement(self) -> Any:
        return extend_schema_view(
            list=operation(
                "read_session_usage",
                {200: TurnUsagePage},
                FOUND,
                parameters=[SESSION_PATH, filters.TurnUsageQuery],
            )
        )(_copy(self.target))


class UsageViewExtension(OpenApiViewExtension):
    target_class = "agent_sessions.api.usage.UsageViewSet"

    def view_replacement(self) -> Any:
        return extend_schema_view(
            retrieve=operation(
                "read_usage",
                {200: serializers.UserUsageRepresentation},
                parameters=[filters.UsageQuery],
            )
        )(_copy(self.target))


class MeViewExtension(OpenApiViewExtension):
    target_class = "agent_sessions.api.viewsets.MeViewSet"

    def view_replacement(self) -> Any:
        shown = serializers.UserRepresentation
        return extend_schema_view(
            retrieve=operation("read_me", {200: shown}),
            partial_update=operation(
                "update_me",
                {200: shown},
                BODY,
                LOCKED,
                request={
                    "application/json": bodies.UserChanges,
                    "application/merge-patch+json": bodies.UserChanges,
                },
            ),
        )(_copy(self.target))
