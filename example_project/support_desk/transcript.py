from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from agent_sessions.shapes import item_role, item_text, item_type


@dataclass(frozen=True)
class Line:
    """One line of a transcript; ``kind`` is "user", "assistant" or "tool"."""

    kind: str
    text: str


def read_lines(items: Iterable[dict[str, Any]]) -> Iterator[Line]:
    """Yield what people want to see of a session's items."""
    for item in items:
        role, type = item_role(item), item_type(item)
        if role in ("user", "assistant"):
            yield Line(role, item_text(item))
        elif type == "function_call":
            yield Line("tool", f"{item.get('name')} {item.get('arguments')}")
        elif type == "function_call_output":
            yield Line("tool", f"→ {item.get('output')}")
        elif type != "reasoning":
            yield Line("tool", type or role)
