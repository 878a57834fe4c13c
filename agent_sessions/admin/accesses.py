from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from agent_sessions.models import SessionAccess


@admin.register(SessionAccess)
class SessionAccessAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["created_at", "user", "action", "session", "channel", "reason"]
    list_filter = ["action", "channel"]
    list_select_related = ["user"]
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
