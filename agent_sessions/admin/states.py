"""What is the matter with a session, in words and a shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import OuterRef, Q, Subquery
from django.utils.functional import Promise
from django.utils.html import format_html_join
from django.utils.translation import gettext_lazy as _

from agent_sessions.models import AgentSession, SessionItem

# What the client has to answer; what the model's own tools do is done when it is said.
CALLS = {
    "apply_patch_call",
    "computer_call",
    "custom_tool_call",
    "function_call",
    "local_shell_call",
    "mcp_approval_request",
    "shell_call",
}
ANSWERS = {
    "apply_patch_call_output",
    "computer_call_output",
    "custom_tool_call_output",
    "function_call_output",
    "local_shell_call_output",
    "mcp_approval_response",
    "shell_call_output",
}


@dataclass(frozen=True)
class State:
    name: str
    shape: str
    words: str | Promise


ARCHIVED = State("archived", "▣", _("archived"))
ANONYMOUS = State("anonymous", "○", _("anonymous"))
ORPHANED = State("orphaned", "◇", _("orphaned"))
FORKED = State("forked", "◧", _("fork"))
UNANSWERED_CALL = State("unanswered-call", "▲", _("unanswered tool call"))
UNANSWERED_USER = State("unanswered-user", "●", _("unanswered user turn"))


def find_states(rows: Sequence[AgentSession]) -> dict[UUID, list[State]]:
    """Return what there is to say of each session, in at most two queries."""
    endings = _find_endings(rows)
    return {row.pk: [*row_states(row), *endings.get(row.pk, ())] for row in rows}


def spell_states(states: Iterable[State]) -> str:
    """Return the states as HTML."""
    return format_html_join(
        " ",
        '<span class="agent-state agent-state-{}">'
        '<span aria-hidden="true">{}</span> {}</span>',
        ((state.name, state.shape, state.words) for state in states),
    )


def row_states(row: AgentSession) -> Iterable[State]:
    """Yield what the row itself tells."""
    if row.archived_at is not None:
        yield ARCHIVED
    if row.is_orphaned:
        yield ORPHANED
    elif row.user_id is None:
        yield ANONYMOUS
    if row.forked_from is not None:
        yield FORKED


def _find_endings(rows: Sequence[AgentSession]) -> dict[UUID, list[State]]:
    if not rows:
        return {}
    using = rows[0]._state.db
    last = SessionItem.objects.live().filter(session=OuterRef("pk"))
    last = last.order_by("-position")
    found = (
        AgentSession.objects.using(using)
        .filter(pk__in=[row.pk for row in rows])
        .order_by()
        .values_list(
            "pk", Subquery(last.values("type")[:1]), Subquery(last.values("role")[:1])
        )
    )
    endings: dict[UUID, list[State]] = {}
    in_tools = set()
    for pk, item_type, role in found:
        if item_type in CALLS | ANSWERS:
            in_tools.add(pk)
        elif role == "user":
            endings[pk] = [UNANSWERED_USER]
    for pk in _find_unanswered([row for row in rows if row.pk in in_tools], using):
        endings[pk] = [UNANSWERED_CALL]
    return endings


def _find_unanswered(rows: Sequence[AgentSession], using: Any) -> list[UUID]:
    if not rows:
        return []
    # Calls made side by side are answered one by one: the last item does not tell. The
    # last turn does, of which a runaway agent can make a very long one.
    tails = Q()
    for row in rows:
        start = max(0, row.next_position - 50)
        tails |= Q(session=row.pk, turn=row.next_turn - 1, position__gte=start)
    tools = SessionItem.objects.using(using).live().filter(tails)
    tools = tools.filter(type__in=CALLS | ANSWERS)
    open_calls: Counter[UUID] = Counter()
    for pk, item_type in tools.values_list("session_id", "type").order_by():
        open_calls[pk] += 1 if item_type in CALLS else -1
    return [pk for pk, count in open_calls.items() if count > 0]
