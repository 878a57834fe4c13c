from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

from django.http import StreamingHttpResponse
from django.utils.http import parse_etags
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import remove_query_param, replace_query_param

from agent_sessions import access, exports, store
from agent_sessions.api.bodies import (
    ClaimToken,
    NewFork,
    NewSession,
    Rewind,
    SessionChanges,
    UserChanges,
)
from agent_sessions.api.content_filters import (
    ExportQuery,
    HeavyQuery,
    TranscriptQuery,
)
from agent_sessions.api.doors import Door, SessionDoor
from agent_sessions.api.filters import ScopedQuery, SessionListQuery
from agent_sessions.api.lineage import annotate_origins, read_origin, set_origin
from agent_sessions.api.pagination import KeysetPagination
from agent_sessions.api.permissions import asks_for_all
from agent_sessions.api.serializers import (
    BlockRepresentation,
    RewoundRepresentation,
    UserRepresentation,
)
from agent_sessions.jsonlines import dump_sessions
from agent_sessions.models import AgentSession, AgentSessionQuerySet, SessionAccess
from agent_sessions.streaming import stream

# Of a longer text a transcript holds the start; the item has it whole.
TEXT_LIMIT = 20_000


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
        "rewind": HeavyQuery,
    }

    def get_queryset(self) -> AgentSessionQuerySet:
        return annotate_origins(super().get_queryset())

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
        return self.show_new(
            store.create_session(self.caller, **self.read_body(NewSession))
        )

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
        return self.show(set_origin(changed, read_origin(row)))

    def destroy(self, request: Request, pk: UUID) -> Response:
        """Delete a session with all its items."""
        row = self.find_session(pk)
        if not store.delete_session(row, revisions=self.wanted_revisions()):
            raise NotFound
        return Response(status=status.HTTP_204_NO_CONTENT)

    @action(detail=True, methods=["post"])
    def clear(self, request: Request, pk: UUID) -> Response:
        """Remove all items of a session, which stays, unless a run holds it."""
        row = self.find_session(pk)
        store.clear_session(row, unless_leased=True, revisions=self.wanted_revisions())
        return Response(status=status.HTTP_204_NO_CONTENT)

    @action(detail=True, methods=["post"])
    def rewind(self, request: Request, pk: UUID) -> Response:
        """Remove a turn and all after it, unless a run holds the session."""
        row = self.find_session(pk)
        rewound = store.take_back_turns(
            row, revisions=self.wanted_revisions(), **self.read_body(Rewind)
        )
        set_origin(rewound.session, read_origin(row))
        if rewound.kept is not None:
            set_origin(rewound.kept, row.pk)
        include = self.query.get("include", set())
        context = {**self.get_serializer_context(), "include": include}
        return Response(RewoundRepresentation(rewound, context=context).data)

    @action(detail=True, methods=["post"])
    def fork(self, request: Request, pk: UUID) -> Response:
        """Copy a session, or what came before one of its turns, into a new one."""
        row = self.find_session(pk)
        fork = store.fork_session(
            row, revisions=self.wanted_revisions(), **self.read_body(NewFork)
        )
        return self.show_new(set_origin(fork, row.pk))

    @action(detail=False, methods=["post"])
    def claim(self, request: Request) -> Response:
        """Make the anonymous session that a token names the caller's."""
        body = self.read_body(ClaimToken)
        claimed = store.claim_with_token(body["token"], self.caller)
        return self.show(self.find_session(claimed.pk))

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

    def show_new(self, row: AgentSession) -> Response:
        response = self.show(row, status=status.HTTP_201_CREATED)
        response["Location"] = self.reverse_action("detail", kwargs={"pk": row.pk})
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
