"""What sessions have used, for their list and their pages. It is nobody's words."""

from __future__ import annotations

from django.utils.html import format_html, format_html_join
from django.utils.text import capfirst

from agent_sessions.amounts import shorten_amount, spell_amount
from agent_sessions.models import TurnUsage
from agent_sessions.usage import USAGE_FIELDS, TokenUsage


def short_amount(count: int) -> str:
    """Return a number in short, with all its digits on hover."""
    exact, short = spell_amount(count), shorten_amount(count)
    if short == exact:
        return exact
    return format_html('<span title="{}">{}</span>', exact, short)


def usage_list(usage: TokenUsage) -> str:
    """Return the six counts with their names, to the digit; their total first."""
    names = {field.name: field.verbose_name for field in TurnUsage._meta.fields}
    *parts, total = zip(USAGE_FIELDS, usage.counts, strict=True)
    pairs = [total, *parts]
    return format_html(
        '<dl class="agent-figures agent-usage">{}</dl>',
        format_html_join(
            "",
            "<div><dt>{}</dt><dd>{}</dd></div>",
            ((capfirst(names[it]), spell_amount(count)) for it, count in pairs),
        ),
    )
