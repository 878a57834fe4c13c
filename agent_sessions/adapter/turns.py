from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from agent_sessions import store
from agent_sessions.adapter.calls import SessionCalls
from agent_sessions.store.turns import Turn

if TYPE_CHECKING:
    from agents import TResponseInputItem


class TurnCalls(SessionCalls):
    """What people do with a session after it happened: look up, rewind, retry, fork."""

    async def get_turns(
        self, *, limit: int = 20, before: int | None = None
    ) -> list[Turn]:
        """
        Return the newest ``limit`` turns (at most 200), oldest first.

        With ``before`` those before the turn of that number.
        """
        return await self._cross(store.get_turns, limit=limit, before=before)

    async def find_turns(
        self,
        words: str,
        *,
        limit: int = 20,
        before: int | None = None,
        role: Literal["user", "assistant"] | None = None,
    ) -> list[Turn]:
        """
        Return the newest turns in whose messages the words stand, oldest first.

        With ``role`` only in what users, or assistants, said.
        """
        return await self._cross(
            store.find_turns, words, limit=limit, before=before, role=role
        )

    async def rewind(
        self, *, before_turn: int, keep: bool = False
    ) -> list[TResponseInputItem]:
        """
        Remove this turn and all after it, and return what was removed, oldest first.

        With ``keep`` the session as it was is kept, archived, among its forks(). A run
        that still writes to a turn that is gone gets TurnGone. Raise TurnGone if there
        is no such turn, TurnCompacted if a compaction wrote it.
        """
        items: list[Any] = await self._cross(
            store.rewind_session, before_turn=before_turn, keep=keep
        )
        return items

    async def retry(self, *, keep: bool = False) -> list[TResponseInputItem]:
        """
        Remove the last turn and return its input, for ``Runner.run``.

        ``keep`` is as in rewind(). Raise TurnGone if there is no turn.
        """
        items: list[Any] = await self._cross(store.retry_session, keep=keep)
        return items

    async def fork(
        self, before_turn: int | None = None, *, title: str | None = None
    ) -> Self:
        """
        Copy the session, up to before a turn, and return the copy, the same user's.

        Raise TurnGone if there is no such turn, TurnCompacted if a compaction wrote it.
        """
        row = await self._cross(
            store.fork_session, before_turn=before_turn, title=title
        )
        return type(self).from_row(row, session_settings=self.session_settings)

    async def forks(self, *, limit: int | None = None) -> list[Self]:
        """Return the session's forks, newest first, archived ones too."""
        rows = await self._cross(store.get_forks, limit=limit)
        settings = self.session_settings
        return [type(self).from_row(row, session_settings=settings) for row in rows]
