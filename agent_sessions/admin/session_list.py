from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import quote
from django.contrib.auth import get_user_model
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from agent_sessions import access
from agent_sessions.admin.ages import age, local_time
from agent_sessions.admin.filters import (
    ActivityFilter,
    ArchivedFilter,
    ForkFilter,
    OwnerFilter,
    SizeFilter,
)
from agent_sessions.admin.lookups import WordsNotLookedUp
from agent_sessions.admin.paginator import BoundedPaginator
from agent_sessions.admin.search import (
    TEXT_SESSION_LIMIT,
    USER_LIMIT,
    Found,
    TextSearch,
    find_in_texts,
    find_sessions,
    parse_text_search,
)
from agent_sessions.admin.states import State, find_states, spell_states
from agent_sessions.admin.usage import short_amount
from agent_sessions.exceptions import ReasonMissing
from agent_sessions.models import AgentSession, AgentSessionQuerySet, SessionAccess
from agent_sessions.store.usage import sum_usage
from agent_sessions.usage import TokenUsage


@dataclass
class Row:
    """What the list shows of a session beside its columns."""

    states: list[State]
    owner_url: str | None
    usage: TokenUsage


class SessionList(WordsNotLookedUp):
    """The list of sessions: its columns, filters and search."""

    list_filter = [ActivityFilter, OwnerFilter, ArchivedFilter, ForkFilter, SizeFilter]
    list_per_page = 50
    list_select_related = ["user"]
    # What makes Django show the box; get_search_results() decides where to look.
    search_fields = ["session_id"]
    paginator = BoundedPaginator
    show_facets = admin.ShowFacets.NEVER
    show_full_result_count = False
    sortable_by = ["last_activity", "item_count", "created"]

    class Media:
        css = {"all": ["agent_sessions/admin.css"]}

    def get_list_display(self, request: HttpRequest) -> Any:
        may_read = access.may_read_unasked(request.user)
        first = "words" if may_read else "identity"
        return [
            first,
            "state",
            "owner",
            "last_activity",
            "item_count",
            "turn_count",
            "tokens",
            "created",
        ]

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist: Any = super().get_changelist_instance(request)
        if request.method != "POST":
            # Not Django's search_help_text: with it the box has a description and no
            # label that is seen.
            changelist.search_hint = self._search_hint(request)
            changelist.result_list = list(changelist.result_list)
            if changelist.paginator.is_cut:
                # Django would tell the bound as the number of results.
                changelist.full_result_count = changelist.result_count
            self._look_up(request, changelist.result_list)
        return changelist

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        term = search_term.strip()
        if not term or "\0" in term:
            return queryset, False
        text_search = parse_text_search(term)
        if text_search is None:
            may_read = access.may_read_unasked(request.user)
            found = find_sessions(queryset, term, in_titles=may_read)
        else:
            found = self._search_texts(request, queryset, text_search)
        self._tell_bounds(request, found)
        return found.rows, False

    @admin.display(description=_("session"))
    def words(self, obj: AgentSession) -> str:
        return format_html(
            '<span dir="auto" class="agent-words">{}</span>',
            obj.title or obj.preview or str(obj),
        )

    @admin.display(description=_("session"))
    def identity(self, obj: AgentSession) -> str:
        return str(obj)

    @admin.display(description=_("user"), empty_value="–")
    def owner(self, obj: AgentSession) -> str | None:
        if obj.user is None:
            return None
        url = self._row(obj).owner_url
        name = format_html('<bdi dir="auto">{}</bdi>', str(obj.user) or obj.user_id)
        return name if url is None else format_html('<a href="{}">{}</a>', url, name)

    @admin.display(description=_("last activity"), ordering="updated_at")
    def last_activity(self, obj: AgentSession) -> str:
        return relative_time(obj.updated_at)

    @admin.display(description=_("created"), ordering="created_at")
    def created(self, obj: AgentSession) -> str:
        local = local_time(obj.created_at)
        return format_html(
            '<time datetime="{}">{}</time>',
            local.isoformat(timespec="seconds"),
            date_format(local, "SHORT_DATE_FORMAT"),
        )

    @admin.display(description=_("tokens"), empty_value="–")
    def tokens(self, obj: AgentSession) -> str | None:
        usage = self._row(obj).usage
        return short_amount(usage.total_tokens) if usage else None

    @admin.display(description=_("state"), empty_value="")
    def state(self, obj: AgentSession) -> str:
        return spell_states(self._row(obj).states)

    def _row(self, obj: AgentSession) -> Row:
        return getattr(obj, "admin_row", None) or Row([], None, TokenUsage())

    def _look_up(self, request: HttpRequest, rows: list[AgentSession]) -> None:
        states, used = find_states(rows), sum_usage(rows)
        for row in rows:
            url = user_url(request, self.admin_site, row.user_id)
            usage = used.get(row.pk, TokenUsage())
            row.admin_row = Row(states[row.pk], url, usage)  # type: ignore[attr-defined]

    def _search_hint(self, request: HttpRequest) -> str:
        if access.may_read_unasked(request.user):
            return gettext(
                "E-mail, user name, user id, words of a title, or a whole session id "
                "or UUID. “text:words” looks into what was said in the newest "
                "%(limit)s sessions, and is recorded."
            ) % {"limit": TEXT_SESSION_LIMIT}
        if access.may_read(request.user):
            return gettext(
                "E-mail, user name, user id, or a whole session id or UUID. "
                "“text:words reason:ticket 42” looks into what was said in the newest "
                "%(limit)s sessions, and is recorded."
            ) % {"limit": TEXT_SESSION_LIMIT}
        return gettext("E-mail, user name, user id, or a whole session id or UUID.")

    def _search_texts(
        self,
        request: HttpRequest,
        rows: AgentSessionQuerySet,
        search: TextSearch,
    ) -> Found:
        problem = None
        if not access.may_read(request.user):
            problem = gettext("You may not search in what was said.")
        elif not search.words:
            problem = gettext("Say what to look for, after “text:”.")
        else:
            try:
                self._record_search(request, search)
            except ReasonMissing:
                problem = gettext(
                    "Searching in what was said needs a reason: "
                    "“text:words reason:ticket 42”."
                )
        if problem is not None:
            self.message_user(request, problem, messages.ERROR)
            return Found(rows.none())
        return find_in_texts(rows, search.words)

    def _record_search(self, request: HttpRequest, search: TextSearch) -> None:
        # An action on what was found searches once more, which is no second access.
        if getattr(request, "agent_sessions_search", None) != search:
            action = SessionAccess.Action.SEARCHED
            access.record_access(request, action, reason=search.reason)
            request.agent_sessions_search = search  # type: ignore[attr-defined]

    def _tell_bounds(self, request: HttpRequest, found: Found) -> None:
        if request.method == "POST":
            return
        if found.is_user_limit_reached:
            text = gettext("Many users match; only %(limit)s of them are searched.")
            self.message_user(request, text % {"limit": USER_LIMIT}, messages.WARNING)
        if found.searched_sessions is not None:
            text = ngettext(
                "Searched the texts of the newest session.",
                "Searched the texts of the %(count)d newest sessions.",
                found.searched_sessions,
            )
            count = {"count": found.searched_sessions}
            self.message_user(request, text % count, messages.INFO)


def relative_time(moment: datetime) -> str:
    """Return a ``<time>`` that reads "3 hours ago", with the exact time on hover."""
    local = local_time(moment)
    seconds = (timezone.now() - moment).total_seconds()
    words = gettext("just now") if seconds < 60 else age(moment)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        local.isoformat(timespec="seconds"),
        date_format(local, "DATETIME_FORMAT"),
        words,
    )


def user_url(request: HttpRequest, site: admin.AdminSite, user_id: Any) -> str | None:
    """Return the admin page of a user, if there is one that this person may open."""
    model = get_user_model()
    meta = model._meta
    may_view = request.user.has_perm(
        f"{meta.app_label}.view_{meta.model_name}"
    ) or request.user.has_perm(f"{meta.app_label}.change_{meta.model_name}")
    if user_id is None or not may_view or not site.is_registered(model):
        return None
    name = f"{site.name}:{meta.app_label}_{meta.model_name}_change"
    try:
        return reverse(name, args=[quote(user_id)])
    except NoReverseMatch:
        return None
