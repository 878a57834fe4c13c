"""Databases of a test's own, for projects in other processes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.db import connection

from tests.settings import SUFFIX


@contextmanager
def empty_database(name: str) -> Iterator[str]:
    """Create an empty database and give its NAME; drop it in the end."""
    if connection.vendor == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield str(Path(folder) / f"{name}.sqlite3")
        return
    name = connection.ops.quote_name(f"agent_sessions_{name}{SUFFIX}")
    _execute(f"DROP DATABASE IF EXISTS {name}", f"CREATE DATABASE {name}")
    try:
        yield name[1:-1]
    finally:
        _execute(f"DROP DATABASE {name}")


def _execute(*statements: str) -> None:
    with connection._nodb_cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
