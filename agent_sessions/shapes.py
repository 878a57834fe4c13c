"""
What an SDK item is, asked of plain dicts.

The SDK types its items, but new kinds arrive every month and a store that validated
them on reading would lock its users out of their history. So nothing here fails on an
item that it does not know: a missing or odd field simply answers "".
"""

from __future__ import annotations

import re
from typing import Any, TypeAlias

Item: TypeAlias = dict[str, Any]

TYPE_MAX_LENGTH = 64
ROLE_MAX_LENGTH = 32
PREVIEW_MAX_LENGTH = 200

# PostgreSQL refuses NUL, and no database stores half a surrogate pair.
_UNSTORABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def item_type(item: Item) -> str:
    """Return the item's type as stored beside it; "" if it has none."""
    return _plain_word(item.get("type"), TYPE_MAX_LENGTH)


def item_role(item: Item) -> str:
    """Return the item's role as stored beside it; "" if it has none."""
    return _plain_word(item.get("role"), ROLE_MAX_LENGTH)


def starts_turn(item: Item) -> bool:
    """A turn starts at a user message and lasts until the next one."""
    return item_role(item) == "user"


def item_text(item: Item) -> str:
    """
    Return the words of a message: its text content, or its text parts by line.

    Source: ResponseInputParam of the OpenAI SDK; parts are ``input_text``,
    ``output_text``, ``text`` and ``refusal``.
    """
    content = item.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (part for part in content if isinstance(part, dict))
    words = (part.get("text") or part.get("refusal") for part in parts)
    return "\n".join(word for word in words if isinstance(word, str))


def preview_text(item: Item) -> str:
    """Return the start of the item's words on one line that any database can store."""
    # Far more than is kept, so that cleaning a megabyte costs nothing.
    start = item_text(item)[: PREVIEW_MAX_LENGTH * 4]
    line = " ".join(_UNSTORABLE.sub(" ", start).split())
    if len(line) <= PREVIEW_MAX_LENGTH:
        return line
    return line[: PREVIEW_MAX_LENGTH - 1].rstrip() + "…"


def _plain_word(value: object, max_length: int) -> str:
    # The SDK's types are words like "function_call_output". Whatever else stands there
    # stays in the item itself; the column is for filters.
    if isinstance(value, str) and len(value) <= max_length and value.isprintable():
        return str(value)
    return ""
