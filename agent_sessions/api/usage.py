"""What sessions have used of models: numbers alone, nothing that was said."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response

from agent_sessions import store
from agent_sessions.api.doors import Door, SessionDoor
from agent_sessions.api.filters import TurnUsageQuery, UsageQuery
from agent_sessions.api.pagination import KeysetPagination
from agent_sessions.api.serializers import (
    TurnUsageRepresentation,
    UsageRepresentation,
    UserUsageRepresentation,
)
from agent_sessions.models import TurnUsage
from agent_sessions.usage import TokenUsage


class SessionUsageViewSet(SessionDoor):
    """What a session has used."""

    queryset = TurnUsage.objects.none()
    serializer_class = TurnUsageRepresentation
    pagination_class = KeysetPagination
    queries = {"list": TurnUsageQuery}

    def list(self, request: Request, session: UUID) -> Response:
        """Show what a session has used, in all and by turn; removed turns too."""
        row = self.find_session(session)
        turns = TurnUsage.objects.using(row._state.db).filter(session=row.pk)
        page = self.paginate_queryset(turns)
        total = UsageRepresentation(store.read_usage(row)).data
        shown = self.get_serializer(page, many=True).data
        return Response({"total": total, **self.get_paginated_response(shown).data})


class UsageViewSet(Door):
    """What the caller has used."""

    serializer_class = UserUsageRepresentation
    queries = {"retrieve": UsageQuery}

    def retrieve(self, request: Request) -> Response:
        """Show what the caller's sessions have used, in all, by day and by session."""
        user: Any = request.user
        since, until, limit = (self.query[name] for name in ("since", "until", "limit"))
        days = store.get_usage_by_day(user, since=since, until=until)
        sessions = store.get_usage_by_session(
            user, since=since, until=until, limit=limit
        )
        used = {
            "since": since,
            "until": until,
            "total": sum((day.usage for day in days), TokenUsage()),
            "days": days,
            "sessions": sessions,
        }
        return Response(self.get_serializer(used).data)
