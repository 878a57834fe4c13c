"""
From items to blocks.

Items are what people and models wrote, in shapes that change every month. Nothing here
raises for one that it does not understand: that one is shown as JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Protocol

from agent_sessions.shapes import Item
from agent_sessions.transcript.blocks import (
    Block,
    Broken,
    Compaction,
    Encrypted,
    Message,
    Reasoning,
    Reference,
    ToolCall,
    ToolList,
    ToolOutput,
    Unknown,
)
from agent_sessions.transcript.parts import (
    Code,
    code_part,
    json_part,
    read_content,
    word,
)
from agent_sessions.transcript.tools import (
    call_family,
    join_output,
    output_family,
    read_call,
    read_call_output,
    tool_names,
)

# How many blocks a call waits for its output, and how many items around a page are
# searched for the other half of a pair.
PAIRING_WINDOW = 200

# Fields of a message that are shown elsewhere, or are the provider's own business.
_MESSAGE_FIELDS = {
    "content",
    "id",
    "phase",
    "provider_data",
    "role",
    "status",
    "type",
}


class Row(Protocol):
    """An item with its place; SessionItem is one."""

    @property
    def position(self) -> int: ...
    @property
    def turn(self) -> int: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def replaced_at(self) -> datetime | None: ...
    @property
    def data(self) -> Any: ...


def read_block(row: Row) -> Block:
    """Return the item as a block; a call and its output are not yet one."""
    frame: dict[str, Any] = {
        "position": row.position,
        "turn": row.turn,
        "created_at": row.created_at,
        "replaced_at": row.replaced_at,
    }
    item = row.data
    if not isinstance(item, dict):
        text = item if isinstance(item, str) else repr(type(item).__name__)
        return Broken(**frame, data=code_part(text))
    return _read_item(item, frame)


def pair_blocks(
    blocks: Iterable[Block], *, window: int = PAIRING_WINDOW
) -> Iterator[Block]:
    """
    Yield the blocks with each output inside its call, which keeps its place.

    A call and its output find each other if fewer than ``window`` blocks lie between
    them. An output goes to the latest call with its id that has none.
    """
    waiting: dict[int, Block] = {}
    calls: dict[tuple[str, str], list[int]] = {}
    outputs: dict[tuple[str, str], list[int]] = {}
    for number, block in enumerate(blocks):
        key = _pairing_key(block)
        waiting[number] = block
        if key is not None and isinstance(block, ToolCall):
            if early := outputs.get(key):
                output = waiting.pop(early.pop())
                waiting[number] = join_output(block, output)  # type: ignore[arg-type]
            else:
                calls.setdefault(key, []).append(number)
        elif key is not None and isinstance(block, ToolOutput):
            if open_calls := calls.get(key):
                del waiting[number]
                place = open_calls.pop()
                waiting[place] = join_output(waiting[place], block)  # type: ignore[arg-type]
            else:
                outputs.setdefault(key, []).append(number)
        while waiting and next(iter(waiting)) <= number - window:
            place = next(iter(waiting))
            gone = waiting.pop(place)
            for numbers in (calls, outputs):
                old = numbers.get(_pairing_key(gone) or ("", ""))
                if old and old[0] == place:
                    del old[0]
            yield gone
    yield from waiting.values()


def _pairing_key(block: Block) -> tuple[str, str] | None:
    if isinstance(block, ToolCall) and block.hosted:
        return None
    # The API may run a tool search itself, and then gives no id.
    if isinstance(block, ToolCall | ToolOutput) and (
        block.call_id or block.family == "tool_search"
    ):
        return block.family, block.call_id
    return None


def _read_item(item: Item, frame: dict[str, Any]) -> Block:
    type = item.get("type")
    type = type if isinstance(type, str) else ""
    if "__enc__" in item:
        payload = item.get("payload")
        length = len(payload) if isinstance(payload, str) else 0
        return Encrypted(**frame, key_id=word(item.get("kid")), length=length)
    if type == "message" or (not item.get("type") and "content" in item):
        return _read_message(item, frame)
    if type == "reasoning":
        return _read_reasoning(item, frame)
    if family := output_family(type):
        return read_call_output(item, family, frame)
    if family := call_family(type):
        return read_call(item, family, frame)
    if type == "compaction":
        return Compaction(**frame, encrypted_length=_encrypted_length(item))
    if isinstance(item.get("id"), str) and (
        type == "item_reference" or (set(item) <= {"id", "type"} and not type)
    ):
        return Reference(**frame, id=word(item["id"]))
    if type in ("additional_tools", "mcp_list_tools") and (
        isinstance(item.get("tools"), list)
    ):
        return _read_tool_list(item, frame)
    return Unknown(**frame, type=word(item.get("type")), data=json_part(item))


def _read_message(item: Item, frame: dict[str, Any]) -> Message:
    extra = {name: item[name] for name in item if name not in _MESSAGE_FIELDS}
    return Message(
        **frame,
        role=word(item.get("role")),
        parts=read_content(item.get("content")),
        status=word(item.get("status")),
        phase=word(item.get("phase")),
        extra=json_part(extra) if any(extra.values()) else None,
    )


def _read_reasoning(item: Item, frame: dict[str, Any]) -> Reasoning:
    parts = (*read_content(item.get("summary")), *read_content(item.get("content")))
    return Reasoning(**frame, parts=parts, encrypted_length=_encrypted_length(item))


def _read_tool_list(item: Item, frame: dict[str, Any]) -> ToolList:
    error: Code | None = None
    if item.get("error"):
        error = json_part(item["error"])
    return ToolList(
        **frame,
        server=word(item.get("server_label")),
        names=tuple(tool_names(item["tools"])),
        error=error,
    )


def _encrypted_length(item: Item) -> int:
    content = item.get("encrypted_content")
    return len(content) if isinstance(content, str) else 0
