"""The SDK's SQLiteSession and AsyncSQLiteSession: one file, two tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from agent_sessions.exceptions import InvalidSource
from agent_sessions.importers.records import SourceItem, SourceItems, SourceSession

SESSIONS_TABLE = "agent_sessions"
MESSAGES_TABLE = "agent_messages"

_PAGE = 500
_TIMEOUT = 5.0


class SQLiteSource:
    """
    Sessions of a file that others may go on writing.

    Each session's items are read in one statement, hence as they stood at one moment.
    Raise InvalidSource if the file is not such a database.
    """

    def __init__(
        self,
        path: Path,
        *,
        sessions_table: str = SESSIONS_TABLE,
        messages_table: str = MESSAGES_TABLE,
    ) -> None:
        self._file = open_database(path)
        self._sessions = find_table(self._file, sessions_table)
        self._messages = find_table(self._file, messages_table)
        # SQLAlchemySession's tables differ by an index alone, and so does its order.
        by_time = self._fetch(
            "SELECT name FROM sqlite_master WHERE type = 'index' AND name = ?",
            f"idx_{messages_table}_session_time",
        )
        self._order = "created_at, id" if by_time else "id"

    def sessions(self) -> Iterator[SourceSession]:
        """Yield the sessions, oldest first, then those that have nothing but items."""
        sql = (
            f"SELECT rowid, session_id, created_at, updated_at FROM {self._sessions}"
            f" WHERE rowid > ? ORDER BY rowid LIMIT {_PAGE}"
        )
        last = -(2**63)
        while rows := self._fetch(sql, last):
            last = rows[-1][0]
            for _, session_id, created_at, updated_at in rows:
                yield SourceSession(
                    session_id=read_text(session_id),
                    place=session_id,
                    created_at=read_time(created_at),
                    updated_at=read_time(updated_at),
                )
        # Foreign keys are not enforced there, and the SDK reads these all the same.
        yield from self.read_sessions(
            f"{self._messages} WHERE session_id NOT IN (SELECT session_id FROM"
            f" {self._sessions} WHERE session_id IS NOT NULL)"
        )

    def items(self, session: SourceSession) -> SourceItems:
        return self.read_items(
            f"SELECT message_data, created_at FROM {self._messages}"
            f" WHERE session_id = ? ORDER BY {self._order}",
            session.place,
        )

    def close(self) -> None:
        self._file.close()

    def read_sessions(self, rows: str) -> Iterator[SourceSession]:
        """Yield the sessions that these rows of a table speak of."""
        for session_id, created_at, updated_at in self._fetch(
            f"SELECT session_id, min(created_at), max(created_at) FROM {rows}"
            " GROUP BY session_id ORDER BY min(id)"
        ):
            yield SourceSession(
                session_id=read_text(session_id),
                place=session_id,
                created_at=read_time(created_at),
                updated_at=read_time(updated_at),
            )

    def read_items(self, sql: str, *values: Any) -> SourceItems:
        """Yield what the statement gives: texts and times."""
        with reading(), closing(self._file.execute(sql, values)) as rows:
            for data, created_at in rows:
                yield SourceItem(read_text(data), read_time(created_at))

    def _fetch(self, sql: str, *values: Any) -> list[Any]:
        with reading():
            return self._file.execute(sql, values).fetchall()


def open_database(path: Path) -> sqlite3.Connection:
    """Open the file so that nothing can be written to it."""
    uri = path.absolute().as_uri() + "?mode=ro"
    with reading():
        try:
            return _connect(uri)
        except sqlite3.OperationalError as error:
            # A WAL file needs another beside it, also to be read, and its folder may
            # be read-only. Where there is no log, nobody is writing either.
            wal = path.with_name(f"{path.name}-wal")
            if error.sqlite_errorcode != sqlite3.SQLITE_CANTOPEN or wal.exists():
                raise
        return _connect(f"{uri}&immutable=1")


def _connect(uri: str) -> sqlite3.Connection:
    file = sqlite3.connect(uri, uri=True, timeout=_TIMEOUT, isolation_level=None)
    # A text that is not UTF-8 would end the whole import.
    file.text_factory = _decode
    file.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return file


def find_table(file: sqlite3.Connection, name: str) -> str:
    """Return the table's name as SQL spells it. Raise InvalidSource without one."""
    found = look_for_table(file, name)
    if found is None:
        raise InvalidSource(f"The source has no table {name!r}.")
    return found


def look_for_table(file: sqlite3.Connection, name: str) -> str | None:
    """Return the table's name as SQL spells it; None without one."""
    with reading():
        found = file.execute(
            "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
            " AND name = ? COLLATE NOCASE",
            [name],
        ).fetchone()
    return None if found is None else '"{}"'.format(found[0].replace('"', '""'))


@contextmanager
def reading() -> Iterator[None]:
    """Turn SQLite's errors into InvalidSource; they hold names, never values."""
    try:
        yield
    except sqlite3.Error as error:
        raise InvalidSource(f"The source cannot be read: {error}.") from None


def read_text(value: object) -> str:
    """Return what stands in a column that should hold text, as text."""
    return _decode(value) if isinstance(value, bytes) else str(value)


@lru_cache(maxsize=1024)
def read_time(value: object) -> datetime | None:
    """Return a time as databases give it, None if it is something else."""
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return None
    if not isinstance(time, datetime):
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


def _decode(value: bytes) -> str:
    return value.decode(errors="backslashreplace")
