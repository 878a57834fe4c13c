"""
Two hooks of the SDK's compaction session, found by name.

The first since 0.23.1, the second since 0.24. Older ones clear the session and add
anew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from agent_sessions import store
from agent_sessions.adapter.items import ItemCalls


@dataclass(frozen=True)
class CompactionSnapshot:
    """The newest items and a way to replace them; agents.memory has its twin."""

    items: list[Any]
    complete: bool
    replace_suffix: Callable[[int, list[Any]], Awaitable[bool]]


class CompactionCalls(ItemCalls):
    """Replacing old items by what a compaction made of them."""

    async def _get_compaction_snapshot(
        self, limit: int, *, prune_prefix: Callable[[Any], bool] | None = None
    ) -> CompactionSnapshot | None:
        if self._is_transformed():
            return None
        tail = await self._cross(store.read_tail, limit)
        if tail is None:
            return None

        async def replace_suffix(start: int, output: list[Any]) -> bool:
            return await self._cross(
                store.replace_tail, tail.positions[start:], output, prune=prune_prefix
            )

        return CompactionSnapshot(tail.items, tail.complete, replace_suffix)

    async def _atomic_replace_items(self, items: list[Any]) -> bool:
        if self._is_transformed():
            return False
        await self._cross(store.replace_items, items)
        return True

    def _is_transformed(self) -> bool:
        # A subclass may encrypt or filter; the hooks would go around it.
        cls = type(self)
        return (
            cls.get_items is not ItemCalls.get_items
            or cls.add_items is not ItemCalls.add_items
        )
