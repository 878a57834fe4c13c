from __future__ import annotations

from typing import Protocol
from uuid import UUID

from django.db import connections

from agent_sessions.conf import conf
from agent_sessions.models import SessionItemQuerySet
from agent_sessions.store.batches import NewItem
from agent_sessions.store.handles import SessionHandle
from agent_sessions.store.statements import mariadb, portable, postgresql, sqlite
from agent_sessions.store.statements.results import Appended, Found, Popped
from agent_sessions.store.transactions import Attempt
from agent_sessions.usage import TokenUsage


class Statements(Protocol):
    """The hot verbs, each as its database does it best."""

    def append(
        self,
        handle: SessionHandle,
        batch: list[NewItem],
        usage: TokenUsage | None,
        attempt: Attempt,
    ) -> Appended | None: ...

    def read(self, handle: SessionHandle, limit: int | None) -> Found: ...

    def pop(self, handle: SessionHandle, attempt: Attempt) -> Popped | None: ...

    def clear(self, handle: SessionHandle, attempt: Attempt) -> UUID | None: ...

    def copy(self, items: SessionItemQuerySet, session: UUID) -> None: ...


def statements(using: str) -> Statements:
    """Return the statements for a database; the portable ones where none are better."""
    connection = connections[using]
    if conf.AGENT_SESSIONS_PORTABLE:
        return portable
    match connection.vendor:
        case "postgresql":
            return postgresql
        case "sqlite" if connection.features.can_return_columns_from_insert:
            return sqlite
        case "mysql" if getattr(connection, "mysql_is_mariadb", False):
            return mariadb
    return portable
