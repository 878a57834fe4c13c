from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.core.exceptions import BadRequest
from django.db.models import Sum
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext, gettext_noop, ngettext
from django.utils.translation import gettext_lazy as _

from agent_sessions import access, store
from agent_sessions.conf import conf
from agent_sessions.jsonlines import dump_sessions
from agent_sessions.models import (
    REASON_MAX_LENGTH,
    AgentSession,
    SessionAccess,
    SessionItem,
)
from agent_sessions.streaming import stream

SELECTION_LIMIT = 10_000
SHOWN = 20

# Logged in English, because a log has many readers.
ARCHIVED = gettext_noop("Archived.")
RESTORED = gettext_noop("Restored.")
REMOVED_OWNER = gettext_noop("Removed the owner.")


class SessionActions(admin.ModelAdmin):  # type: ignore[type-arg]
    """What can be done to the sessions selected in the list, all through the store."""

    actions = [
        "archive_selected",
        "restore_selected",
        "export_selected",
        "remove_owner_selected",
        "delete_selected",
    ]

    def has_export_permission(self, request: HttpRequest) -> bool:
        return access.may_export(request.user)

    @admin.action(description=_("Archive"), permissions=["change"])
    def archive_selected(self, request: HttpRequest, queryset: Any) -> None:
        if keys := self._selection(request, queryset.active()):
            count = store.archive_sessions(keys)
            self._log(request, keys, CHANGE, ARCHIVED)
            text = ngettext(
                "%(count)d session was archived.",
                "%(count)d sessions were archived.",
                count,
            )
            self._report(request, text, count)

    @admin.action(description=_("Restore from the archive"), permissions=["change"])
    def restore_selected(self, request: HttpRequest, queryset: Any) -> None:
        if keys := self._selection(request, queryset.archived()):
            count = store.archive_sessions(keys, archived=False)
            self._log(request, keys, CHANGE, RESTORED)
            text = ngettext(
                "%(count)d session was restored.",
                "%(count)d sessions were restored.",
                count,
            )
            self._report(request, text, count)

    @admin.action(description=_("Export as JSON Lines"), permissions=["export"])
    def export_selected(
        self, request: HttpRequest, queryset: Any
    ) -> HttpResponseBase | None:
        keys = self._selection(request, queryset)
        if not keys:
            return None
        reason = request.POST.get("reason", "").strip()
        if conf.AGENT_SESSIONS_REQUIRE_REASON and not reason:
            return self._ask(
                request,
                keys,
                action="export_selected",
                title=_("Export sessions"),
                question=_("Why do you take along what was said in these sessions?"),
                answer=_("Export"),
                asks_reason=True,
            )
        action = SessionAccess.Action.EXPORTED
        access.record_access(request, action, sessions=keys, reason=reason)
        return stream(
            request,
            dump_sessions(keys, using=queryset.db),
            filename=f"agent-sessions-{timezone.now():%Y%m%d-%H%M%S}.jsonl",
            content_type="application/x-ndjson",
        )

    @admin.action(description=_("Remove the owner"), permissions=["change"])
    def remove_owner_selected(
        self, request: HttpRequest, queryset: Any
    ) -> HttpResponseBase | None:
        keys = self._selection(request, queryset.filter(user__isnull=False))
        if not keys:
            return None
        if "confirmed" not in request.POST:
            return self._ask(
                request,
                keys,
                action="remove_owner_selected",
                title=_("Remove the owner"),
                question=_(
                    "Take these sessions from their owners for good? Nobody will be "
                    "able to open or claim them; only the admin shows them."
                ),
                answer=_("Remove the owner"),
            )
        self._log(request, keys, CHANGE, REMOVED_OWNER)
        count = store.remove_owners(keys)
        text = ngettext(
            "%(count)d session has no owner any more.",
            "%(count)d sessions have no owner any more.",
            count,
        )
        self._report(request, text, count)
        return None

    @admin.action(description=_("Delete"), permissions=["delete"])
    def delete_selected(
        self, request: HttpRequest, queryset: Any
    ) -> HttpResponseBase | None:
        keys = self._selection(request, queryset)
        if not keys:
            return None
        if "confirmed" not in request.POST:
            return self._ask(
                request,
                keys,
                action="delete_selected",
                title=_("Delete sessions"),
                question=_(
                    "Delete these sessions with everything that was said in them? "
                    "This cannot be undone."
                ),
                answer=_("Delete"),
                is_dangerous=True,
            )
        self._log(request, keys, DELETION)
        count = store.delete_sessions(keys)
        text = ngettext(
            "%(count)d session was deleted.",
            "%(count)d sessions were deleted.",
            count,
        )
        self._report(request, text, count)
        return None

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: Any = None
    ) -> HttpResponse:
        """Say in the reader's language what the actions have logged."""
        response = super().history_view(request, object_id, extra_context)
        context = getattr(response, "context_data", None) or {}
        for entry in context.get("action_list", ()):
            if entry.change_message in (ARCHIVED, RESTORED, REMOVED_OWNER):
                entry.change_message = gettext(entry.change_message)
        return response

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Count from the stored counters: Django would load every item."""
        keys = [obj.pk for obj in objs]
        items = self._count_items(keys)
        models = {
            AgentSession._meta.verbose_name_plural: len(keys),
            SessionItem._meta.verbose_name_plural: items,
        }
        allowed = self.has_delete_permission(request)
        needed = set() if allowed else {str(AgentSession._meta.verbose_name)}
        return [str(key) for key in keys[:SHOWN]], models, needed, []

    def delete_model(self, request: HttpRequest, obj: AgentSession) -> None:
        store.delete_session(obj)

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        store.delete_sessions(queryset.values_list("pk", flat=True))

    def _selection(self, request: HttpRequest, queryset: Any) -> list[UUID]:
        """Return the keys of the selected sessions; none, and say why, if too many."""
        if confirmed := request.POST.get("sessions"):
            try:
                keys = [UUID(key) for key in confirmed.split(",")]
            except ValueError:
                raise BadRequest("The selection is not a list of UUIDs.") from None
            visible = self.get_queryset(request).order_by().values_list("pk", flat=True)
            return [
                key
                for batch in _batches(keys[:SELECTION_LIMIT])
                for key in visible.filter(pk__in=batch)
            ]
        found = list(queryset.values_list("pk", flat=True)[: SELECTION_LIMIT + 1])
        if len(found) > SELECTION_LIMIT:
            text = gettext("Select at most %(limit)s sessions at once.")
            text %= {"limit": SELECTION_LIMIT}
            self.message_user(request, text, messages.ERROR)
            return []
        if not found:
            text = gettext("None of the selected sessions needs that.")
            self.message_user(request, text, messages.WARNING)
        return found

    def _ask(
        self,
        request: HttpRequest,
        keys: list[UUID],
        *,
        action: str,
        title: str | Promise,
        question: str | Promise,
        answer: str | Promise,
        asks_reason: bool = False,
        is_dangerous: bool = False,
    ) -> TemplateResponse:
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": title,
            "media": self.media,
            "question": question,
            "answer": answer,
            "action": action,
            "asks_reason": asks_reason,
            "is_dangerous": is_dangerous,
            "reason_max_length": REASON_MAX_LENGTH,
            "checkbox_name": ACTION_CHECKBOX_NAME,
            "back": request.get_full_path(),
            "first": keys[0],
            # One field for all: Django takes no more than a thousand.
            "sessions": ",".join(key.hex for key in keys),
            "shown": keys[:SHOWN],
            "more": len(keys[SHOWN:]),
            "session_count": len(keys),
            "item_count": self._count_items(keys),
        }
        return TemplateResponse(request, "agent_sessions/admin/confirm.html", context)

    def _count_items(self, keys: list[UUID]) -> int:
        total = 0
        for batch in _batches(keys):
            rows = AgentSession.objects.filter(pk__in=batch).order_by()
            total += rows.aggregate(items=Sum("item_count"))["items"] or 0
        return total

    def _log(
        self, request: HttpRequest, keys: list[UUID], flag: int, message: str = ""
    ) -> None:
        for batch in _batches(keys):
            LogEntry.objects.log_actions(
                user_id=request.user.pk,  # type: ignore[arg-type]
                # The key is all that a log entry takes of a session.
                queryset=[AgentSession(pk=key) for key in batch],
                action_flag=flag,
                change_message=message,
            )

    def _report(self, request: HttpRequest, text: str, count: int) -> None:
        self.message_user(request, text % {"count": count}, messages.SUCCESS)


def _batches(keys: Iterable[UUID]) -> Iterable[list[UUID]]:
    remaining = iter(keys)
    while batch := list(islice(remaining, 1000)):
        yield batch
