"""
Tables of other stores in any database that Django reaches.

The connection is one of our own: the project's may be in a transaction, and reading a
long session holds it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, tzinfo
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, InterfaceError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import ConnectionHandler

from agent_sessions.exceptions import InvalidSource
from agent_sessions.importers.records import SourceItem, SourceItems, SourceSession
from agent_sessions.importers.shapes import Shape
from agent_sessions.importers.sqlite import read_text
from agent_sessions.paging import FIRST_PAGE, next_page

_PAGE = 500
_ALIAS = "agent_sessions_source"


class SQLSource:
    """
    Sessions of tables of a known shape, read as their own store reads them.

    Each session's items are one statement. Times without a zone are in ``zone``.
    """

    def __init__(
        self,
        connection: BaseDatabaseWrapper,
        shape: Shape,
        *,
        sessions_table: str | None = None,
        messages_table: str | None = None,
        zone: tzinfo = UTC,
    ) -> None:
        self._connection = connection
        self._zone = zone
        tables = (
            sessions_table or shape.sessions_table,
            messages_table or shape.messages_table,
        )
        self._shape = shape
        found = list_tables(connection)
        for table in tables:
            if table not in found:
                raise InvalidSource(f"The source has no table {table!r}.")
        self._sessions, self._messages = (
            connection.ops.quote_name(table).replace("%", "%%") for table in tables
        )

    def sessions(self) -> Iterator[SourceSession]:
        shape = self._shape
        columns = ", ".join(self._spell(it) for it in shape.session_columns)
        where = ""
        values: list[Any] = []
        while rows := self._fetch(
            f"SELECT {columns} FROM {self._sessions}{where}"
            f" ORDER BY {shape.session_columns[0]} LIMIT {_PAGE}",
            values,
        ):
            for row in rows:
                yield shape.read_session([self._adapt(value) for value in row])
            where, values = f" WHERE {shape.session_columns[0]} > %s", [rows[-1][0]]

    def items(self, session: SourceSession) -> SourceItems:
        shape = self._shape
        sql = (
            f"SELECT {self._spell(shape.data)}, created_at FROM {self._messages}"
            f" WHERE session_id = %s ORDER BY {shape.order}"
        )
        connection = self._connection
        with (
            self._reading(),
            connection.wrap_database_errors,
            closing(self._stream()) as cursor,
        ):
            cursor.execute(sql, [session.place])
            size = FIRST_PAGE
            while rows := cursor.fetchmany(size):
                texts = [read_text(data) for data, _ in rows]
                for text, (_, created_at) in zip(texts, rows, strict=True):
                    yield SourceItem(text, self._adapt(created_at))
                size = next_page(texts)

    def close(self) -> None:
        self._connection.close()

    def _fetch(self, sql: str, values: Sequence[Any]) -> list[Any]:
        with self._reading(), self._connection.cursor() as cursor:
            cursor.execute(sql, values)
            rows: list[Any] = cursor.fetchall()
        return rows

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with reading():
            try:
                yield
            finally:
                # Not to keep a snapshot, which would keep the source from cleaning up,
                # nor a transaction that an error has ended.
                if not self._connection.autocommit:
                    self._connection.rollback()

    def _spell(self, column: str) -> str:
        # jsonb as text: what the driver makes of it has other numbers.
        if column in self._shape.json and self._connection.vendor == "postgresql":
            return f"{column}::text"
        return column

    def _adapt(self, value: Any) -> Any:
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=self._zone)
        return value

    def _stream(self) -> Any:
        connection = self._connection
        if connection.vendor == "mysql":
            # Its other cursors fetch everything at once.
            from MySQLdb.cursors import SSCursor

            connection.ensure_connection()
            return connection.connection.cursor(SSCursor)
        return connection.chunked_cursor()


def open_connection(settings: dict[str, Any]) -> BaseDatabaseWrapper:
    """Return a connection of our own that reads. Raise InvalidSource."""
    chosen = {key: value for key, value in settings.items() if key != "TEST"}
    options = dict(chosen.get("OPTIONS") or {})
    # Django's pools belong to aliases: the project is not to get this connection.
    options.pop("pool", None)
    chosen |= {"ATOMIC_REQUESTS": False, "CONN_MAX_AGE": 0, "OPTIONS": options}
    handler = ConnectionHandler({"default": {}, _ALIAS: chosen})
    with reading():
        try:
            connection = handler[_ALIAS]
            connection.ensure_connection()
        except ImproperlyConfigured as error:
            raise InvalidSource(f"The source cannot be read: {error}") from None
        except (TypeError, ValueError):
            raise InvalidSource(
                "The source has options that its driver does not take."
            ) from None
        with connection.cursor() as cursor:
            match connection.vendor:
                case "postgresql":
                    cursor.execute("SET default_transaction_read_only = on")
                case "mysql":
                    cursor.execute("SET SESSION TRANSACTION READ ONLY")
                case "sqlite":
                    cursor.execute("PRAGMA query_only = on")
        if connection.vendor == "postgresql":
            # A cursor of the server lives in a transaction.
            connection.set_autocommit(False)
    return connection


def list_tables(connection: BaseDatabaseWrapper) -> set[str]:
    with reading(), connection.cursor() as cursor:
        return set(connection.introspection.table_names(cursor, include_views=True))


def list_columns(connection: BaseDatabaseWrapper, table: str) -> set[str]:
    with reading(), connection.cursor() as cursor:
        described = connection.introspection.get_table_description(cursor, table)
    return {column.name for column in described}


@contextmanager
def reading() -> Iterator[None]:
    """Turn a database's errors into InvalidSource, without their details."""
    try:
        yield
    except (DatabaseError, InterfaceError) as error:
        with suppress(IndexError):
            words = str(error).splitlines()[0]
            raise InvalidSource(f"The source cannot be read: {words}.") from None
        raise InvalidSource("The source cannot be read.") from None
