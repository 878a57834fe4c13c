"""Which call an item is, or answers, without reading all that is in it."""

from __future__ import annotations

from agent_sessions.shapes import Item, item_type
from agent_sessions.transcript.parts import word
from agent_sessions.transcript.tools import call_family, output_family


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
    space = word(item.get("namespace"))
    if space == name:
        # The SDK's way to name a tool without one that the model has searched for.
        return name
    space = space or word(item.get("server_label"))
    return f"{space}.{name}" if space else name


def call_key(item: Item) -> tuple[str, str] | None:
    """Return what a call and its output have in common; None if it is no call."""
    family = call_family(item_type(item))
    # An approval is asked for by the request's own id.
    key = item.get("id" if family == "mcp_approval" else "call_id")
    return (family, key) if family and isinstance(key, str) else None


def output_key(item: Item) -> tuple[str, str] | None:
    """Return call_key() of the call that the item answers; None if it is no output."""
    family = output_family(item_type(item))
    key = item.get("approval_request_id" if family == "mcp_approval" else "call_id")
    if family == "local_shell" and key is None:
        key = item.get("id")
    return (family, key) if family and isinstance(key, str) else None
