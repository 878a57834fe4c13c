from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core import checks
from django.db import connections, router
from django.utils.module_loading import import_string

from agent_sessions import markdown
from agent_sessions.conf import Settings, conf
from agent_sessions.metadata import DEEPEST

PREFIX = "AGENT_SESSIONS_"


def register_checks() -> None:
    checks.register(check_settings, "agent_sessions")
    checks.register(check_databases, "agent_sessions")
    checks.register(check_charset, checks.Tags.database)
    checks.register(check_deployment, "agent_sessions", deploy=True)


def check_settings(
    app_configs: Sequence[AppConfig] | None, **options: Any
) -> list[checks.CheckMessage]:
    known = {name for name in dir(Settings) if name.startswith(PREFIX)}
    # UserSettingsHolder of override_settings() lists only what was overridden.
    names = {name for name in dir(settings) if name.startswith(PREFIX)}
    problems: list[checks.CheckMessage] = [
        checks.Warning(
            f"{name} is not a setting of agent_sessions.",
            hint=f"Known are: {', '.join(sorted(known))}.",
            id="agent_sessions.W001",
        )
        for name in sorted(names - known)
    ]
    for name, wanted in _wrong_settings():
        problems.append(
            checks.Error(f"{name} must be {wanted}.", id="agent_sessions.E001")
        )
    return problems


def check_databases(
    app_configs: Sequence[AppConfig] | None, **options: Any
) -> list[checks.CheckMessage]:
    from agent_sessions.models import AgentSession

    sessions = router.db_for_write(AgentSession)
    users = router.db_for_write(get_user_model())
    if sessions == users:
        return []
    return [
        checks.Error(
            f"Sessions are written to {sessions!r} but users to {users!r}.",
            hint="No foreign key reaches across databases: route the app "
            "agent_sessions to where the users are.",
            id="agent_sessions.E002",
        )
    ]


def check_charset(
    app_configs: Sequence[AppConfig] | None,
    databases: Sequence[str] | None = None,
    **options: Any,
) -> list[checks.CheckMessage]:
    problems: list[checks.CheckMessage] = []
    for alias in databases or ():
        connection = connections[alias]
        if connection.vendor != "mysql":
            continue
        with connection.cursor() as cursor:
            cursor.execute("SELECT @@character_set_database, @@character_set_client")
            charsets = set(cursor.fetchone())
        if charsets != {"utf8mb4"}:
            problems.append(
                checks.Error(
                    f"Database {alias!r} does not use utf8mb4 throughout.",
                    hint="ALTER DATABASE ... CHARACTER SET utf8mb4, and leave "
                    "OPTIONS['charset'] at Django's default; what people write "
                    "does not fit into less.",
                    id="agent_sessions.E003",
                )
            )
    return problems


def check_deployment(
    app_configs: Sequence[AppConfig] | None, **options: Any
) -> list[checks.CheckMessage]:
    problems: list[checks.CheckMessage] = []
    for alias in connections:
        connection = connections[alias]
        mode = connection.settings_dict["OPTIONS"].get("transaction_mode")
        if connection.vendor == "sqlite" and str(mode).upper() != "IMMEDIATE":
            problems.append(
                checks.Warning(
                    f"SQLite database {alias!r} begins its transactions deferred.",
                    hint="Set OPTIONS['transaction_mode'] = 'IMMEDIATE': a "
                    "transaction that reads before it writes fails at once with "
                    "'database is locked' when another writer was faster.",
                    id="agent_sessions.W002",
                )
            )
        if (
            getattr(settings, "ASGI_APPLICATION", None)
            and connection.settings_dict["CONN_MAX_AGE"] != 0
        ):
            problems.append(
                checks.Warning(
                    f"Database {alias!r} has CONN_MAX_AGE set under ASGI.",
                    hint="Each request runs on a thread of its own there, so kept "
                    "connections pile up. Leave CONN_MAX_AGE at 0 and use a pool: "
                    "OPTIONS['pool'] on PostgreSQL.",
                    id="agent_sessions.W003",
                )
            )
    return problems


def _wrong_settings() -> list[tuple[str, str]]:
    wrong = []
    if conf.AGENT_SESSIONS_ON_USER_DELETE not in ("keep", "delete"):
        wrong.append((f"{PREFIX}ON_USER_DELETE", '"keep" or "delete"'))
    if not _is_positive(conf.AGENT_SESSIONS_LOCK_TIMEOUT, int | float):
        wrong.append((f"{PREFIX}LOCK_TIMEOUT", "a positive, finite number of seconds"))
    for name in (
        "API_CLIENT_IDS",
        "PORTABLE",
        "PREPARE",
        "RENDER_MARKDOWN",
        "REQUIRE_REASON",
        "SHOW_CONTENT",
    ):
        if not isinstance(getattr(conf, PREFIX + name), bool):
            wrong.append((PREFIX + name, "True or False"))
    if conf.AGENT_SESSIONS_RENDER_MARKDOWN is True and not markdown.is_installed():
        wrong.append((f"{PREFIX}RENDER_MARKDOWN", "False without the extra [markdown]"))
    if not _is_function_path(conf.AGENT_SESSIONS_ACCESS_USER):
        wrong.append((f"{PREFIX}ACCESS_USER", "the dotted path of a function or None"))
    if not _is_positive(conf.AGENT_SESSIONS_THREADS, int):
        wrong.append((f"{PREFIX}THREADS", "a positive integer"))
    for name in ("METADATA_MAX_BYTES", "METADATA_MAX_KEYS"):
        if not _is_positive(getattr(conf, PREFIX + name), int):
            wrong.append((PREFIX + name, "a positive integer"))
    for name in ("MAX_ITEM_BYTES", "MAX_ITEMS", "MAX_SESSIONS", "RETENTION_DAYS"):
        value = getattr(conf, PREFIX + name)
        if value is not None and not _is_positive(value, int):
            wrong.append((PREFIX + name, "a positive integer or None"))
    depth = conf.AGENT_SESSIONS_METADATA_MAX_DEPTH
    if not _is_positive(depth, int) or depth > DEEPEST:
        wrong.append((f"{PREFIX}METADATA_MAX_DEPTH", f"an integer from 1 to {DEEPEST}"))
    return wrong


def _is_positive(value: object, kind: Any) -> bool:
    if not isinstance(value, kind) or isinstance(value, bool):
        return False
    return value > 0 and math.isfinite(value)


def _is_function_path(value: object) -> bool:
    if value is None:
        return True
    try:
        return isinstance(value, str) and callable(import_string(value))
    except ImportError:
        return False
