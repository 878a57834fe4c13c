"""
The OpenAI Agents SDK's door to the store.

DjangoSession satisfies agents.memory.Session by shape, as the SDK asks of third
parties: nothing here imports the SDK until somebody who runs it hands something over.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Self
from uuid import UUID

from agent_sessions import store
from agent_sessions.adapter.compaction import CompactionCalls
from agent_sessions.adapter.leasing import Exclusive
from agent_sessions.adapter.turns import TurnCalls
from agent_sessions.crossing import cross
from agent_sessions.metadata import Metadata
from agent_sessions.store.claims import EXPIRES_IN
from agent_sessions.store.handles import session_alias
from agent_sessions.store.leases import LEASE_TIME
from agent_sessions.store.owners import User

if TYPE_CHECKING:
    from agent_sessions.adapter.calls import Settings


class DjangoSession(TurnCalls, CompactionCalls):
    """
    An agent's memory in the Django database, open to one user.

    ``session_id`` may be any id of the project's choosing; the session appears with its
    first item. Without a user only sessions that never had an owner are open. The
    constructor touches neither the database nor a lazy ``request.user``.

    Calls raise SessionOwnershipError if the session is not open to the user,
    SessionGone if it was deleted while this object held on to it, InvalidUser for a
    user that is not saved. Raise InvalidSessionId for an id that cannot be kept.
    """

    @classmethod
    async def create_session(
        cls,
        user: User,
        *,
        title: str = "",
        metadata: Metadata | None = None,
        session_id: str | None = None,
        session_settings: Settings = None,
        using: str | None = None,
    ) -> Self:
        """
        Store a new session and return it; its id is a random UUID unless one is given.

        Raise SessionExists if the id is taken, InvalidSessionId, InvalidTitle,
        InvalidMetadata or InvalidUser for bad values.
        """
        create = partial(
            store.create_session,
            user,
            title=title,
            metadata=metadata,
            session_id=session_id,
            using=using,
        )
        row = await cross(create, using=session_alias(using))
        return cls.from_row(row, session_settings=session_settings)

    @classmethod
    async def get_session(
        cls,
        user: User,
        session_id: str,
        *,
        session_settings: Settings = None,
        using: str | None = None,
    ) -> Self | None:
        """Return the session if it exists and is open to this user, else None."""
        find = partial(store.get_session, user, session_id, using=using)
        row = await cross(find, using=session_alias(using))
        if row is None:
            return None
        return cls.from_row(row, session_settings=session_settings)

    @classmethod
    async def get_sessions(
        cls,
        user: User,
        *,
        limit: int | None = None,
        offset: int = 0,
        include_archived: bool = False,
        session_settings: Settings = None,
        using: str | None = None,
    ) -> list[Self]:
        """Return the user's sessions, newest activity first; none without a user."""
        find = partial(
            store.get_sessions,
            user,
            limit=limit,
            offset=offset,
            include_archived=include_archived,
            using=using,
        )
        rows = await cross(find, using=session_alias(using))
        return [cls.from_row(row, session_settings=session_settings) for row in rows]

    @staticmethod
    async def get_sessions_for_user(
        user: User,
        *,
        limit: int | None = None,
        offset: int = 0,
        using: str | None = None,
    ) -> list[str]:
        """Return the ids of the user's sessions, newest activity first."""
        find = partial(
            store.get_sessions_for_user, user, limit=limit, offset=offset, using=using
        )
        return await cross(find, using=session_alias(using))

    def exclusive(
        self,
        *,
        timeout: float = 0,
        expires_in: timedelta = LEASE_TIME,
        lease: UUID | None = None,
    ) -> Exclusive:
        """
        Return a block, for ``async with``, that no other such block runs beside.

        Waits up to ``timeout`` seconds for another to end, then raises SessionBusy. A
        block whose process dies keeps others out for ``expires_in`` at most. Runs
        without such a block are not kept out. A block with a ``lease`` goes on with
        what store.acquire_lease() took, perhaps in another process.
        """
        return Exclusive(
            self._cross, timeout=timeout, expires_in=expires_in, lease=lease
        )

    async def claim(self, user: User) -> None:
        """
        Make this anonymous session the user's; exactly one claimant wins.

        Raise SessionOwnershipError if it has or ever had another owner, SessionGone if
        nothing is stored under the id yet.
        """
        await self._cross(store.claim_session, user)

    async def make_claim_token(self, *, expires_in: timedelta = EXPIRES_IN) -> str:
        """
        Return a token that lets one user claim this anonymous session over HTTP.

        Raise SessionOwnershipError if it has, or ever had, an owner, SessionGone if
        nothing is stored under the id yet.
        """
        return await self._cross(store.make_claim_token, expires_in=expires_in)

    async def get_user_metadata(self) -> Metadata:
        """Return what agents keep about the user across sessions."""
        return await cross(
            lambda: store.read_user_metadata(user_id=self.user_id, using=self._using),
            using=self._using,
        )

    async def update_user_metadata(self, changes: Metadata) -> Metadata:
        """
        Merge ``changes`` into what agents keep about the user and return the whole.

        A value of None removes its key. Raise InvalidUser without a user.
        """
        return await cross(
            lambda: store.update_user_metadata(
                changes, user_id=self.user_id, using=self._using
            ),
            using=self._using,
        )
