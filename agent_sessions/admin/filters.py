from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from agent_sessions.models import AgentSessionQuerySet


class ActivityFilter(admin.SimpleListFilter):
    title = _("last activity")
    parameter_name = "activity"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return [
            ("1", _("Last 24 hours")),
            ("7", _("Last 7 days")),
            ("30", _("Last 30 days")),
            ("-90", _("More than 90 days ago")),
            ("-365", _("More than a year ago")),
        ]

    def queryset(self, request: HttpRequest, queryset: Any) -> AgentSessionQuerySet:
        rows: AgentSessionQuerySet = queryset
        match self.value():
            case "1" | "7" | "30" as days:
                since = timezone.now() - timedelta(days=int(days))
                return rows.filter(updated_at__gte=since)
            case "-90" | "-365" as days:
                before = timezone.now() + timedelta(days=int(days))
                return rows.filter(updated_at__lt=before)
        return rows


class OwnerFilter(admin.SimpleListFilter):
    title = _("owner")
    parameter_name = "owner"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return [
            ("present", _("Has an owner")),
            ("anonymous", _("Anonymous: never had one")),
            ("orphaned", _("Orphaned: lost its owner")),
        ]

    def queryset(self, request: HttpRequest, queryset: Any) -> AgentSessionQuerySet:
        rows: AgentSessionQuerySet = queryset
        match self.value():
            case "present":
                return rows.filter(user__isnull=False)
            case "anonymous":
                return rows.anonymous()
            case "orphaned":
                return rows.orphaned()
        return rows


class ArchivedFilter(admin.SimpleListFilter):
    title = _("archive")
    parameter_name = "archived"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return [("no", _("Not archived")), ("yes", _("Archived"))]

    def queryset(self, request: HttpRequest, queryset: Any) -> AgentSessionQuerySet:
        rows: AgentSessionQuerySet = queryset
        match self.value():
            case "no":
                return rows.active()
            case "yes":
                return rows.archived()
        return rows


class ForkFilter(admin.SimpleListFilter):
    title = _("fork")
    parameter_name = "fork"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return [("no", _("Not a fork")), ("yes", _("Fork of another session"))]

    def queryset(self, request: HttpRequest, queryset: Any) -> AgentSessionQuerySet:
        rows: AgentSessionQuerySet = queryset
        match self.value():
            case "no":
                return rows.filter(forked_from=None)
            case "yes":
                return rows.filter(forked_from__isnull=False)
        return rows


class SizeFilter(admin.SimpleListFilter):
    title = _("size")
    parameter_name = "size"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return [
            ("0", _("Empty")),
            ("1-20", _("1 to 20 items")),
            ("21-100", _("21 to 100 items")),
            ("101-1000", _("101 to 1,000 items")),
            ("1001-", _("More than 1,000 items")),
        ]

    def queryset(self, request: HttpRequest, queryset: Any) -> AgentSessionQuerySet:
        rows: AgentSessionQuerySet = queryset
        match self.value():
            case "0":
                return rows.filter(item_count=0)
            case "1-20" | "21-100" | "101-1000" as size:
                return rows.filter(item_count__range=map(int, size.split("-")))
            case "1001-":
                return rows.filter(item_count__gt=1000)
        return rows
