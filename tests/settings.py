"""
A minimal project, on the database that TEST_DATABASE names.

TEST_NAME keeps runs that go on side by side apart. Processes that a test starts find
its database through DATABASE_NAME (see tests.processes).
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

VENDOR = os.environ.get("TEST_DATABASE", "sqlite")
SUFFIX = os.environ.get("TEST_NAME", "")


def _database(name: str) -> dict[str, Any]:
    name += SUFFIX
    match VENDOR:
        case "sqlite":
            # A file, not memory: threads and processes share it as in production.
            folder = Path(tempfile.gettempdir())
            return {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": str(folder / f"{name}.sqlite3"),
                "TEST": {"NAME": str(folder / f"test_{name}_{os.getpid()}.sqlite3")},
            }
        case "postgresql":
            return {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": name,
                "HOST": os.environ.get("PGHOST", "127.0.0.1"),
                "PORT": os.environ.get("PGPORT", "5432"),
                "USER": os.environ.get("PGUSER", "postgres"),
                "PASSWORD": os.environ.get("PGPASSWORD", ""),
                "OPTIONS": {
                    "server_side_binding": bool(
                        os.environ.get("TEST_SERVER_SIDE_BINDING")
                    )
                },
            }
        case "mariadb":
            return {
                "ENGINE": "django.db.backends.mysql",
                "NAME": name,
                "HOST": os.environ.get("MYSQL_HOST", "127.0.0.1"),
                "PORT": os.environ.get("MYSQL_PORT", "3306"),
                "USER": os.environ.get("MYSQL_USER", "root"),
                "PASSWORD": os.environ.get("MYSQL_PASSWORD", ""),
                "TEST": {
                    "CHARSET": "utf8mb4",
                    "COLLATION": "utf8mb4_general_ci",
                },
            }
    raise ValueError(f"TEST_DATABASE={VENDOR!r}: sqlite, postgresql or mariadb")


DATABASES = {
    "default": _database("agent_sessions"),
    "other": _database("agent_sessions_other"),
}
if "DATABASE_NAME" in os.environ:
    DATABASES["default"]["NAME"] = os.environ["DATABASE_NAME"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "rest_framework",
    "rest_framework.authtoken",
    "drf_spectacular",
    "agent_sessions",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.SessionAuthentication",
        "rest_framework.authentication.TokenAuthentication",
    ],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
}
SPECTACULAR_SETTINGS = {"TITLE": "Agent sessions", "VERSION": "1"}
STATIC_URL = "static/"
ROOT_URLCONF = "tests.urls"
SECRET_KEY = "for tests only"
USE_TZ = True
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# The store's other path, and psycopg's other way to bind, take the same tests.
AGENT_SESSIONS_PORTABLE = bool(os.environ.get("TEST_PORTABLE"))
