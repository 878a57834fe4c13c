"""Which call an item is, or answers, without reading all that is in it."""

from __future__ import annotations

from agent_sessions.shapes import Item, item_type
from agent_sessions.transcript.parts import word
from agent_sessions.transcript.tools import call_family


def tool_name(item: Item) -> str:
    """
    Return the name of the tool that the item calls; "" if it is no call.

    With its namespace or server before a dot. A tool of the provider's, which has no
    name, goes by its kind: ``web_search``.
    """
    family = call_family(item_type(item))
    if not family:
        return ""
    name = word(item.get("name")) or word(family)
    space = word(item.get("namespace")) or word(item.get("server_label"))
    return f"{space}.{name}" if space else name
