from __future__ import annotations

from contextlib import suppress
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from agent_sessions.admin.paginator import BoundedPaginator
from agent_sessions.admin.search import user_search_fields
from agent_sessions.models import SessionAccess


@admin.register(SessionAccess)
class SessionAccessAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Who looked at what. Nobody changes that here."""

    list_display = ["created_at", "who", "action", "which", "channel", "reason"]
    list_filter = ["action", "channel"]
    list_select_related = ["user"]
    paginator = BoundedPaginator
    search_fields = ["session"]
    show_facets = admin.ShowFacets.NEVER
    show_full_result_count = False
    sortable_by = ()

    class Media:
        css = {"all": ["agent_sessions/admin.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        with suppress(ValueError):
            return queryset.filter(session=UUID(term)), False
        users = Q()
        for name in user_search_fields():
            users |= Q(**{f"user__{name}__icontains": term})
        return queryset.filter(users) if users else queryset.none(), False

    @admin.display(description=_("user"), empty_value="–")
    def who(self, obj: SessionAccess) -> str | None:
        if obj.user is None:
            return None
        return format_html('<bdi dir="auto">{}</bdi>', str(obj.user) or obj.user_id)

    @admin.display(description=_("session"), empty_value="–")
    def which(self, obj: SessionAccess) -> str | None:
        if obj.session is None:
            return None
        page = f"{self.admin_site.name}:agent_sessions_agentsession_change"
        url = reverse(page, args=[obj.session])
        return format_html('<a href="{}">{}</a>', url, obj.session)
