"""Copying items inside the database, in one statement."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, Func, UUIDField, Value

from agent_sessions.fields import RAW
from agent_sessions.models import SessionItemQuerySet
from agent_sessions.store.statements.phrases import ITEM, ITEM_COLUMNS

_NEW_ID = {
    "postgresql": "gen_random_uuid()",
    "sqlite": "lower(hex(randomblob(16)))",
    # The column is of 32 characters before MariaDB 10.7.
    "mysql": "REPLACE(UUID(), '-', '')",
}


class _NewId(Func):
    """A key that the database makes, another one for each row."""

    output_field = UUIDField()

    def as_sql(
        self,
        compiler: Any,
        connection: BaseDatabaseWrapper,
        *args: Any,
        **context: Any,
    ) -> tuple[str, tuple[Any, ...]]:
        return _NEW_ID[connection.vendor], ()

    def as_sqlite(
        self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any
    ) -> tuple[str, tuple[Any, ...]]:
        return self.as_sql(compiler, connection)


def copy(items: SessionItemQuerySet, session: UUID) -> None:
    """Copy these items, with their positions and turns, into another session."""
    rows = items.order_by().values_list(
        _NewId(),
        Value(session, output_field=UUIDField()),
        F("position"),
        F("turn"),
        F("type"),
        F("role"),
        RAW,
        F("created_at"),
        F("replaced_at"),
    )
    select, values = rows.query.get_compiler(items.db).as_sql()
    with connections[items.db].cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {ITEM} ({ITEM_COLUMNS}, replaced_at) {select}", values
        )
