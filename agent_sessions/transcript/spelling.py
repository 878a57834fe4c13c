"""Any value as text that a page, a file and a database client can show."""

from __future__ import annotations

import json
import re
from typing import Any

# Deeper than this, indentation hides more than it shows.
SHOWN_DEPTH = 40

_UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_DATA_URL = re.compile(
    r"data:(?:([\w.+-]+/[\w.+-]+)(?:;[\w.+=-]+)*|(?:;[\w.+=-]+)+),", re.ASCII
)

# To indent is slow, and nobody reads so much.
INDENTED_LENGTH = 50_000

# What is longer is data and not words.
_INLINE_DATA = 200


def spell_text(text: str) -> str:
    """
    Return ``text`` with its line ends as \\n and what has no glyph made visible.

    Control characters become their pictures (NUL is ␀), halves of surrogate pairs,
    which have no UTF-8, their escapes.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _UNSEEN.sub(_show, text)


def spell_json(value: Any) -> str:
    """
    Return ``value`` as JSON without what nobody reads, indented unless it is long.

    Data URLs and encrypted content are named by their size; what is nested deeper than
    40 levels is left out.
    """
    try:
        shown = _readable(value, SHOWN_DEPTH)
        text = json.dumps(shown, ensure_ascii=False)
        if len(text) <= INDENTED_LENGTH:
            text = json.dumps(shown, ensure_ascii=False, indent=2)
        return spell_text(text)
    except (TypeError, ValueError):
        return "…"


def read_json(text: str) -> Any:
    """Return the JSON object or array that ``text`` holds; None if it is neither."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None


def data_url(text: str) -> tuple[str, int] | None:
    """Return media type and bytes of the data in a data URL; None if it is none."""
    found = _DATA_URL.match(text)
    if found is None:
        return None
    size = len(text) - found.end()
    if found.group().endswith("base64,"):
        size = base64_size(text, start=found.end())
    return found.group(1) or "", size


def base64_size(text: str, *, start: int = 0) -> int:
    """Return how many bytes the base64 in ``text`` stands for."""
    padding = text[-2:].count("=")
    return max(0, (len(text) - start) * 3 // 4 - padding)


def _show(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"\\u{code:04x}"


def _readable(value: Any, depth: int, key: str = "") -> Any:
    if isinstance(value, str):
        if key == "encrypted_content":
            return f"… ({len(value)} characters, encrypted)"
        if len(value) > _INLINE_DATA and (found := data_url(value)):
            media_type, size = found
            return f"data:{media_type},… ({size} bytes)"
        return value
    if not isinstance(value, dict | list) or not value:
        return value
    if depth == 0:
        return "…"
    if isinstance(value, dict):
        return {
            name: _readable(child, depth - 1, name) for name, child in value.items()
        }
    return [_readable(child, depth - 1, key) for child in value]
