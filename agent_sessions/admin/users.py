from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import Count, Sum
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from agent_sessions import access, store
from agent_sessions.admin.charts import draw
from agent_sessions.admin.lookups import WordsNotLookedUp
from agent_sessions.admin.paginator import BoundedPaginator
from agent_sessions.admin.search import user_search_fields
from agent_sessions.admin.session_list import relative_time, user_url
from agent_sessions.admin.states import row_states, spell_states
from agent_sessions.admin.statistics import recent_days
from agent_sessions.admin.usage import usage_list
from agent_sessions.conf import conf
from agent_sessions.models import (
    AgentSession,
    AgentUser,
    SessionItem,
    sessions_aside,
)
from agent_sessions.usage import TokenUsage

USAGE_DAYS = 30

if TYPE_CHECKING:
    Base = admin.ModelAdmin[Any]
else:
    Base = object


class AgentSessionsUserAdminMixin(Base):
    """
    For the project's own UserAdmin: a user's latest sessions, and a deletion that
    counts sessions instead of loading them.
    """

    agent_sessions_shown = 10

    class Media:
        css = {"all": ["agent_sessions/admin.css"]}

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None or not _may_view(request):
            return fieldsets
        # Before what support seldom needs: dates, permissions.
        first, *others = fieldsets
        fields = [_latest_field(request), "agent_sessions_usage"]
        ours = (_("Agent sessions"), {"fields": fields})
        return [first, ours, *others]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        # Without fieldsets of its own Django takes in every field that is read-only.
        fields = super().get_fields(request, obj)
        ours = {_latest_field(request), "agent_sessions_usage"}
        return [name for name in fields if name not in ours]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        fields = super().get_readonly_fields(request, obj)
        return [*fields, _latest_field(request), "agent_sessions_usage"]

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        with sessions_aside():
            listed, models, needed, protected = super().get_deleted_objects(
                objs, request
            )
        # It is about the user and goes with them, whoever may delete it by itself.
        own = str(AgentUser._meta.verbose_name)
        needed = {name for name in needed if str(name) != own}
        if conf.AGENT_SESSIONS_ON_USER_DELETE != "delete":
            return listed, models, needed, protected
        sessions = AgentSession.objects.filter(user__in=[user.pk for user in objs])
        found = sessions.order_by().aggregate(n=Count("pk"), items=Sum("item_count"))
        if found["n"]:
            meta = AgentSession._meta
            models = {
                **models,
                str(meta.verbose_name_plural): found["n"],
                str(SessionItem._meta.verbose_name_plural): found["items"] or 0,
            }
            text = ngettext(
                "%(count)d agent session", "%(count)d agent sessions", found["n"]
            )
            listed = [*listed, text % {"count": found["n"]}]
            if not request.user.has_perm("agent_sessions.delete_agentsession"):
                needed = {*needed, str(meta.verbose_name)}
        return listed, models, needed, protected

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        _delete_sessions([obj])
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        _delete_sessions(queryset)
        super().delete_queryset(request, queryset)

    @admin.display(description=_("Latest sessions"))
    def latest_agent_sessions(self, obj: Any) -> str:
        return self._latest(obj, shows_words=False)

    @admin.display(description=_("Latest sessions"))
    def latest_agent_sessions_in_words(self, obj: Any) -> str:
        return self._latest(obj, shows_words=True)

    @admin.display(description=_("usage"))
    def agent_sessions_usage(self, obj: Any) -> str:
        days = recent_days(USAGE_DAYS)
        found = store.get_usage_by_day(obj, since=days[0], until=days[-1])
        total = sum((day.usage for day in found), TokenUsage())
        if not total:
            return gettext("None in the last %(days)s days.") % {"days": USAGE_DAYS}
        tokens = {day.day: day.usage.total_tokens for day in found}
        return render_to_string(
            "agent_sessions/admin/user_usage.html",
            {
                "usage": usage_list(total),
                "days": USAGE_DAYS,
                "chart": draw((day, tokens.get(day, 0)) for day in days),
            },
        )

    def _latest(self, obj: Any, *, shows_words: bool) -> str:
        rows = AgentSession.objects.for_user(obj).newest_first()
        rows = rows[: self.agent_sessions_shown]
        lines = [self._line(row, shows_words) for row in rows]
        if not lines:
            return gettext("None yet.")
        page = f"{self.admin_site.name}:agent_sessions_agentsession_changelist"
        return format_html(
            '<ul class="agent-sessions">{}</ul><a href="{}?user__exact={}">{}</a>',
            format_html_join("", "<li>{}</li>", ((line,) for line in lines)),
            reverse(page),
            obj.pk,
            gettext("All sessions of this user"),
        )

    def _line(self, row: AgentSession, shows_words: bool) -> str:
        page = f"{self.admin_site.name}:agent_sessions_agentsession_change"
        words = row.title or row.preview if shows_words else ""
        items = ngettext("%(count)d item", "%(count)d items", row.item_count)
        return format_html(
            '<a href="{}" dir="auto" class="agent-words">{}</a> – {}, {} {}',
            reverse(page, args=[row.pk]),
            words or str(row),
            items % {"count": row.item_count},
            relative_time(row.updated_at),
            spell_states(row_states(row)),
        )


@admin.register(AgentUser)
class AgentUserAdmin(WordsNotLookedUp):
    list_display = ["owner", "created_at", "updated_at"]
    list_select_related = ["user"]
    ordering = ["pk"]
    paginator = BoundedPaginator
    show_full_result_count = False
    sortable_by = ()

    class Media:
        css = {"all": ["agent_sessions/admin.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        fields = ["user_link", "created_at", "updated_at"]
        may_read = access.may_read_unasked(request.user)
        return [*fields, "metadata"] if may_read else fields

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.get_fields(request, obj)

    def get_search_fields(self, request: HttpRequest) -> Any:
        return [f"user__{name}" for name in user_search_fields()]

    def get_object(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        row = super().get_object(request, *args, **kwargs)
        if row is not None:
            row.admin_user_url = user_url(request, self.admin_site, row.pk)
        return row

    @admin.display(description=_("user"))
    def owner(self, obj: AgentUser) -> str:
        return format_html('<bdi dir="auto">{}</bdi>', str(obj.user))

    @admin.display(description=_("user"))
    def user_link(self, obj: AgentUser) -> str:
        url = getattr(obj, "admin_user_url", None)
        return (
            format_html('<a href="{}">{}</a>', url, self.owner(obj))
            if url
            else (self.owner(obj))
        )


def _may_view(request: HttpRequest) -> bool:
    return request.user.has_perm(
        "agent_sessions.view_agentsession"
    ) or request.user.has_perm("agent_sessions.change_agentsession")


def _latest_field(request: HttpRequest) -> str:
    if access.may_read_unasked(request.user):
        return "latest_agent_sessions_in_words"
    return "latest_agent_sessions"


def _delete_sessions(users: Any) -> None:
    if conf.AGENT_SESSIONS_ON_USER_DELETE == "delete":
        keys = AgentSession.objects.filter(user__in=[user.pk for user in users])
        store.delete_sessions(keys.order_by().values_list("pk", flat=True))
