from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

# Under ASGI requests have threads of their own: without a pool each connects anew.
POOL = {"min_size": 1, "max_size": 10}


def parse_database_url(url: str) -> dict[str, Any]:
    """
    Return Django's settings for postgres://user:password@host:port/name.

    The query goes into OPTIONS: ?sslmode=require. sqlite:///path is for files.
    Raise ImproperlyConfigured for other databases, or without PostgreSQL's driver.
    """
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        path = Path(unquote(parts.path.removeprefix("/")))
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(path),
            # A file, too: threads do not share a database in memory.
            "TEST": {"NAME": str(path.with_name(f"test_{path.name}"))},
            "OPTIONS": {
                # A transaction waits for its turn before it reads, not after.
                "transaction_mode": "IMMEDIATE",
                "timeout": 20,
                # Readers and the one writer do not wait for each other.
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            },
        }
    if parts.scheme not in ("postgres", "postgresql"):
        raise ImproperlyConfigured(
            "DATABASE_URL must look like postgres://user:password@host:port/name."
        )
    if find_spec("psycopg_pool") is None:
        raise ImproperlyConfigured(
            "DATABASE_URL names PostgreSQL, whose driver is not installed. Install it "
            "with: .venv/bin/python -m pip install 'psycopg[binary,pool]'"
        )
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.removeprefix("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": str(parts.port or ""),
        "OPTIONS": {"pool": POOL, **dict(parse_qsl(parts.query))},
        # A pooled connection is checked before it is lent: servers restart.
        "CONN_HEALTH_CHECKS": True,
    }
