"""The benchmark's project: one alias for every way to a database."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

# Both are put there by tests.benchmark.__main__ for its own run.
FOLDER = Path(os.environ.get("BENCHMARK_FOLDER", tempfile.gettempdir()))
NAME = "agent_sessions_bench" + os.environ.get("TEST_NAME", "")

# Django's defaults otherwise: no pool, no prepared statements, CONN_MAX_AGE = 0.
POSTGRESQL = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": NAME,
    "HOST": os.environ.get("PGHOST", "127.0.0.1"),
    "PORT": os.environ.get("PGPORT", "5432"),
    "USER": os.environ.get("PGUSER", "postgres"),
    "PASSWORD": os.environ.get("PGPASSWORD", ""),
}
MARIADB = {
    "ENGINE": "django.db.backends.mysql",
    "NAME": NAME,
    "HOST": os.environ.get("MYSQL_HOST", "127.0.0.1"),
    "PORT": os.environ.get("MYSQL_PORT", "3306"),
    "USER": os.environ.get("MYSQL_USER", "root"),
    "PASSWORD": os.environ.get("MYSQL_PASSWORD", ""),
}
SQLITE = {"ENGINE": "django.db.backends.sqlite3"}

DATABASES = {
    "default": {**SQLITE, "NAME": str(FOLDER / "django.sqlite3")},
    # What the SDK's own SQLite sessions set for themselves, but for IMMEDIATE, which
    # the app's check asks for.
    "sqlite_wal": {
        **SQLITE,
        "NAME": str(FOLDER / "django_wal.sqlite3"),
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL;",
        },
    },
    "postgresql": {**POSTGRESQL},
    # What a project without a pooler in between may choose.
    "postgresql_prepared": {
        **POSTGRESQL,
        "OPTIONS": {"prepare_threshold": 5, "server_side_binding": True},
    },
    "postgresql_delayed": {**POSTGRESQL},
    "postgresql_counted": {**POSTGRESQL},
    "mariadb": {**MARIADB},
    "mariadb_counted": {**MARIADB},
}

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "agent_sessions",
    "tests.benchmark",
]
SECRET_KEY = "for the benchmark only"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
