"""Every word that stands anywhere in a database."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import connections


def find_words(words: Iterable[str], *, using: str = "default") -> set[tuple[str, str]]:
    """Return in which (table, column) any of these words stands, in any column."""
    connection = connections[using]
    wanted = [word.casefold() for word in words]
    found = set()
    for table in connection.introspection.table_names():
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            names = [column[0] for column in cursor.description]
            for row in cursor.fetchall():
                for name, value in zip(names, row, strict=True):
                    text = _spell(value)
                    if any(word in text for word in wanted):
                        found.add((table, name))
    return found


def _spell(value: Any) -> str:
    if isinstance(value, bytes | memoryview):
        return bytes(value).decode("latin-1").casefold()
    text = str(value).casefold()
    # As others may have written it.
    return text + text.encode("ascii", "backslashreplace").decode()
