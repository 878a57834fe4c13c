from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from agent_sessions.conf import conf
from agent_sessions.encoding import encode_item, plain_item
from agent_sessions.exceptions import ItemTooLarge
from agent_sessions.identifiers import uuid7
from agent_sessions.shapes import Item, item_role, item_type, preview_text, starts_turn

# A row's columns beside the item, and the statement around it.
_ROW_BYTES = 1024
# The smallest max_allowed_packet that any supported MySQL or MariaDB ships with.
_SAFE_BYTES = 512 * 1024
_MAX_BYTES = 256 * 1024 * 1024
_ESCAPED = re.compile(r"""["'\\]""")


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item encoded for storing, before it has a position."""

    data: str
    type: str
    role: str
    starts_turn: bool
    preview: str
    id: UUID = field(default_factory=uuid7)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedItem(NewItem):
    """An item whose place in its session is known before it is stored."""

    session: UUID
    position: int
    turn: int
    created_at: datetime
    replaced_at: datetime | None = None


AnyItem = TypeVar("AnyItem", bound=NewItem)


def encode_batch(items: Iterable[Item]) -> list[NewItem]:
    """
    Return the items encoded, so that a bad one fails before anything is written.

    Raise InvalidItem, naming the item by its index and the path of the fault, and
    ItemTooLarge for one above AGENT_SESSIONS_MAX_ITEM_BYTES.
    """
    return [_encode(item, f"items[{index}]") for index, item in enumerate(items)]


def _encode(item: Item, name: str) -> NewItem:
    item = plain_item(item, name=name)
    data = encode_item(item, name=name)
    limit = conf.AGENT_SESSIONS_MAX_ITEM_BYTES
    if limit is not None and (size := len(data.encode())) > limit:
        raise ItemTooLarge(
            f"{name} takes {size} bytes; AGENT_SESSIONS_MAX_ITEM_BYTES is {limit}."
        )
    opens = starts_turn(item)
    return NewItem(
        data=data,
        type=item_type(item),
        role=item_role(item),
        starts_turn=opens,
        preview=preview_text(item) if opens else "",
    )


def batch_preview(batch: list[NewItem]) -> str:
    """Return the start of the batch's first user text; "" if it has none."""
    return next((item.preview for item in batch if item.preview), "")


def split_batch(batch: list[AnyItem], *, using: str) -> list[list[AnyItem]]:
    """
    Return the batch in parts that the database takes in one statement each.

    Raise ItemTooLarge if one item alone is too much.
    """
    sizes = [_statement_bytes(item.data) for item in batch]
    if sum(sizes) <= _SAFE_BYTES:
        return [batch]
    limit = _max_statement_bytes(connections[using])
    if max(sizes) > limit:
        raise ItemTooLarge(
            f"items[{sizes.index(max(sizes))}] takes {max(sizes)} bytes in a "
            f"statement; the database accepts {limit}."
        )
    parts: list[list[AnyItem]] = [[]]
    filled = 0
    for item, size in zip(batch, sizes, strict=True):
        if filled + size > limit:
            parts.append([])
            filled = 0
        parts[-1].append(item)
        filled += size
    return parts


def _statement_bytes(text: str) -> int:
    size = len(text) if text.isascii() else len(text.encode())
    if size > _SAFE_BYTES // 2:
        # The client escapes these with a character each.
        size += len(_ESCAPED.findall(text))
    else:
        size *= 2
    return size + _ROW_BYTES


def _max_statement_bytes(connection: BaseDatabaseWrapper) -> int:
    if connection.vendor == "mysql":
        # A larger packet looks like a lost connection (2006), not like a refusal.
        with connection.cursor() as cursor:
            cursor.execute("SELECT @@max_allowed_packet")
            return min(int(cursor.fetchone()[0]) - _ROW_BYTES, _MAX_BYTES)
    return _MAX_BYTES
