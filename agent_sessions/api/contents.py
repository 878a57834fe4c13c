"""What was said in a session. It is only read here."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from agent_sessions import store
from agent_sessions.api.content_filters import (
    ItemListQuery,
    ItemQuery,
    TurnListQuery,
)
from agent_sessions.api.doors import SessionDoor
from agent_sessions.api.pagination import KeysetPagination
from agent_sessions.api.serializers import ItemRepresentation, TurnRepresentation
from agent_sessions.models import SessionAccess, SessionItem


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


class TurnViewSet(SessionDoor):
    """What was said in a session, turn by turn."""

    serializer_class = TurnRepresentation
    queries = {"list": TurnListQuery}

    def list(self, request: Request, session: UUID) -> Response:
        """List a session's newest turns, oldest first on each page."""
        row = self.find_session(session)
        words: str = self.query.get("search", "")
        opened, searched = SessionAccess.Action.OPENED, SessionAccess.Action.SEARCHED
        self.record(searched if words else opened, row.pk)
        limit: int = self.query["limit"]
        # One more tells whether there are others before them.
        window: Any = {"limit": limit + 1, "before": self.query.get("before")}
        if words:
            turns = store.find_turns(row, words, **window)
        else:
            turns = store.get_turns(row, **window)
        page, previous = turns[-limit:], None
        if len(turns) > limit:
            url = request.build_absolute_uri()
            previous = replace_query_param(url, "before", page[0].number)
        shown = self.get_serializer(page, many=True).data
        return Response({"previous": previous, "results": shown})
