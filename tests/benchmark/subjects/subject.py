from __future__ import annotations

import uuid
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from tests.benchmark.items import Item

# Few enough for every database to take in one statement.
_CHUNK = 2000


class Session(Protocol):
    """The SDK's protocol, as far as the workloads use it."""

    async def get_items(self, limit: int | None = None) -> list[Any]: ...

    async def add_items(self, items: list[Any]) -> None: ...

    async def pop_item(self) -> Any: ...

    async def clear_session(self) -> None: ...


class Subject:
    """Something that keeps sessions; open() to close() in one event loop."""

    name: str
    # How --subject calls it.
    key: str

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    def session(self, session_id: str) -> Session:
        """Return what a turn works with: made for it, or used before."""
        raise NotImplementedError

    def spare(self, session_id: str) -> Session:
        """Return a session to set up and tidy up with, outside of what is measured."""
        return self.session(session_id)

    def conditions(self) -> AbstractContextManager[Any]:
        """Return the context in which to use this subject."""
        return nullcontext()

    async def seed(self, session_id: str, items: list[Item]) -> None:
        for start in range(0, len(items), _CHUNK):
            await self.spare(session_id).add_items(items[start : start + _CHUNK])

    async def new_ids(self, count: int) -> list[str]:
        """Return ids under which nothing is stored yet."""
        return [f"{self.key}-{uuid.uuid4()}" for _ in range(count)]

    async def trim(self, session_ids: list[str], length: int) -> None:
        """Remove what was added to the sessions after their first ``length`` items."""
        for session_id in session_ids:
            items = await self.spare(session_id).get_items()
            for _ in items[length:]:
                await self.spare(session_id).pop_item()

    async def tidy(self) -> None:
        """Release what the turns of one round left behind."""
