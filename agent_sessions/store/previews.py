from __future__ import annotations

from agent_sessions.encoding import decode_item
from agent_sessions.fields import RAW
from agent_sessions.models import SessionItemQuerySet
from agent_sessions.shapes import preview_text

_CHUNK = 20


def read_preview(items: SessionItemQuerySet) -> str:
    """Return the start of the first words of a user among these items of a session."""
    # Mostly those of the first message.
    texts = items.filter(role="user").order_by("position").values_list(RAW, flat=True)
    rows = texts.iterator(chunk_size=_CHUNK)
    previews = (preview_text(decode_item(text) or {}) for text in rows)
    return next(filter(None, previews), "")
