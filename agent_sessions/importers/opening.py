"""From what stands on a command line to a source."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias, get_args

from agent_sessions.exceptions import InvalidSource
from agent_sessions.importers.jsonlines import JSONLinesSource
from agent_sessions.importers.records import Source
from agent_sessions.importers.sqlite import (
    MESSAGES_TABLE,
    SESSIONS_TABLE,
    SQLiteSource,
)

Format: TypeAlias = Literal["jsonl", "sqlite"]
FORMATS: tuple[Format, ...] = get_args(Format)


def open_source(
    name: str,
    *,
    format: Format | None = None,
    sessions_table: str | None = None,
    messages_table: str | None = None,
) -> Source:
    """
    Return the source of this name, a file; its format is seen unless it is given.

    Raise InvalidSource if there is none, or if it is something else.
    """
    path = Path(name)
    if format is None:
        format = _guess(path)
    if format == "jsonl":
        return JSONLinesSource(path)
    return SQLiteSource(
        path,
        sessions_table=sessions_table or SESSIONS_TABLE,
        messages_table=messages_table or MESSAGES_TABLE,
    )


def _guess(path: Path) -> Format:
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
