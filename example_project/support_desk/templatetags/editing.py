from __future__ import annotations

from django import template

from agent_sessions.transcript.blocks import Block, Message
from agent_sessions.transcript.parts import Text

register = template.Library()


@register.filter
def own_text(block: Block) -> str:
    """Return the words of a message that its author may change; "" for all else."""
    if not isinstance(block, Message) or block.role != "user" or block.replaced_at:
        return ""
    texts = [part.text for part in block.parts if isinstance(part, Text)]
    # A picture would be lost on the way.
    return "\n".join(texts) if len(texts) == len(block.parts) else ""
