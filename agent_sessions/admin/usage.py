"""What sessions have used, for their list and their pages. It is nobody's words."""

from __future__ import annotations

from django.utils.html import format_html

from agent_sessions.amounts import shorten_amount, spell_amount


def short_amount(count: int) -> str:
    """Return a number in short, with all its digits on hover."""
    exact, short = spell_amount(count), shorten_amount(count)
    if short == exact:
        return exact
    return format_html('<span title="{}">{}</span>', exact, short)
