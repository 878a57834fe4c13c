from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from agent_sessions.admin.paginator import BoundedPaginator
from agent_sessions.models import ErasureReceipt


@admin.register(ErasureReceipt)
class ErasureReceiptAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Who was erased, and how much it was. Nobody changes that here."""

    list_display = [
        "started_at",
        "erased_user",
        "asked_by",
        "sessions",
        "items",
        "finished_at",
    ]
    paginator = BoundedPaginator
    search_fields = ["=id", "=erased_user"]
    show_full_result_count = False
    sortable_by = ()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
