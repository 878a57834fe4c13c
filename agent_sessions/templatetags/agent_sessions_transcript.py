from __future__ import annotations

from django import template
from django.utils.safestring import SafeString

from agent_sessions.markdown import render_markdown
from agent_sessions.transcript.blocks import Message

register = template.Library()


@register.filter
def markdown(text: str, block: object) -> SafeString | None:
    """Return what an assistant wrote as HTML; None to show it as plain text."""
    if isinstance(block, Message) and block.role == "assistant":
        return render_markdown(text)
    return None
