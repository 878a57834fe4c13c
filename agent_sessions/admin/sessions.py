from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from agent_sessions.access import may_read
from agent_sessions.admin.actions import SessionActions
from agent_sessions.admin.session_list import SessionList
from agent_sessions.models import AgentSession


@admin.register(AgentSession)
class AgentSessionAdmin(SessionList, SessionActions):
    fields = ["id", "session_id", "user", "item_count", "turn_count", "updated_at"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        # Sessions begin with what agents say, and nobody puts words into their mouths.
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.get_fields(request, obj)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        fields = list(super().get_fields(request, obj))
        return [*fields, "title", "metadata"] if may_read(request.user) else fields
