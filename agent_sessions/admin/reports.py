from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Max, Sum
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from agent_sessions.admin.charts import draw
from agent_sessions.admin.session_list import relative_time, user_url
from agent_sessions.admin.statistics import CACHE_SECONDS, read_statistics
from agent_sessions.admin.usage import short_amount
from agent_sessions.models import AgentSession

USERS_PER_PAGE = 50
PERIODS = [7, 30, 90]
ORDERS = {"sessions": ["-sessions", "-last"], "activity": ["-last", "user"]}


class SessionReports(admin.ModelAdmin):  # type: ignore[type-arg]
    """Pages about all sessions, by user and at large, without anybody's words."""

    def get_urls(self) -> Any:
        view = self.admin_site.admin_view
        name = "agent_sessions_agentsession"
        return [
            path("users/", view(self.users_view), name=f"{name}_users"),
            path("overview/", view(self.overview_view), name=f"{name}_overview"),
            *super().get_urls(),
        ]

    def users_view(self, request: HttpRequest) -> TemplateResponse:
        """Show who has how many sessions, in three queries for any page."""
        self._refuse_strangers(request)
        order = request.GET.get("o")
        order = order if order in ORDERS else "sessions"
        page = _number(request.GET.get("p"), 1)
        first = (page - 1) * USERS_PER_PAGE
        # What stands in the index of users' sessions, and nothing else.
        users = AgentSession.objects.filter(user__isnull=False).order_by()
        counted = users.values_list("user").annotate(
            sessions=Count("pk"), last=Max("updated_at")
        )
        found = list(
            counted.order_by(*ORDERS[order])[first : first + USERS_PER_PAGE + 1]
        )
        shown = found[:USERS_PER_PAGE]
        items = dict(
            users.filter(user__in=[key for key, *_ in shown])
            .values_list("user")
            .annotate(Sum("item_count"))
        )
        rows = [(key, count, items.get(key, 0), last) for key, count, last in shown]
        return self._render(
            request,
            "users",
            title=_("Agent sessions by user"),
            rows=self._name_users(request, rows, _find_users(key for key, *_ in rows)),
            order=order,
            page=page,
            newer=page - 1,
            older=page + 1 if len(found) > USERS_PER_PAGE else None,
        )

    def overview_view(self, request: HttpRequest) -> TemplateResponse:
        """Show charts of the last days, ten minutes old at most."""
        self._refuse_strangers(request)
        days = _number(request.GET.get("days"), 30)
        days = days if days in PERIODS else 30
        found = read_statistics(days)
        shown = [*found.busiest, *found.spenders]
        users = _find_users(key for key, *_ in shown)
        sizes = [
            gettext("Empty"),
            gettext("1 to 20 items"),
            gettext("21 to 100 items"),
            gettext("101 to 1,000 items"),
            gettext("More than 1,000 items"),
        ]
        return self._render(
            request,
            "overview",
            title=_("Overview of agent sessions"),
            days=days,
            periods=PERIODS,
            found=found,
            minutes=CACHE_SECONDS // 60,
            sessions=draw(found.sessions.items()),
            items=draw(found.items.items()),
            types=draw(found.types.items()),
            sizes=draw(zip(sizes, found.sizes, strict=True)),
            tokens=draw(found.tokens.items()),
            total_tokens=short_amount(sum(found.tokens.values())),
            spenders=draw(
                (self._label(request, key, users), count)
                for key, count in found.spenders
            ),
            busiest=self._name_users(request, found.busiest, users),
        )

    def _refuse_strangers(self, request: HttpRequest) -> None:
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied

    def _name_users(
        self,
        request: HttpRequest,
        rows: list[tuple[Any, int, int, Any]],
        users: dict[Any, Any],
    ) -> list[dict[str, Any]]:
        return [
            {
                "key": key,
                "name": str(users.get(key) or key),
                "url": user_url(request, self.admin_site, key),
                "sessions": sessions,
                "items": items,
                "last": relative_time(last),
            }
            for key, sessions, items, last in rows
        ]

    def _label(self, request: HttpRequest, key: Any, users: dict[Any, Any]) -> str:
        name = str(users.get(key) or key)
        url = user_url(request, self.admin_site, key)
        return format_html('<a href="{}">{}</a>', url, name) if url else name

    def _render(
        self, request: HttpRequest, template: str, **context: Any
    ) -> TemplateResponse:
        request.current_app = self.admin_site.name
        context |= {
            **self.admin_site.each_context(request),
            **context,
            "opts": self.opts,
            "media": self.media,
        }
        return TemplateResponse(
            request, f"agent_sessions/admin/{template}.html", context
        )


def _find_users(keys: Iterable[Any]) -> dict[Any, Any]:
    return get_user_model()._default_manager.in_bulk(set(keys))


def _number(value: str | None, default: int) -> int:
    try:
        return min(max(1, int(value or default)), 10_000)
    except ValueError:
        return default
