from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Any, ClassVar
from uuid import UUID

from django.apps import apps
from django.http import StreamingHttpResponse
from django.utils.cache import patch_cache_control
from django.utils.http import parse_etags
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound, PermissionDenied
from rest_framework.renderers import (
    BaseRenderer,
    BrowsableAPIRenderer,
    JSONRenderer,
)
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.utils.urls import remove_query_param, replace_query_param
from rest_framework.viewsets import GenericViewSet

from agent_sessions import access, exports, store
from agent_sessions.api.errors import http_error
from agent_sessions.api.filters import (
    ExportQuery,
    ItemListQuery,
    ItemQuery,
    Query,
    ScopedQuery,
    SessionListQuery,
    TranscriptQuery,
    read_query,
)
from agent_sessions.api.pagination import KeysetPagination
from agent_sessions.api.parsers import BoundedJSONParser, MergePatchParser
from agent_sessions.api.permissions import SessionPermission, asks_for_all
from agent_sessions.api.serializers import (
    BlockRepresentation,
    ClaimToken,
    ItemRepresentation,
    NewSession,
    SessionChanges,
    SessionRepresentation,
    UserChanges,
    UserRepresentation,
)
from agent_sessions.jsonlines import dump_sessions
from agent_sessions.models import (
    AgentSession,
    AgentSessionQuerySet,
    SessionAccess,
    SessionItem,
)
from agent_sessions.store.handles import session_alias
from agent_sessions.streaming import stream

THROTTLE_SCOPE = "agent_sessions"

# Of a longer text a transcript holds the start; the item has it whole.
TEXT_LIMIT = 20_000


class Door(GenericViewSet[Any]):
    """What all routes share: who may come in, what they read, how errors are said."""

    permission_classes = [SessionPermission]
    parser_classes = [BoundedJSONParser, MergePatchParser]
    # Filters are read by the queries below, whatever the project has by default.
    filter_backends: Any = []
    pagination_class: Any = None
    queryset: Any = AgentSession.objects.none()
    serializer_class: Any = SessionRepresentation
    queries: ClassVar[dict[str, type[Query]]] = {}
    # What the request's parameters say, once they are checked.
    checked: Any = None
    query: Any = MappingProxyType({})

    @property
    def throttle_scope(self) -> str | None:
        # ScopedRateThrottle fails on a scope that the project has no rate for.
        rates = api_settings.DEFAULT_THROTTLE_RATES
        return THROTTLE_SCOPE if THROTTLE_SCOPE in rates else None

    def get_renderers(self) -> list[BaseRenderer]:
        renderers = super().get_renderers()
        if apps.is_installed("rest_framework"):
            return renderers
        # Django finds its templates only in an app that is installed.
        plain = [
            renderer
            for renderer in renderers
            if not isinstance(renderer, BrowsableAPIRenderer)
        ]
        return plain or [JSONRenderer()]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        # Neither OPTIONS nor a method that the route does not have.
        if self.action in self.action_map.values():
            self.checked = read_query(request, self.queries.get(self.action, Query))
            self.query = self.checked.validated_data

    def handle_exception(self, exc: Exception) -> Response:
        return super().handle_exception(http_error(exc))

    def finalize_response(
        self, request: Request, response: Any, *args: Any, **kwargs: Any
    ) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        patch_cache_control(response, private=True, no_store=True)
        return response

    def read_body(self, kind: type[Any]) -> dict[str, Any]:
        body = kind(data=self.request.data)
        body.is_valid(raise_exception=True)
        values: dict[str, Any] = body.validated_data
        return values


class SessionDoor(Door):
    """Routes below a session."""

    def get_queryset(self) -> AgentSessionQuerySet:
        rows = AgentSession.objects.using(session_alias())
        if asks_for_all(self.request):
            return rows
        user: Any = self.request.user
        return rows.for_user(user)

    def find_session(self, pk: UUID) -> AgentSession:
        """Return the session; raise NotFound if there is none that the caller sees."""
        row = self.get_queryset().filter(pk=pk).first()
        if row is None:
            raise NotFound
        return row

    def record(self, action: SessionAccess.Action, *sessions: UUID) -> None:
        """Refuse content to staff who may not see it, and keep that others saw it."""
        if not asks_for_all(self.request):
            return
        user = self.request.user
        exported = action == SessionAccess.Action.EXPORTED
        if not (access.may_export(user) if exported else access.may_read(user)):
            raise PermissionDenied
        access.record_access(
            self.request._request,
            action,
            channel=SessionAccess.Channel.API,
            sessions=sessions,
            reason=self.query.get("reason", ""),
        )


class SessionViewSet(SessionDoor):
    """The caller's sessions."""

    lookup_url_kwarg = "pk"
    lookup_value_converter = "uuid"
    pagination_class = KeysetPagination
    queries = {
        "list": SessionListQuery,
        "retrieve": ScopedQuery,
        "transcript": TranscriptQuery,
        "export": ExportQuery,
    }

    def get_serializer_context(self) -> dict[str, Any]:
        # A session by itself asks for the reason that its list cannot.
        alone = self.action == "retrieve"
        may_read = access.may_read if alone else access.may_read_unasked
        hidden = asks_for_all(self.request) and not may_read(self.request.user)
        return {**super().get_serializer_context(), "hide_content": hidden}

    def list(self, request: Request) -> Response:
        """List sessions, newest activity first."""
        if self.checked.searches:
            self.record(SessionAccess.Action.SEARCHED)
        page = self.paginate_queryset(self.checked.filter(self.get_queryset()))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    def create(self, request: Request) -> Response:
        """Create a session of the caller's."""
        row = store.create_session(self.caller, **self.read_body(NewSession))
        response = self.show(row, status=status.HTTP_201_CREATED)
        response["Location"] = self.reverse_action("detail", kwargs={"pk": row.pk})
        return response

    def retrieve(self, request: Request, pk: UUID) -> Response:
        """Show a session, without its items."""
        row = self.find_session(pk)
        if asks_for_all(request) and access.may_read(request.user):
            self.record(SessionAccess.Action.OPENED, row.pk)
        return self.show(row)

    def partial_update(self, request: Request, pk: UUID) -> Response:
        """Change title, metadata (a JSON merge patch) or the archive flag."""
        row = self.find_session(pk)
        changes = self.read_body(SessionChanges)
        patch = changes.pop("metadata", None)
        changed = store.update_session(
            row, metadata_patch=patch, revisions=self.wanted_revisions(), **changes
        )
        return self.show(changed)

    def destroy(self, request: Request, pk: UUID) -> Response:
        """Delete a session with all its items."""
        row = self.find_session(pk)
        if not store.delete_session(row, revisions=self.wanted_revisions()):
            raise NotFound
        return Response(status=status.HTTP_204_NO_CONTENT)

    @action(detail=True, methods=["post"])
    def clear(self, request: Request, pk: UUID) -> Response:
        """Remove all items of a session, which stays."""
        store.clear_session(self.find_session(pk))
        return Response(status=status.HTTP_204_NO_CONTENT)

    @action(detail=False, methods=["post"])
    def claim(self, request: Request) -> Response:
        """Make the anonymous session that a token names the caller's."""
        body = self.read_body(ClaimToken)
        return self.show(store.claim_with_token(body["token"], self.caller))

    @action(detail=True)
    def transcript(self, request: Request, pk: UUID) -> Response:
        """Show what was said as blocks to render, oldest first on each page."""
        row = self.find_session(pk)
        self.record(SessionAccess.Action.OPENED, row.pk)
        page = store.read_transcript_page(
            row,
            before=self.query.get("before"),
            after=self.query.get("after"),
            size=self.query["limit"],
            text_limit=TEXT_LIMIT,
        )
        blocks = [
            block
            for section in page.sections
            for turn in section.turns
            for block in turn.blocks
        ]
        url = request.build_absolute_uri()
        for name in ("before", "after"):
            url = remove_query_param(url, name)
        previous = page.has_older and page.first is not None
        following = page.has_newer and page.last is not None
        return Response(
            {
                "next": replace_query_param(url, "after", page.last)
                if following
                else None,
                "previous": replace_query_param(url, "before", page.first)
                if previous
                else None,
                "results": [BlockRepresentation(block).data for block in blocks],
            }
        )

    @action(detail=True)
    def export(self, request: Request, pk: UUID) -> StreamingHttpResponse:
        """Download a session with all its items."""
        row = self.find_session(pk)
        self.record(SessionAccess.Action.EXPORTED, row.pk)
        extension = self.query["as"]
        write, content_type = _EXPORTS[extension]
        return stream(
            request._request,
            write(row),
            filename=f"{row.pk}.{extension}",
            content_type=content_type,
        )

    def perform_content_negotiation(
        self, request: Request, force: bool = False
    ) -> tuple[Any, str]:
        # An export has types that no renderer of the project's knows.
        force = force or self.action == "export"
        return super().perform_content_negotiation(request, force)

    @property
    def caller(self) -> Any:
        return self.request.user

    def show(self, row: AgentSession, **options: Any) -> Response:
        response = Response(self.get_serializer(row).data, **options)
        response["ETag"] = f'"{row.revision}"'
        return response

    def wanted_revisions(self) -> set[int] | None:
        """Return the revisions that If-Match names; None if any will do."""
        header = self.request.headers.get("If-Match")
        if header is None:
            return None
        etags = parse_etags(header)
        if etags == ["*"]:
            return None
        # A server that compresses makes them weak.
        found = (re.fullmatch(r'(?:W/)?"(\d{1,10})"', etag) for etag in etags)
        return {int(match[1]) for match in found if match}


class ItemViewSet(SessionDoor):
    """What was said in a session, item by item. They are only read."""

    queryset = SessionItem.objects.none()
    serializer_class = ItemRepresentation
    lookup_field = "position"
    lookup_value_converter = "int"
    pagination_class = KeysetPagination
    queries = {"list": ItemListQuery, "retrieve": ItemQuery}

    def get_serializer_context(self) -> dict[str, Any]:
        include = self.query.get("include", set())
        return {**super().get_serializer_context(), "include": include}

    def list(self, request: Request, session: UUID) -> Response:
        """List the items of a session by position."""
        items = self.checked.filter(self.find_items(session))
        page = self.paginate_queryset(items)
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    def retrieve(self, request: Request, session: UUID, position: int) -> Response:
        """Show the item at a position."""
        item = self.find_items(session).filter(position=position).first()
        if item is None:
            raise NotFound
        return Response(self.get_serializer(item).data)

    def find_items(self, session: UUID) -> Any:
        row = self.find_session(session)
        self.record(SessionAccess.Action.OPENED, row.pk)
        return SessionItem.objects.using(row._state.db).filter(session=row.pk)


class MeViewSet(Door):
    """What agents keep about the caller across sessions."""

    serializer_class = UserRepresentation

    def retrieve(self, request: Request) -> Response:
        """Show what agents keep about the caller."""
        user: Any = request.user
        return self.show(store.read_user_metadata(user))

    def partial_update(self, request: Request) -> Response:
        """Change what agents keep about the caller by a JSON merge patch."""
        user: Any = request.user
        changes = self.read_body(UserChanges).get("metadata", {})
        if not changes:
            return self.show(store.read_user_metadata(user))
        return self.show(store.update_user_metadata(changes, user=user))

    def show(self, metadata: dict[str, Any]) -> Response:
        return Response(UserRepresentation({"metadata": metadata}).data)


def _dump_one(row: AgentSession) -> Iterator[bytes]:
    return dump_sessions([row.pk], using=store.row_handle(row).using)


_EXPORTS: dict[str, tuple[Callable[[AgentSession], Iterator[bytes]], str]] = {
    "json": (exports.export_json, "application/json"),
    "jsonl": (_dump_one, "application/x-ndjson"),
    "md": (exports.export_markdown, "text/markdown; charset=utf-8"),
}
