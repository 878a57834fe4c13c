from __future__ import annotations

import re
from typing import Any

from agent_sessions.shapes import Item

# Shorter ones are no burden, and may be somebody's words.
_HEAVY_LENGTH = 512
_MEDIA_FIELDS = {"b64_json", "data", "file_data", "partial_image_b64", "result"}
_BASE64 = re.compile(r"[A-Za-z0-9+/_=\r\n-]+")
_HALF_PAIRS = re.compile("[\ud800-\udfff]")


def lighten_item(item: Item, include: set[str]) -> list[str]:
    """
    Take heavy parts out of ``item``, in place, and return where they stood.

    ``include`` names the kinds that stay: "media" and "encrypted". What is taken out is
    None from then on; places are JSON pointers (RFC 6901). Lone surrogates, which no
    UTF-8 answer can hold, become U+FFFD.
    """
    omitted = []
    # A list of what is left and not recursion: items may nest 500 levels.
    pending: list[tuple[str, Any]] = [("", item)]
    while pending:
        path, container = pending.pop()
        if isinstance(container, dict):
            _mend_keys(container)
        named = isinstance(container, dict)
        pairs = container.items() if named else enumerate(container)
        for key, value in list(pairs):
            place = f"{path}/{_escape(key)}"
            if isinstance(value, dict | list):
                pending.append((place, value))
            elif isinstance(value, str):
                kind = _heavy_kind(key, value)
                if kind and kind not in include:
                    container[key] = None
                    omitted.append(place)
                elif not value.isascii():
                    container[key] = _HALF_PAIRS.sub("\N{REPLACEMENT CHARACTER}", value)
    return sorted(omitted)


def _heavy_kind(key: object, value: str) -> str:
    if key == "encrypted_content":
        return "encrypted"
    if len(value) < _HEAVY_LENGTH:
        return ""
    start = value[:200]
    if start[:5].lower() == "data:" and ";base64," in start:
        return "media"
    return "media" if key in _MEDIA_FIELDS and _BASE64.fullmatch(value) else ""


def _escape(key: object) -> str:
    return str(key).replace("~", "~0").replace("/", "~1")


def _mend_keys(container: dict[str, Any]) -> None:
    if any(_HALF_PAIRS.search(key) for key in container if not key.isascii()):
        pairs = list(container.items())
        container.clear()
        for key, value in pairs:
            container[_HALF_PAIRS.sub("\N{REPLACEMENT CHARACTER}", key)] = value
