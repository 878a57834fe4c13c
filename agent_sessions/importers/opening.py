"""From what stands on a command line to a source."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args
from urllib.parse import parse_qsl, unquote, urlsplit

from django.db import connections

from agent_sessions.exceptions import InvalidSource
from agent_sessions.importers.advanced import STRUCTURE_TABLE, AdvancedSQLiteSource
from agent_sessions.importers.jsonlines import JSONLinesSource
from agent_sessions.importers.records import Source
from agent_sessions.importers.redis import KEY_PREFIX, RedisSource
from agent_sessions.importers.shapes import AGENTIC, OPENAI_DJANGO, SQLALCHEMY
from agent_sessions.importers.sql import (
    SQLSource,
    list_columns,
    list_tables,
    open_connection,
)
from agent_sessions.importers.sqlite import (
    MESSAGES_TABLE,
    SESSIONS_TABLE,
    SQLiteSource,
    open_database,
    reading,
)

Format: TypeAlias = Literal[
    "advanced-sqlite",
    "agentic-django",
    "jsonl",
    "openai-django-sessions",
    "redis",
    "sqlalchemy",
    "sqlite",
]
FORMATS: tuple[Format, ...] = get_args(Format)

_SHAPES = {
    "agentic-django": AGENTIC,
    "openai-django-sessions": OPENAI_DJANGO,
    "sqlalchemy": SQLALCHEMY,
}
_ENGINES = {
    "mariadb": "django.db.backends.mysql",
    "mysql": "django.db.backends.mysql",
    "postgres": "django.db.backends.postgresql",
    "postgresql": "django.db.backends.postgresql",
    "sqlite": "django.db.backends.sqlite3",
}
_REDIS = ("redis", "rediss", "unix")


def open_source(
    name: str,
    *,
    format: Format | None = None,
    sessions_table: str | None = None,
    messages_table: str | None = None,
    key_prefix: str = KEY_PREFIX,
    zone: tzinfo = UTC,
) -> Source:
    """
    Return the source of this name: a file, a database's alias, or a URL.

    Its format is seen unless it is given. ``zone`` is of times that have none. Raise
    InvalidSource if there is no such source, or if it is something else.
    """
    scheme = name.partition("://")[0].partition("+")[0] if "://" in name else ""
    if format == "redis" or scheme in _REDIS:
        return RedisSource(name, key_prefix=key_prefix)
    tables = {"sessions_table": sessions_table, "messages_table": messages_table}
    path = Path(name)
    settings = None
    if scheme:
        settings = parse_url(name)
    elif not os.path.exists(name) and name in connections:
        settings = connections[name].settings_dict
    if settings is not None:
        if settings["ENGINE"] != _ENGINES["sqlite"]:
            return _open_tables(settings, format, zone, tables)
        path = Path(settings["NAME"])
    if format is None and _sniff(path) == "jsonl":
        format = "jsonl"
    if format == "jsonl":
        return JSONLinesSource(path)
    return _open_sqlite(path, format, zone, tables)


def parse_url(url: str) -> dict[str, Any]:
    """
    Return Django's settings for a database that SQLAlchemy has a URL for.

    Raise InvalidSource, without the URL, which may hold a password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidSource("The source is not a URL.") from None
    engine = _ENGINES.get(parts.scheme.partition("+")[0])
    name = unquote(parts.path[1:])
    if engine is None or not name:
        known = ", ".join([*_ENGINES, *_REDIS])
        raise InvalidSource(
            f"The source is a URL without a database, or not of {known}."
        )
    options: dict[str, Any] = dict(parse_qsl(parts.query))
    if engine == _ENGINES["mysql"]:
        # As SQLAlchemy does: the driver takes no text for them.
        options |= {
            key: int(value)
            for key, value in options.items()
            if value.isascii() and value.isdigit()
        }
    if "ssl" in options and engine == _ENGINES["postgresql"]:
        # As asyncpg calls it.
        options["sslmode"] = options.pop("ssl")
    return {
        "ENGINE": engine,
        "NAME": name,
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(parts.hostname or ""),
        "PORT": str(port or ""),
        "OPTIONS": options,
    }


def _sniff(path: Path) -> Literal["jsonl", "sqlite"]:
    try:
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError as error:
        raise InvalidSource(f"The source cannot be read: {error}.") from None
    if start == b"SQLite format 3\0":
        return "sqlite"
    if start.startswith(b"{"):
        return "jsonl"
    raise InvalidSource(
        "The source is neither an SQLite database nor an export of agent sessions."
    )


def _open_sqlite(
    path: Path, format: Format | None, zone: tzinfo, tables: dict[str, str | None]
) -> Source:
    sessions = tables["sessions_table"] or SESSIONS_TABLE
    messages = tables["messages_table"] or MESSAGES_TABLE
    if format is None:
        with closing(open_database(path)) as file:
            if _columns(file, STRUCTURE_TABLE):
                format = "advanced-sqlite"
            elif "data" in _columns(file, messages):
                format = "openai-django-sessions"
            elif _columns(file, AGENTIC.sessions_table) and not _columns(
                file, messages
            ):
                format = "agentic-django"
    if format == "advanced-sqlite":
        kind: type[SQLiteSource] = AdvancedSQLiteSource
    elif format in ("openai-django-sessions", "agentic-django"):
        uri = path.absolute().as_uri() + "?mode=ro"
        settings = {"ENGINE": _ENGINES["sqlite"], "NAME": uri}
        return _open_tables(settings, format, zone, tables)
    else:
        kind = SQLiteSource
    return kind(path, sessions_table=sessions, messages_table=messages)


def _open_tables(
    settings: dict[str, Any],
    format: Format | None,
    zone: tzinfo,
    tables: dict[str, str | None],
) -> Source:
    connection = open_connection(settings)
    if format is None:
        found = list_tables(connection)
        messages = tables["messages_table"] or MESSAGES_TABLE
        if messages in found:
            columns = list_columns(connection, messages)
            is_django = "data" in columns and "message_data" not in columns
            format = "openai-django-sessions" if is_django else "sqlalchemy"
        elif AGENTIC.sessions_table in found:
            format = "agentic-django"
        else:
            raise InvalidSource(f"The source has no table {messages!r}.")
    if format not in _SHAPES:
        raise InvalidSource(f"A database holds no {format} source.")
    return SQLSource(connection, _SHAPES[format], zone=zone, **tables)


def _columns(file: sqlite3.Connection, table: str) -> set[str]:
    with reading():
        rows = file.execute("SELECT name FROM pragma_table_info(?)", [table])
        return {name for (name,) in rows}
