"""How every verb of a DjangoSession reaches the store: one hop, with one handle."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar
from uuid import UUID

from agent_sessions.crossing import cross
from agent_sessions.identifiers import clean_session_id
from agent_sessions.models import AgentSession
from agent_sessions.store.handles import SessionHandle, row_handle, session_alias
from agent_sessions.store.owners import User, clean_user_id, owner_id

if TYPE_CHECKING:
    from agents.memory import SessionSettings

    Settings: TypeAlias = SessionSettings | dict[str, Any] | None

T = TypeVar("T")


class SessionCalls:
    """Which session, as whom and in which database, and a call into the store."""

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
    def from_row(cls, row: AgentSession, *, session_settings: Settings = None) -> Self:
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
