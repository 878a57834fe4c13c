from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from agent_sessions import store
from agent_sessions.adapter import metering
from agent_sessions.adapter.usage import UsageCalls

if TYPE_CHECKING:
    from agents import RunContextWrapper, TResponseInputItem

    Wrapper: TypeAlias = RunContextWrapper[Any] | None


Method = TypeVar("Method", bound=Callable[..., Any])


def _signed(method: Method) -> Method:
    # The SDK hands its wrapper, with what the run has used so far, to sessions whose
    # four methods all name it (0.20 and later). It looks at all four before every call;
    # with this that takes a third as long.
    vars(method)["__signature__"] = inspect.signature(method)
    return method


class ItemCalls(UsageCalls):
    """The four methods of agents.memory.Session."""

    @_signed
    async def get_items(
        self,
        limit: int | None = None,
        *,
        turn: int | None = None,
        wrapper: Wrapper = None,
    ) -> list[TResponseInputItem]:
        """
        Return the newest ``limit`` items, oldest first; all if it is negative.

        None takes the limit of ``session_settings``, and all if that has none. With
        ``turn`` only the items of that turn, whatever ``session_settings`` say.
        """
        if wrapper is not None:
            metering.notice(wrapper.usage, self._key)
        settings = self.session_settings
        if limit is None and turn is None and settings is not None:
            limit = settings.limit
        items: list[Any] = await self._cross(store.read_items, limit=limit, turn=turn)
        return items

    @_signed
    async def add_items(
        self, items: list[TResponseInputItem], *, wrapper: Wrapper = None
    ) -> None:
        """
        Store ``items`` behind the last one, all or none.

        What the run of ``wrapper`` has used since the last call is added to the session
        and to the turn. Raise InvalidItem, naming the path, for what is not JSON, and
        ItemTooLarge for an item that the database does not take.
        """
        # A copy: the caller may change its list while the call waits for its turn.
        batch = list(items)
        if wrapper is None or not batch:
            await self._cross(store.append_items, batch)
        else:
            totals = wrapper.usage
            await self._cross(partial(self._append_counted, totals), batch)

    @_signed
    async def pop_item(self, *, wrapper: Wrapper = None) -> TResponseInputItem | None:
        """Remove the newest item and return it; None if there is none."""
        item: Any = await self._cross(store.pop_item)
        return item

    @_signed
    async def clear_session(self, *, wrapper: Wrapper = None) -> None:
        """Remove all items; the session keeps its owner, title and metadata."""
        await self._cross(store.clear_session)
