"""
Items and metadata as JSON text.

Text and not the databases' JSON types: those refuse NUL, lone surrogates and deep
nesting, reorder keys and change numbers, and the SDK compares hashes of what it reads.
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from agent_sessions.exceptions import InvalidItem
from agent_sessions.shapes import Item

# Beyond this the json module of some Python cannot read back what it wrote.
MAX_DEPTH = 500

# Stands between rows that are decoded together. Two broken rows can make a whole one,
# as in '{"a": [1' and '2]}', but not with a mark between them that nobody can guess.
_MARK = secrets.token_hex(8)
_SEPARATOR = f',"{_MARK}",'
# More at a time take longer: their text leaves the processor's cache, and the memory
# is given back to the system and asked for again.
_TOGETHER = 200

# json.dumps() would make one for every item.
_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_ascii_encoder = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


def encode_item(item: object, *, name: str = "item") -> str:
    """
    Return ``item`` as JSON text that decodes to an equal item, key order included.

    Pydantic models are dumped first; keys that are numbers become strings, as in JSON.
    Raise InvalidItem, naming the path, if it is not a JSON object: NaN, datetimes,
    bytes, sets, integers above 4300 digits, keys that become the same, circles, more
    than 500 levels. ``name`` is what the message calls the item.
    """
    item = plain_item(item, name=name)
    text = _dump(item, name)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            # Half a surrogate pair has no UTF-8; JSON can still escape it.
            return _ascii_encoder.encode(item)
    return text


def plain_item(item: object, *, name: str = "item") -> Item:
    """
    Return ``item`` as a dict; pydantic models are dumped.

    Raise InvalidItem if that cannot be done.
    """
    if not isinstance(item, dict) and hasattr(item, "model_dump"):
        dumped = None
        # Pydantic's warnings and errors quote the values.
        with suppress(Exception):
            dumped = item.model_dump(mode="json", exclude_unset=True, warnings=False)
        if dumped is None:
            raise InvalidItem(f"{name} cannot be dumped as JSON.")
        item = dumped
    if not isinstance(item, dict):
        raise InvalidItem(f"{name} is not a JSON object but {type(item).__name__}.")
    return item


def decode_item(text: str) -> Item | None:
    """Return the item that ``text`` holds, None if it is not a JSON object."""
    try:
        item = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return item if isinstance(item, dict) else None


def recode_item(text: str) -> tuple[str, Item | None]:
    """
    Return JSON text as encode_item() would have written it, and what it holds.

    What it refuses (NaN, endless nesting) and what is no object stays as it is, but for
    characters that no database keeps.
    """
    item = decode_item(text)
    if item is not None:
        with suppress(InvalidItem, UnicodeEncodeError):
            # Keys that json has read are strings, and no two are the same.
            encoded = _dump(item, "item", plain_keys=True)
            encoded.encode()
            return encoded, item
        with suppress(InvalidItem):
            return encode_item(item), item
    text = text.replace("\0", "\\u0000")
    return text.encode(errors="backslashreplace").decode(), item


def decode_items(texts: list[str]) -> list[Item | None]:
    """Return what decode_item() gives for each text, several times as fast."""
    items: list[Item | None] = []
    for start in range(0, len(texts), _TOGETHER):
        items += _decode_together(texts[start : start + _TOGETHER])
    return items


def _decode_together(texts: list[str]) -> list[Item | None]:
    try:
        parts = json.loads(f"[{_SEPARATOR.join(texts)}]")
    except (ValueError, RecursionError):
        return [decode_item(text) for text in texts]
    items = parts[::2]
    if len(items) != len(texts) or parts[1::2] != [_MARK] * (len(texts) - 1):
        return [decode_item(text) for text in texts]
    return [item if isinstance(item, dict) else None for item in items]


def _dump(item: Item, name: str, *, plain_keys: bool = False) -> str:
    text: str | None
    try:
        text = _encoder.encode(item)
    except (TypeError, ValueError, RecursionError):
        text = None
    if text is None:
        # Not from within the except block: json's error may quote the value, and would
        # be kept as the context.
        raise InvalidItem(f"{name}{_first_fault(item)}.")
    if text.count("{") + text.count("[") > MAX_DEPTH and _too_deep(item):
        raise InvalidItem(f"{name} is nested more than {MAX_DEPTH} levels deep.")
    if not plain_keys and _has_odd_key(item):
        for path, value in _walk(item):
            if isinstance(value, dict) and len(_as_read(value)) < len(value):
                raise InvalidItem(
                    f"{name}{_spell(path)} cannot be stored as JSON: two of its keys "
                    "are the same there."
                )
    return text


def _has_odd_key(item: Item) -> bool:
    pending: list[Any] = [item]
    for value in pending:  # which grows meanwhile
        if isinstance(value, dict):
            for key, child in value.items():
                if type(key) is not str:
                    return True
                if isinstance(child, dict | list | tuple):
                    pending.append(child)
        else:
            pending += [it for it in value if isinstance(it, dict | list | tuple)]
    return False


def _as_read(value: dict[Any, Any]) -> dict[str, None]:
    keys: dict[str, None] = json.loads(json.dumps(dict.fromkeys(value)))
    return keys


def _first_fault(item: Item) -> str:
    for path, value in _walk(item):
        if len(path) > MAX_DEPTH:
            return f" is a circle or nested more than {MAX_DEPTH} levels deep"
        fault = _key_fault(value) if isinstance(value, dict) else _fault(value)
        if fault:
            return f"{_spell(path)} cannot be stored as JSON: {fault}"
    return " cannot be stored as JSON"


def _key_fault(value: dict[object, object]) -> str:
    odd = (key for key in value if not isinstance(key, str | int | float | None))
    return next((f"it has a key of type {type(key).__name__}" for key in odd), "")


def _fault(value: object) -> str:
    match value:
        case None | bool() | str() | list() | tuple():
            return ""
        case float():
            return "" if math.isfinite(value) else "it is not a finite number"
        case int():
            return "" if value.bit_length() < 14_000 else "the integer is too large"
        case _:
            return f"it is of type {type(value).__name__}"


def _walk(item: Item) -> Iterator[tuple[tuple[object, ...], object]]:
    pending: list[tuple[tuple[object, ...], object]] = [((), item)]
    while pending:
        path, value = pending.pop()
        yield path, value
        children: list[tuple[object, Any]] = []
        if isinstance(value, dict):
            children = list(value.items())
        elif isinstance(value, list | tuple):
            children = list(enumerate(value))
        pending.extend(((*path, key), child) for key, child in reversed(children))


def _too_deep(item: Item) -> bool:
    return any(len(path) > MAX_DEPTH for path, _ in _walk(item))


def _spell(path: tuple[object, ...]) -> str:
    return "".join(f"[{_spell_step(step)}]" for step in path)


def _spell_step(step: object) -> str:
    # Field names and indexes; a key may also be somebody's words.
    if isinstance(step, str) and not (step.isidentifier() and len(step) <= 40):
        return "..."
    return repr(step)
