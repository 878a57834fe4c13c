"""The benchmark's own databases: made before it, dropped after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management import call_command
from django.db import connections

_ALIASES = {
    "sqlite": ("default", "sqlite_wal"),
    "postgresql": ("postgresql",),
    "mariadb": ("mariadb",),
}


@contextmanager
def made(vendor: str) -> Iterator[None]:
    """Have the vendor's empty databases, with Django's tables."""
    _drop_and_create(vendor, create=True)
    try:
        for alias in _ALIASES[vendor]:
            call_command("migrate", database=alias, run_syncdb=True, verbosity=0)
        connections.close_all()
        yield
    finally:
        connections.close_all()
        _drop_and_create(vendor, create=False)


def _drop_and_create(vendor: str, *, create: bool) -> None:
    if vendor == "sqlite":
        return  # files in a folder that goes with the run
    connection = connections[vendor]
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    # Django's word for the connection from which databases are made and dropped.
    with connection._nodb_cursor() as cursor:
        # Also when a failure has left connections behind.
        force = " WITH (FORCE)" if vendor == "postgresql" else ""
        cursor.execute(f"DROP DATABASE IF EXISTS {name}{force}")
        if create and vendor == "mariadb":
            cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        elif create:
            cursor.execute(f"CREATE DATABASE {name}")


def vacuum(alias: str) -> None:
    """Bring statistics and visibility up to date, as autovacuum would have by now."""
    connection = connections[alias]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("VACUUM ANALYZE")
        elif connection.vendor == "mysql":
            tables = connection.introspection.table_names(cursor)
            names = ", ".join(map(connection.ops.quote_name, tables))
            cursor.execute(f"ANALYZE TABLE {names}")
            cursor.fetchall()
    connection.close()


def versions(vendor: str) -> list[str]:
    """Return the server's version and what it does at a commit."""
    connection = connections["default" if vendor == "sqlite" else vendor]
    if vendor == "sqlite":
        return ["SQLite " + ".".join(map(str, connection.Database.sqlite_version_info))]
    with connection.cursor() as cursor:
        if vendor == "mariadb":
            cursor.execute("SELECT VERSION(), @@innodb_flush_log_at_trx_commit")
            version, flush = cursor.fetchone()
            found = [f"MariaDB {version}, innodb_flush_log_at_trx_commit = {flush}"]
        else:
            cursor.execute("SHOW server_version")
            (version,) = cursor.fetchone()
            settings = []
            for name in ("fsync", "synchronous_commit", "shared_buffers"):
                cursor.execute(f"SHOW {name}")
                settings.append(f"{name} = {cursor.fetchone()[0]}")
            found = [f"PostgreSQL {version.split()[0]}", *settings]
    connection.close()
    return found
