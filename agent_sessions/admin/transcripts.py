from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
)
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.formats import localize
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from agent_sessions import exports, store
from agent_sessions.access import (
    may_export,
    may_read,
    may_read_unasked,
    record_access,
)
from agent_sessions.admin.ages import local_time
from agent_sessions.admin.forms import ReasonForm, SessionForm
from agent_sessions.admin.lineage import find_lineage
from agent_sessions.admin.pages import page_links, read_page
from agent_sessions.admin.reasons import given_reason, keep_reason, needs_reason
from agent_sessions.admin.usage import usage_list
from agent_sessions.conf import conf
from agent_sessions.jsonlines import dump_sessions
from agent_sessions.models import AgentSession, SessionAccess
from agent_sessions.store.usage import sum_usage
from agent_sessions.streaming import stream
from agent_sessions.transcript.spelling import spell_text

# Of a longer text the page of its item shows the start; the download has all.
RAW_LIMIT = 1_000_000


def _export_lines(session: AgentSession) -> Iterator[bytes]:
    return dump_sessions([session.pk], using=store.row_handle(session).using)


_DOWNLOADS: dict[str, tuple[Callable[[AgentSession], Iterator[bytes]], str]] = {
    "json": (exports.export_json, "application/json"),
    "jsonl": (_export_lines, "application/x-ndjson"),
    "md": (exports.export_markdown, "text/markdown; charset=utf-8"),
}


class TranscriptAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """The page of one session: what was said in it, and ways to take it along."""

    form = SessionForm
    change_form_template = "admin/agent_sessions/agentsession/change_form.html"
    save_on_top = True

    class Media:
        css = {"all": ["agent_sessions/transcript.css"]}

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        frame = [
            ("user", "archived_since", "item_count", "turn_count"),
            ("created_at", "updated_at"),
            ("usage",),
            ("id", "session_id") if _shows_session_id(request, obj) else ("id",),
        ]
        kept = ["title", "metadata", "archived"] if may_read(request.user) else []
        if not kept and self.has_change_permission(request, obj):
            kept = ["archived"]
        about = (
            _("Title, metadata, archive"),
            {"fields": kept, "classes": ["collapse"]},
        )
        return [(None, {"fields": frame}), *([about] if kept else [])]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [
            *("id", "session_id", "user", "archived_since", "created_at"),
            *("updated_at", "item_count", "turn_count", "usage"),
        ]

    def save_model(
        self, request: HttpRequest, obj: AgentSession, form: Any, change: bool
    ) -> None:
        changes = {name: form.cleaned_data[name] for name in form.changed_data}
        store.update_session(obj, **changes)

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        context["content_off"] = not conf.AGENT_SESSIONS_SHOW_CONTENT
        if may_read(request.user):
            if needs_reason(request, obj.pk):
                return self._ask_reason(request, obj)
            page = read_page(request, obj)
            self._record(request, obj, SessionAccess.Action.OPENED)
            context |= {
                "transcript": page,
                "transcript_links": page_links(request, page),
                "may_export": may_export(request.user),
            }
        context["lineage"] = find_lineage(
            self.get_queryset(request), obj, shows_words=may_read_unasked(request.user)
        )
        return super().render_change_form(request, context, add, change, form_url, obj)

    def get_urls(self) -> list[URLPattern]:
        names = (self.opts.app_label, self.opts.model_name)
        site, name = self.admin_site, "{}_{}_{{}}".format(*names).format
        item = "<uuid:session>/items/<int:position>/"
        return [
            path(
                "<uuid:session>/download.<str:format>",
                site.admin_view(self.download_view),
                name=name("download"),
            ),
            path(
                "<uuid:session>/reason/",
                site.admin_view(self.reason_view),
                name=name("reason"),
            ),
            path(item, site.admin_view(self.item_view), name=name("item")),
            path(
                f"{item}download.json",
                site.admin_view(self.item_download_view),
                name=name("item_download"),
            ),
            *super().get_urls(),
        ]

    def download_view(
        self, request: HttpRequest, session: UUID, format: str
    ) -> HttpResponseBase:
        """Stream the session as a file."""
        if format not in _DOWNLOADS:
            raise Http404
        row = self._get_readable(request, session)
        if not may_export(request.user):
            raise PermissionDenied
        if needs_reason(request, row.pk):
            return self._ask_reason(request, row)
        self._record(request, row, SessionAccess.Action.EXPORTED)
        export, content_type = _DOWNLOADS[format]
        name = f"{row.pk}.{format}"
        return stream(request, export(row), filename=name, content_type=content_type)

    def item_view(
        self, request: HttpRequest, session: UUID, position: int
    ) -> HttpResponseBase:
        """Show one item whole, and its JSON."""
        row = self._get_readable(request, session)
        if needs_reason(request, row.pk):
            return self._ask_reason(request, row)
        page = store.read_transcript_page(
            row, after=position - 1, size=1, text_limit=RAW_LIMIT
        )
        item = store.find_row(row, position) if page.first == position else None
        if item is None:
            raise Http404
        self._record(request, row, SessionAccess.Action.OPENED)
        raw = _indent(store.read_raw(item), item.data)
        context = {
            **self.admin_site.each_context(request),
            "title": _("Item %(position)s") % {"position": position},
            "subtitle": None,
            "opts": self.opts,
            "original": row,
            "item": item,
            "shown": page.sections[0].turns[0].blocks[0],
            "raw": raw[:RAW_LIMIT],
            "raw_is_cut": len(raw) > RAW_LIMIT,
            "may_export": may_export(request.user),
            "media": self.media,
        }
        return TemplateResponse(request, "admin/agent_sessions/item.html", context)

    def item_download_view(
        self, request: HttpRequest, session: UUID, position: int
    ) -> HttpResponseBase:
        """Give out one item's text exactly as it is stored."""
        row = self._get_readable(request, session)
        if not may_export(request.user):
            raise PermissionDenied
        if needs_reason(request, row.pk):
            return self._ask_reason(request, row)
        item = store.find_row(row, position)
        if item is None:
            raise Http404
        self._record(request, row, SessionAccess.Action.EXPORTED)
        return stream(
            request,
            iter([store.read_raw(item).encode()]),
            filename=f"{row.pk}-{position}.json",
            content_type="application/json",
        )

    def reason_view(self, request: HttpRequest, session: UUID) -> HttpResponseBase:
        """Keep the reason for opening a session, and go to it."""
        row = self._get_readable(request, session)
        form = ReasonForm(request.POST or None)
        if not form.is_valid():
            return self._ask_reason(request, row, form)
        keep_reason(request, row.pk, form.cleaned_data["reason"])
        return HttpResponseRedirect(self._url("change", row.pk))

    def _ask_reason(
        self, request: HttpRequest, row: AgentSession, form: ReasonForm | None = None
    ) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": _("Reason"),
            "subtitle": None,
            "opts": self.opts,
            "original": row,
            "form": form or ReasonForm(),
            "action": self._url("reason", row.pk),
            "media": self.media,
        }
        return TemplateResponse(request, "admin/agent_sessions/reason.html", context)

    def _get_readable(self, request: HttpRequest, session: UUID) -> AgentSession:
        row: AgentSession | None = self.get_object(request, str(session))
        if not self.has_view_or_change_permission(request, row) or not may_read(
            request.user
        ):
            raise PermissionDenied
        if row is None:
            raise Http404
        return row

    def _record(
        self, request: HttpRequest, row: AgentSession, action: SessionAccess.Action
    ) -> None:
        reason = given_reason(request, row.pk)
        record_access(request, action, sessions=[row.pk], reason=reason)

    def _url(self, view: str, session: UUID) -> str:
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_{view}"
        return reverse(name, args=[session], current_app=self.admin_site.name)

    @admin.display(description=_("usage"))
    def usage(self, obj: AgentSession) -> str:
        usage = sum_usage([obj]).get(obj.pk)
        if not usage:
            return "–"
        note = gettext("Turns that were taken back are counted too.")
        return format_html('{}<p class="agent-quiet">{}</p>', usage_list(usage), note)

    @admin.display(description=_("archived"))
    def archived_since(self, obj: AgentSession) -> Any:
        if obj.archived_at is None:
            return _("no")
        # Django spells the times of fields, not of methods.
        return localize(local_time(obj.archived_at))

    @admin.display(description=_("archived"), boolean=True)
    def archived(self, obj: AgentSession) -> bool:
        return obj.archived_at is not None


def _shows_session_id(request: HttpRequest, obj: AgentSession | None) -> bool:
    # A session that never had an owner opens to whoever brings its id.
    is_anonymous = obj is not None and obj.user_id is None and not obj.is_orphaned
    return not is_anonymous or may_read(request.user)


def _indent(text: str, item: Any) -> str:
    if not isinstance(item, dict):
        return spell_text(text)
    try:
        return spell_text(json.dumps(item, indent=2, ensure_ascii=False))
    except (ValueError, RecursionError):
        return spell_text(text)
