from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from unittest import mock
from unittest.mock import patch

from django.conf import settings
from django.core import checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.test import SimpleTestCase, TestCase, override_settings

import agent_sessions.checks
from agent_sessions.checks import (
    check_charset,
    check_databases,
    check_deployment,
    check_settings,
)
from agent_sessions.conf import Settings, conf


def ids(problems: list[checks.CheckMessage]) -> list[str]:
    return [str(problem.id) for problem in problems]


class SettingsTests(SimpleTestCase):
    def test_the_defaults_are_fine(self):
        assert check_settings(None) == []

    def test_defaults_are_what_the_docs_say(self):
        assert conf.AGENT_SESSIONS_ACCESS_USER is None
        assert conf.AGENT_SESSIONS_API_CLIENT_IDS is False
        assert conf.AGENT_SESSIONS_LOCK_TIMEOUT == 5
        assert conf.AGENT_SESSIONS_METADATA_MAX_BYTES == 16_384
        assert conf.AGENT_SESSIONS_METADATA_MAX_DEPTH == 20
        assert conf.AGENT_SESSIONS_METADATA_MAX_KEYS == 256
        assert conf.AGENT_SESSIONS_ON_USER_DELETE == "keep"
        assert conf.AGENT_SESSIONS_RENDER_MARKDOWN is False
        assert conf.AGENT_SESSIONS_REQUIRE_REASON is False
        assert conf.AGENT_SESSIONS_RETENTION_DAYS is None
        assert conf.AGENT_SESSIONS_SHOW_CONTENT is True
        assert conf.AGENT_SESSIONS_THREADS == 8
        with override_settings():
            del settings.AGENT_SESSIONS_PORTABLE
            assert Settings().AGENT_SESSIONS_PORTABLE is False

    def test_a_test_may_change_settings(self):
        assert conf.AGENT_SESSIONS_THREADS == 8
        with override_settings(AGENT_SESSIONS_THREADS=3):
            assert conf.AGENT_SESSIONS_THREADS == 3
        assert conf.AGENT_SESSIONS_THREADS == 8

    def test_an_unknown_name_is_a_warning_that_names_the_known(self):
        with override_settings(AGENT_SESSIONS_THREAD=3):
            (problem,) = check_settings(None)
        assert problem.id == "agent_sessions.W001"
        assert "AGENT_SESSIONS_THREAD " in problem.msg
        assert "AGENT_SESSIONS_THREADS" in problem.hint

    def test_markdown_needs_its_extra(self):
        missing = patch("agent_sessions.markdown.find_spec", return_value=None)
        with override_settings(AGENT_SESSIONS_RENDER_MARKDOWN=True):
            assert check_settings(None) == []
            with missing:
                (problem,) = check_settings(None)
        assert problem.id == "agent_sessions.E001"
        assert "[markdown]" in problem.msg

    def test_wrong_values_are_errors(self):
        wrong: dict[str, list[Any]] = {
            "AGENT_SESSIONS_ACCESS_USER": [
                "",
                1,
                "nowhere.at.all",
                "agent_sessions.nothing",
                "agent_sessions.models.TITLE_MAX_LENGTH",
            ],
            "AGENT_SESSIONS_API_CLIENT_IDS": [1, None, "yes"],
            "AGENT_SESSIONS_LOCK_TIMEOUT": [0, -1, "5", None, True, float("inf")],
            "AGENT_SESSIONS_METADATA_MAX_BYTES": [0, 1.5, "1", None],
            "AGENT_SESSIONS_METADATA_MAX_DEPTH": [0, 31, "20", None, True],
            "AGENT_SESSIONS_METADATA_MAX_KEYS": [0, 1.5, "1", None, True],
            "AGENT_SESSIONS_ON_USER_DELETE": ["", "remove", None, True],
            "AGENT_SESSIONS_MAX_ITEM_BYTES": [0, -1, True, "9"],
            "AGENT_SESSIONS_MAX_ITEMS": [0, 1.5, False],
            "AGENT_SESSIONS_MAX_SESSIONS": [0, -1, "9"],
            "AGENT_SESSIONS_PORTABLE": [0, None, "yes"],
            "AGENT_SESSIONS_PREPARE": [1, None, "no"],
            "AGENT_SESSIONS_RENDER_MARKDOWN": [0, None, "yes"],
            "AGENT_SESSIONS_REQUIRE_REASON": [0, None, "yes"],
            "AGENT_SESSIONS_RETENTION_DAYS": [0, -1, 1.5, "30", True],
            "AGENT_SESSIONS_SHOW_CONTENT": [1, None, "no"],
            "AGENT_SESSIONS_THREADS": [0, -8, 1.5, "8", None, True],
        }
        names = {name for name in dir(Settings) if name.startswith("AGENT_SESSIONS_")}
        assert set(wrong) == names
        for name, values in wrong.items():
            for value in values:
                with override_settings(**{name: value}):
                    (problem,) = check_settings(None)
                assert problem.id == "agent_sessions.E001"
                assert name in problem.msg


class SplitRouter:
    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "other" if model._meta.app_label == "agent_sessions" else None


class DatabaseTests(TestCase):
    databases = {"default", "other"}

    def test_users_and_sessions_belong_together(self):
        assert check_databases(None) == []
        with override_settings(DATABASE_ROUTERS=["tests.test_checks.SplitRouter"]):
            (problem,) = check_databases(None)
        assert problem.id == "agent_sessions.E002"
        assert "'other'" in problem.msg and "'default'" in problem.msg

    def test_the_test_databases_can_hold_what_people_write(self):
        assert check_charset(None, databases=["default", "other"]) == []
        assert check_charset(None) == []

    def test_mysql_without_utf8mb4_is_an_error(self):
        handler = mock.MagicMock()
        wrapper = handler.__getitem__.return_value
        wrapper.vendor = "mysql"
        cursor = wrapper.cursor.return_value.__enter__.return_value
        cursor.fetchone.return_value = ("latin1", "utf8mb4")
        with mock.patch("agent_sessions.checks.connections", handler):
            (problem,) = check_charset(None, databases=["default"])
        assert problem.id == "agent_sessions.E003"

    def test_manage_check_runs_them_all(self):
        call_command("check", databases=["default"], fail_level="WARNING")
        message = "AGENT_SESSIONS_THREADS must be a positive integer"
        with (
            override_settings(AGENT_SESSIONS_THREADS=0),
            self.assertRaisesMessage(SystemCheckError, message),
        ):
            call_command("check")


class DeploymentTests(SimpleTestCase):
    def options(self, **changes: Any) -> Any:
        wrapper = mock.Mock(
            vendor=changes.pop("vendor", "postgresql"),
            settings_dict={"OPTIONS": {}, "CONN_MAX_AGE": 0, **changes},
        )
        handler = mock.MagicMock()
        handler.__iter__.return_value = iter(["default"])
        handler.__getitem__.return_value = wrapper
        return mock.patch("agent_sessions.checks.connections", handler)

    def test_sqlite_should_begin_immediately(self):
        with self.options(vendor="sqlite"):
            assert ids(check_deployment(None)) == ["agent_sessions.W002"]
        for mode in ("IMMEDIATE", "immediate"):
            with self.options(vendor="sqlite", OPTIONS={"transaction_mode": mode}):
                assert check_deployment(None) == []

    def test_kept_connections_pile_up_under_asgi(self):
        with self.options(CONN_MAX_AGE=60):
            assert check_deployment(None) == []
        with override_settings(ASGI_APPLICATION="x.asgi.application"):
            for age in (60, None):
                with self.options(CONN_MAX_AGE=age):
                    assert ids(check_deployment(None)) == ["agent_sessions.W003"]
            with self.options(CONN_MAX_AGE=0):
                assert check_deployment(None) == []


def test_check_ids_are_unique():
    source = Path(agent_sessions.checks.__file__).read_text()
    found = re.findall(r'id="(agent_sessions\.[EW]\d{3})"', source)
    assert len(found) == len(set(found)) == 6


def test_deployment_checks_run_only_under_deploy():
    assert check_deployment not in checks.registry.registry.get_checks()
    assert check_deployment in checks.registry.registry.get_checks(True)
