"""What all routes share."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, ClassVar
from uuid import UUID

from django.apps import apps
from django.utils.cache import patch_cache_control
from rest_framework.exceptions import NotFound, PermissionDenied
from rest_framework.renderers import (
    BaseRenderer,
    BrowsableAPIRenderer,
    JSONRenderer,
)
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.viewsets import GenericViewSet

from agent_sessions import access
from agent_sessions.api.errors import http_error
from agent_sessions.api.filters import Query, read_query
from agent_sessions.api.parsers import BoundedJSONParser, MergePatchParser
from agent_sessions.api.permissions import SessionPermission, asks_for_all
from agent_sessions.api.serializers import SessionRepresentation
from agent_sessions.models import AgentSession, AgentSessionQuerySet, SessionAccess
from agent_sessions.store.handles import session_alias

THROTTLE_SCOPE = "agent_sessions"


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
