from __future__ import annotations

from typing import Any

from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request

SCOPE_ALL = "all"


def asks_for_all(request: Request) -> bool:
    """Tell whether the caller asks for more than their own sessions."""
    return request.query_params.get("scope") == SCOPE_ALL


class SessionPermission(IsAuthenticated):
    """Users for their own sessions; for all of them, staff who may view sessions."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not super().has_permission(request, view):
            return False
        if not asks_for_all(request):
            return True
        user: Any = request.user
        return bool(
            getattr(user, "is_staff", False)
            and user.has_perm("agent_sessions.view_agentsession")
        )
