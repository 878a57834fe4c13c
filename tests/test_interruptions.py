"""Destructive commands that are killed, or that the database refuses."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection
from django.test import TransactionTestCase

from agent_sessions import store
from agent_sessions.models import (
    AgentSession,
    AgentUser,
    ErasureReceipt,
    SessionAccess,
    SessionItem,
)
from agent_sessions.store import erasure, selections
from tests.processes import finish, start
from tests.projects.cases import say
from tests.scanning import find_words

User = get_user_model()
SESSIONS, ITEMS = 6, 3


def run(command: str, *arguments: str) -> None:
    with (
        mock.patch.object(erasure, "BATCH", 2),
        mock.patch.object(selections, "BATCH", 2),
    ):
        call_command(command, *arguments)


def run_and_die(statements: str, *command: str) -> None:
    """Run the command, and kill this process before so many and one statements."""
    left = int(statements)

    def count(execute: Any, *arguments: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return execute(*arguments)

    with connection.execute_wrapper(count):
        run(*command)


def run_slowly(*command: str) -> None:
    def wait(execute: Any, *arguments: Any) -> Any:
        time.sleep(0.02)
        return execute(*arguments)

    with connection.execute_wrapper(wait):
        run(*command)


def begin(function: Any, *arguments: str, **environment: str) -> Any:
    code = f"import sys; from tests.test_interruptions import {function.__name__} as f"
    return start(f"{code}; f(*sys.argv[1:])", *arguments, **environment)


class InterruptionTestCase(TransactionTestCase):
    def setUp(self):
        self.ann = User.objects.create(username="ann")
        self.bob = User.objects.create(username="bob")
        for user in (self.ann, self.bob):
            rows = []
            for number in range(SESSIONS):
                row = store.create_session(user, session_id=f"{user}-{number}")
                store.append_items(row, [say("sesame")] * ITEMS)
                rows.append(row.pk)
            store.update_user_metadata({"word": "sesame"}, user=user)
            store.record_access("opened", channel="admin", sessions=rows, user=user)
        self.erase = ("erase_agent_user", "--user", "ann", "--no-input", "--by", "me")

    def left(self, user):
        sessions = AgentSession.objects.for_user(user)
        return sessions.count(), SessionItem.objects.filter(session__in=sessions)

    def kill_until_done(self, *command: str) -> Iterator[int]:
        """Kill the command later and later; yield after each, until it ends."""
        for statements in range(2, 1000, 7):
            process = begin(run_and_die, str(statements), *command)
            self.output, errors = process.communicate(timeout=60)
            if process.returncode == 0:
                return
            assert process.returncode == -signal.SIGKILL, errors
            yield statements


class KilledTests(InterruptionTestCase):
    def test_an_erasure_ends_as_if_it_had_run_once(self):
        expected = store.erase_user(self.bob, by="me")
        keys = AgentSession.objects.for_user(self.ann).values_list("pk", flat=True)
        lines = "".join(f"{key}\n" for key in sorted(map(str, keys)))
        kills = 0
        for _ in self.kill_until_done(*self.erase):
            kills += 1
            count, items = self.left(self.ann)
            assert items.count() == count * ITEMS
            for receipt in ErasureReceipt.objects.filter(finished_at=None):
                assert receipt.sessions == SESSIONS - count
                assert receipt.items == receipt.sessions * ITEMS
        assert kills >= 4
        assert find_words(["sesame"]) == set()
        receipt = ErasureReceipt.objects.get(erased_user=str(self.ann.pk))
        names = ("sessions", "items", "agent_users", "accesses")
        for name in names:
            assert getattr(receipt, name) == getattr(expected, name), name
        assert receipt.sessions_digest == erasure.sha256(lines.encode()).hexdigest()
        assert json.loads(self.output)["id"] == str(receipt.pk)
        assert bytes(receipt.keys) == b""
        facts = set(SessionAccess.objects.values_list("user", "session", "owner"))
        assert facts == {(None, None, "")}

    def test_an_erasure_that_is_killed_from_outside_is_taken_up(self):
        process = begin(run_slowly, *self.erase)
        self.addCleanup(process.wait)
        deadline = time.monotonic() + 60
        while not ErasureReceipt.objects.filter(sessions__gt=0).exists():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
        process.kill()
        process.communicate()
        assert ErasureReceipt.objects.get().finished_at is None
        receipt = json.loads(finish(begin(run, *self.erase)))
        assert (receipt["sessions"], receipt["items"]) == (SESSIONS, SESSIONS * ITEMS)
        assert ErasureReceipt.objects.get().finished_at is not None
        assert AgentUser.objects.get().user == self.bob
        assert self.left(self.bob)[0] == SESSIONS

    def test_pruning_ends_as_if_it_had_run_once(self):
        kills = 0
        command = ("prune_agent_sessions", "--keep-latest", "1")
        for _ in self.kill_until_done(*command):
            kills += 1
            sessions = AgentSession.objects.count()
            assert SessionItem.objects.count() == sessions * ITEMS
        assert kills >= 2
        kept = set(AgentSession.objects.values_list("session_id", flat=True))
        assert kept == {f"{user}-{SESSIONS - 1}" for user in ("ann", "bob")}
        assert list(store.check_sessions()) == []

    def test_a_transfer_is_whole_or_not_there(self):
        kills = 0
        command = ("transfer_agent_sessions", "--user=ann", "--to=bob", "--no-input")
        for _ in self.kill_until_done(*command):
            kills += 1
            assert self.left(self.ann)[0] == self.left(self.bob)[0] == SESSIONS
            assert AgentUser.objects.count() == 2
            assert not SessionAccess.objects.filter(action="transferred").exists()
        assert kills >= 2
        assert self.left(self.bob)[0] == 2 * SESSIONS
        moved = SessionAccess.objects.filter(action="transferred")
        assert moved.count() == SESSIONS
        assert AgentUser.objects.get().user == self.bob


class RefusedTests(InterruptionTestCase):
    commands = (
        ("erase_agent_user", "--user", "ann", "--no-input", "--by", "me"),
        ("prune_agent_sessions", "--older-than", "0"),
        ("transfer_agent_sessions", "--user", "ann", "--to", "bob", "--no-input"),
    )

    def refuse(self, *commands: tuple[str, ...], **environment: str) -> list[str]:
        """Return what the commands say, each of which has to fail."""
        said = []
        for command in commands or self.commands:
            code = "import sys; from django.core.management import "
            code += "execute_from_command_line as f; f(['manage.py', *sys.argv[1:]])"
            process = start(code, *command, **environment)
            output, errors = process.communicate(timeout=60)
            assert process.returncode == 1, (command, errors)
            assert "Traceback" not in errors and output == "", errors
            assert errors.startswith("CommandError: "), errors
            words = ("run it again", "Not transferred", "no such user")
            assert any(word in errors for word in words), errors
            said.append(errors)
        return said

    def assert_nothing_is_lost(self):
        for user in (self.ann, self.bob):
            count, items = self.left(user)
            assert (count, items.count()) == (SESSIONS, SESSIONS * ITEMS)
        assert AgentUser.objects.count() == 2
        assert SessionAccess.objects.exclude(user=None).count() == 2 * SESSIONS

    def test_without_the_right_to_delete(self):
        with _reader() as environment:
            for said in self.refuse(**environment):
                assert any(
                    word in said
                    for word in ("permission denied", "denied to user", "readonly")
                ), said
        self.assert_nothing_is_lost()

    def test_without_a_database(self):
        with tempfile.TemporaryDirectory() as folder:
            broken = Path(folder) / "broken.sqlite3"
            broken.write_bytes(b"no database at all" * 1000)
            name = {"DATABASE_NAME": str(broken)} if _is_sqlite() else {}
            nowhere = {"PGPORT": "1", "MYSQL_PORT": "1"}
            for said in self.refuse(**name, **nowhere):
                assert len(said.splitlines()) == 1
        self.assert_nothing_is_lost()

    def test_without_tables(self):
        # Another database of the server, in which nobody has migrated.
        empty = {"sqlite": ":memory:", "postgresql": "template1", "mysql": "mysql"}
        for said in self.refuse(DATABASE_NAME=empty[connection.vendor]):
            assert "exist" in said or "no such table" in said, said


def _is_sqlite() -> bool:
    return connection.vendor == "sqlite"


@contextmanager
def _reader() -> Iterator[dict[str, str]]:
    """Give the environment of somebody who may read everything and write nothing."""
    name = str(connection.settings_dict["NAME"])
    if _is_sqlite():
        yield {"DATABASE_NAME": f"file:{name}?mode=ro"}
        return
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("CREATE ROLE agent_reader LOGIN PASSWORD 'reader'")
            drop = ["DROP OWNED BY agent_reader", "DROP ROLE agent_reader"]
            cursor.execute(
                "GRANT SELECT ON ALL TABLES IN SCHEMA public TO agent_reader"
            )
            environment = {"PGUSER": "agent_reader", "PGPASSWORD": "reader"}
        else:
            cursor.execute("CREATE USER agent_reader@'%' IDENTIFIED BY 'reader'")
            drop = ["DROP USER agent_reader@'%'"]
            database = connection.ops.quote_name(name)
            cursor.execute(f"GRANT SELECT ON {database}.* TO agent_reader@'%'")
            environment = {"MYSQL_USER": "agent_reader", "MYSQL_PASSWORD": "reader"}
        try:
            yield environment
        finally:
            for statement in drop:
                cursor.execute(statement)
