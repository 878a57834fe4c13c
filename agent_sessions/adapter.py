"""
The OpenAI Agents SDK's door to the store.

DjangoSession satisfies agents.memory.Session by shape, as the SDK asks of third
parties: nothing here imports the SDK until somebody who runs it hands something over.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar
from uuid import UUID

from django.db import connections

from agent_sessions import metering, store
from agent_sessions.crossing import cross
from agent_sessions.exceptions import SessionFull, SessionGone, TurnGone
from agent_sessions.identifiers import clean_session_id
from agent_sessions.leasing import Exclusive
from agent_sessions.metadata import Metadata
from agent_sessions.models import AgentSession
from agent_sessions.store.claims import EXPIRES_IN
from agent_sessions.store.handles import SessionHandle, row_handle, session_alias
from agent_sessions.store.leases import LEASE_TIME
from agent_sessions.store.owners import User, clean_user_id, owner_id
from agent_sessions.store.transactions import after_commit
from agent_sessions.store.turns import Turn
from agent_sessions.usage import TokenUsage

if TYPE_CHECKING:
    from agents import RunContextWrapper, TResponseInputItem
    from agents.memory import SessionSettings

    Wrapper: TypeAlias = RunContextWrapper[Any] | None
    Settings: TypeAlias = SessionSettings | dict[str, Any] | None

T = TypeVar("T")


class DjangoSession:
    """
    An agent's memory in the Django database, open to one user.

    ``session_id`` may be any id of the project's choosing; the session appears with its
    first item. Without a user only sessions that never had an owner are open. The
    constructor touches neither the database nor a lazy ``request.user``.

    Calls raise SessionOwnershipError if the session is not open to the user,
    SessionGone if it was deleted while this object held on to it, InvalidUser for a
    user that is not saved. Raise InvalidSessionId for an id that cannot be kept.
    """

    def __init__(
        self,
        session_id: str,
        *,
        user: User = None,
        user_id: object = None,
        session_settings: Settings = None,
        using: str | None = None,
    ) -> None:
        if user is not None and user_id is not None:
            raise TypeError("Give user or user_id, not both.")
        self.session_id: str = clean_session_id(session_id)
        self.session_settings = session_settings
        self._using = session_alias(using)
        self._user = user
        self._user_id = user_id
        self._handle: SessionHandle | None = None
        self._resolving = threading.Lock()

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
    ) -> DjangoSession:
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
    ) -> DjangoSession | None:
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
    ) -> list[DjangoSession]:
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

    @classmethod
    def from_row(
        cls, row: AgentSession, *, session_settings: Settings = None
    ) -> DjangoSession:
        """
        Return a session pinned to ``row`` and its present owner, on trust.

        Projects say ``row.as_sdk_session()``.
        """
        session = cls(
            row.session_id, session_settings=session_settings, using=row._state.db
        )
        session._handle = row_handle(row)
        session._using = session._handle.using
        return session

    @property
    def user_id(self) -> Any:
        """The primary key of the session's user; None if it has none."""
        return self._resolve().user_id

    @property
    def pk(self) -> UUID | None:
        """The key of the row, for URLs and links; None until a call has seen it."""
        return None if self._handle is None else self._resolve().pk

    @property
    def session_settings(self) -> SessionSettings | None:
        """The SDK's settings for this session; a dict is converted."""
        return self._session_settings

    @session_settings.setter
    def session_settings(self, value: Settings) -> None:
        if isinstance(value, dict):
            from agents.memory import SessionSettings

            known = {field.name for field in fields(SessionSettings)}
            if unknown := set(value) - known:
                raise TypeError(f"SessionSettings has no {sorted(unknown)}.")
            value = SessionSettings(**value)
        self._session_settings = value

    # The SDK hands its wrapper, with what the run has used so far, to sessions whose
    # four methods all name it (0.20 and later).

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

    async def get_turns(
        self, *, limit: int = 20, before: int | None = None
    ) -> list[Turn]:
        """
        Return the newest ``limit`` turns (at most 200), oldest first.

        With ``before`` those before the turn of that number.
        """
        return await self._cross(store.get_turns, limit=limit, before=before)

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
    ) -> DjangoSession:
        """
        Copy the session, up to before a turn, and return the copy, the same user's.

        Raise TurnGone if there is no such turn, TurnCompacted if a compaction wrote it.
        """
        row = await self._cross(
            store.fork_session, before_turn=before_turn, title=title
        )
        return type(self).from_row(row, session_settings=self.session_settings)

    async def forks(self, *, limit: int | None = None) -> list[DjangoSession]:
        """Return the session's forks, newest first, archived ones too."""
        rows = await self._cross(store.get_forks, limit=limit)
        settings = self.session_settings
        return [type(self).from_row(row, session_settings=settings) for row in rows]

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

    async def pop_item(self, *, wrapper: Wrapper = None) -> TResponseInputItem | None:
        """Remove the newest item and return it; None if there is none."""
        item: Any = await self._cross(store.pop_item)
        return item

    async def clear_session(self, *, wrapper: Wrapper = None) -> None:
        """Remove all items; the session keeps its owner, title and metadata."""
        await self._cross(store.clear_session)

    async def get_usage(self) -> TokenUsage:
        """Return what the session's runs have used so far."""
        return await self._cross(store.read_usage)

    async def store_run_usage(self, result: Any) -> TokenUsage:
        """
        Store what a run has used and no call has stored yet, and return it.

        ``result`` is what the Runner returned, or the ``run_data`` of what it raised.
        Needed where the run's last tokens were followed by no item (an output guardrail
        stopped it, the model failed), and behind a wrapper that keeps the run's totals
        to itself, as the SDK's compaction session does.
        """
        return await self._cross(
            partial(self._store_rest, result.context_wrapper.usage)
        )

    def _append_counted(
        self, totals: Any, handle: SessionHandle, items: list[Any]
    ) -> None:
        refused = None
        with self._counting(totals) as usage:
            try:
                store.append_items(handle, items, usage=usage)
            except (SessionFull, TurnGone) as error:
                # The tokens are spent all the same.
                refused = error
                try:
                    if usage:
                        store.record_usage(handle, usage)
                except SessionGone:
                    raise refused from None
        if refused is not None:
            raise refused

    def _store_rest(self, totals: Any, handle: SessionHandle) -> TokenUsage:
        with self._counting(totals, known=False) as usage:
            if usage:
                store.record_usage(handle, usage)
        return usage

    @contextmanager
    def _counting(self, totals: Any, *, known: bool = True) -> Iterator[TokenUsage]:
        usage = metering.take(totals, self._key, known=known)
        try:
            yield usage
        except BaseException:
            metering.give_back(totals, self._key, usage)
            raise
        if usage and connections[self._using].in_atomic_block:
            hook = metering.doubt(totals, self._key, usage)
            after_commit(hook, using=self._using)

    @property
    def _key(self) -> metering.Key:
        return self._using, self.session_id

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

    # Two hooks of the SDK's compaction session, found by name: the first since 0.23.1,
    # the second since 0.24. Older ones clear the session and add anew.

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
            cls.get_items is not DjangoSession.get_items
            or cls.add_items is not DjangoSession.add_items
        )

    async def _cross(self, verb: Callable[..., T], *args: Any, **options: Any) -> T:
        return await cross(
            lambda: verb(self._resolve(), *args, **options), using=self._using
        )

    def _resolve(self) -> SessionHandle:
        # Inside the hop, because a lazy request.user asks the database. Calls that run
        # beside each other share one handle, with its pin and its turn.
        with self._resolving:
            if self._handle is None:
                if self._user is None:
                    user_id = clean_user_id(self._user_id)
                else:
                    user_id = owner_id(self._user)
                self._handle = SessionHandle(self.session_id, user_id, self._using)
            self._handle.forget_undone()
            return self._handle


@dataclass(frozen=True)
class CompactionSnapshot:
    """The newest items and a way to replace them; agents.memory has its twin."""

    items: list[Any]
    complete: bool
    replace_suffix: Callable[[int, list[Any]], Awaitable[bool]]
