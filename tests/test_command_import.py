from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from contextlib import closing
from io import StringIO
from unittest import mock

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import DataError, OperationalError, ProgrammingError
from django.test import TestCase, TransactionTestCase, override_settings

from agent_sessions import store
from agent_sessions.exceptions import InvalidSource
from agent_sessions.importers.opening import open_source
from agent_sessions.importers.sqlite import SQLiteSource
from agent_sessions.imports import import_sessions
from agent_sessions.models import AgentSession, SessionItem
from agent_sessions.outcomes import Kind
from agent_sessions.store import imports as store_imports
from tests.imports import ImportCase, snapshot
from tests.nasty import NASTY_ITEMS
from tests.processes import finish, start
from tests.sources import write_rows

User = get_user_model()


class IdTests(ImportCase, TestCase):
    BAD = ("", " a ", "n\0l", "x" * 300, "a\nb")

    def test_ids_that_cannot_be_kept_are_reported(self):
        write_rows(self.path, {name: ["{}"] for name in (*self.BAD, "good")})
        outcomes = self.outcomes()
        kinds = {it.session_id: it.kind for it in outcomes}
        assert kinds == {**dict.fromkeys(self.BAD, Kind.REFUSED), "good": "imported"}
        assert all(it.note for it in outcomes if it.is_failure)

    def test_or_get_others_and_the_original_is_kept(self):
        write_rows(self.path, {name: ["{}"] for name in self.BAD})
        assert "5 imported, 5 renamed" in self.run_import("--on-bad-id", "rename")
        notes = AgentSession.objects.values_list("metadata", flat=True)
        originals = {note["imported"]["session_id"] for note in notes}
        assert originals == {*self.BAD, '"n\\u0000l"'} - {"n\0l"}
        assert "5 already there" in self.run_import("--on-bad-id", "rename")

    def test_a_conflict_is_an_error_or_skipped_or_renamed(self):
        write_rows(self.path, {"a": ['{"role": "user"}'], "b": ["{}"]})
        store.append_items("a", [{"content": "secret, and here first"}])
        self.assert_fails(saying="1 imported, 1 conflict")
        assert "1 skipped" in self.run_import("--on-conflict", "skip")
        assert AgentSession.objects.count() == 2
        said = self.run_import("--on-conflict", "rename")
        assert "1 imported, 1 already there, 1 renamed" in said
        row = AgentSession.objects.get(session_id="a~1")
        assert row.metadata == {"imported": {"session_id": "a"}}
        before = snapshot()
        assert "2 already there" in self.run_import("--on-conflict", "rename")
        assert snapshot() == before

    def test_encrypted_items_of_a_renamed_session_are_warned_of(self):
        write_rows(self.path, {"a": [json.dumps(NASTY_ITEMS["encrypted envelope"])]})
        store.append_items("a", [{"content": "here first"}])
        said = self.run_import("--on-conflict", "rename")
        assert "can only be read under the old id" in said


class FaultTests(ImportCase, TestCase):
    def test_sources_that_are_none_are_explained(self):
        self.assert_fails(saying="No such file")
        self.assert_fails(source=self.path.parent, saying="Is a directory")
        self.path.write_text("secret")
        self.assert_fails(saying="neither an SQLite database nor an export")
        self.path.write_bytes(b"")
        self.assert_fails(saying="neither an SQLite database nor an export")
        self.path.write_bytes(b"SQLite format 3\0" + b"secret" * 1000)
        self.assert_fails(saying="The source cannot be read")
        self.path.unlink()
        sqlite3.connect(self.path).close()
        self.assert_fails("--format", "sqlite", saying="no table 'agent_sessions'")
        self.assert_fails("--format", "jsonl", saying="Line 1 is broken or was cut off")

    def test_a_name_that_no_file_can_have_is_explained(self):
        self.assert_fails(source="a" * 300, saying="File name too long")

    def test_tables_of_another_kind_are_explained(self):
        with closing(sqlite3.connect(self.path)) as file:
            file.execute("CREATE TABLE agent_sessions (x)")
            file.execute("CREATE TABLE agent_messages (y)")
        self.assert_fails(saying="no such column")

    def test_an_empty_source_is_no_success(self):
        write_rows(self.path, {})
        self.assert_fails(saying="There are no sessions in the source.")

    def test_a_locked_source_is_waited_for_but_not_for_ever(self):
        write_rows(self.path, {"a": ["{}"]})
        with (
            closing(sqlite3.connect(self.path)) as file,
            mock.patch("agent_sessions.importers.sqlite._TIMEOUT", 0.05),
        ):
            file.execute("PRAGMA journal_mode = DELETE")
            file.execute("BEGIN EXCLUSIVE")
            self.assert_fails(saying="database is locked")
            file.execute("ROLLBACK")
            self.run_import()

    def test_a_source_that_breaks_in_the_middle_loses_nothing_before(self):
        write_rows(self.path, {str(n): ["{}"] for n in range(5)})

        class Broken(SQLiteSource):
            def sessions(self):
                yield from list(super().sessions())[:3]
                raise InvalidSource("The disk is gone.")

        with self.assertRaises(InvalidSource):
            list(import_sessions(Broken(self.path)))
        assert AgentSession.objects.count() == 3

    def test_a_full_disk_is_said_and_nothing_half_stays(self):
        write_rows(self.path, {"a": ['{"content": "secret"}']})
        full = OperationalError("database or disk is full")
        with mock.patch.object(store_imports, "insert_placed", side_effect=full):
            self.assert_fails(saying="The database failed: database or disk is full.")
        assert not AgentSession.objects.exists()

    def test_rights_that_are_missing_are_named(self):
        write_rows(self.path, {"a": ['{"content": "secret"}']})
        refused = ProgrammingError("permission denied for table x\nHINT: secret")
        with mock.patch.object(store_imports, "insert_placed", side_effect=refused):
            self.assert_fails(
                saying="The database failed: permission denied for table x."
            )
        assert not AgentSession.objects.exists()

    def test_what_a_database_says_of_values_is_not_repeated(self):
        write_rows(self.path, {"a": ['{"content": "secret"}']})
        odd = DataError("value secret is too long")
        with mock.patch.object(store_imports, "insert_placed", side_effect=odd):
            self.assert_fails(saying="The database failed: DataError.")

    def test_what_is_stored_otherwise_than_it_was_read_is_reported(self):
        write_rows(self.path, {"a": ['{"content": "secret"}'] * 3})
        insert = store_imports.insert_placed

        def lose_one(items, *, using):
            insert(list(items)[:-1], using=using)

        with mock.patch.object(store_imports, "insert_placed", lose_one):
            self.assert_fails(saying="1 different")

    def test_wrong_arguments_are_explained(self):
        write_rows(self.path, {"a": ["{}"]})
        for arguments in (
            ("--database", "nowhere"),
            ("--batch-size", "0"),
            ("--batch-size", "x"),
            ("--on-conflict", "x"),
            ("--format", "x"),
        ):
            with self.subTest(arguments):
                self.assert_fails(*arguments)
        assert not AgentSession.objects.exists()

    def test_an_item_that_the_database_does_not_take_is_refused(self):
        write_rows(self.path, {"a": ['{"content": "secret"}'], "b": ["{}"]})
        limits = {
            "agent_sessions.store.batches._SAFE_BYTES": 1040,
            "agent_sessions.store.batches._MAX_BYTES": 1040,
        }
        for name, value in limits.items():
            self.enterContext(mock.patch(name, value))
        self.assert_fails(saying="1 imported, 1 refused")
        assert AgentSession.objects.get().session_id == "b"

    def test_too_much_metadata_is_refused(self):
        write_rows(self.path, {"x" * 300: ["{}"]})
        with override_settings(AGENT_SESSIONS_METADATA_MAX_BYTES=100):
            self.assert_fails("--on-bad-id", "rename", saying="1 refused")

    @override_settings(USE_TZ=False)
    def test_a_project_without_time_zones_keeps_local_times(self):
        write_rows(self.path, {"a": [("{}", "2025-01-02 03:04:05")]})
        with self.settings(TIME_ZONE="Asia/Tokyo"):
            self.run_import()
            assert SessionItem.objects.get().created_at.hour == 12
            assert "1 already there" in self.run_import()

    @override_settings(USE_TZ=False)
    def test_an_hour_that_comes_twice_is_no_difference(self):
        times = ("2025-10-26 00:30:00", "2025-10-26 01:30:00")
        write_rows(self.path, {"a": [("{}", time) for time in times]})
        with self.settings(TIME_ZONE="Europe/Berlin"):
            assert "1 imported" in self.run_import()
            assert "1 already there" in self.run_import()

    def test_times_that_no_database_keeps_are_as_unknown(self):
        write_rows(self.path, {"a": [("{}", "0001-01-01T00:00:00+23:59")]})
        assert "1 imported" in self.run_import()
        row = SessionItem.objects.get()
        assert row.created_at == row.session.created_at

    def test_and_a_second_run_finds_them_again(self):
        write_rows(self.path, {"a": ["{}"]})
        with closing(sqlite3.connect(self.path)) as file:
            file.execute(
                "UPDATE agent_sessions SET created_at = '9999-12-31T23:59:59-23:59'"
            )
            file.commit()
        assert "1 imported" in self.run_import()
        assert "1 already there" in self.run_import()


class ProgressTests(ImportCase, TestCase):
    def test_a_terminal_shows_how_far_it_is(self):
        write_rows(self.path, {"a": ["{}"] * 1500, "b": ["{}"]})
        terminal = StringIO()
        terminal.isatty = lambda: True
        call_command("import_agent_sessions", str(self.path), stderr=terminal)
        shown = [line.strip() for line in terminal.getvalue().split("\r")]
        assert "1 session(s), 1000 item(s) read" in shown
        assert shown[-1] == ""

    def test_a_file_gets_the_summary_alone(self):
        write_rows(self.path, {"a": ["{}"]})
        errors = StringIO()
        call_command("import_agent_sessions", str(self.path), stderr=errors)
        assert errors.getvalue() == ""

    def test_more_sessions_than_a_statement_takes_come_in_parts(self):
        write_rows(self.path, {f"s{number}": [] for number in range(1100)})
        assert "1100 imported" in self.run_import("--batch-size", "100000")
        assert "1100 already there" in self.run_import("--batch-size", "100000")


class RaceTests(ImportCase, TestCase):
    def test_a_session_that_comes_meanwhile_does_not_end_the_others(self):
        write_rows(self.path, {"a": ["{}"], "b": ["{}"]})
        find = store.find_taken
        raced = []

        def race(names, keys, **options):
            found = find(names, keys, **options)
            if not raced:
                raced.append(store.append_items("a", [{"content": "first"}]))
            return found

        with mock.patch.object(store, "find_taken", race):
            self.assert_fails(saying="1 imported, 1 conflict")
        assert store.read_items("a") == [{"content": "first"}]

    def test_a_user_who_is_deleted_meanwhile_ends_only_their_sessions(self):
        write_rows(self.path, {"a": ["{}"], "b": ["{}"]})
        ann = User.objects.create(username="ann")
        key = ann.pk

        def rule(session):
            return ann if session.session_id == "a" else None

        outcomes = import_sessions(open_source(str(self.path)), map_user=rule)
        insert = store.insert_sessions

        def delete_first(*arguments, **options):
            User.objects.filter(pk=key).delete()
            insert(*arguments, **options)

        with mock.patch.object(store, "insert_sessions", delete_first):
            kinds = {it.session_id: (it.kind, it.note) for it in outcomes}
        assert kinds["a"] == (Kind.REFUSED, "The user is not in the database.")
        assert kinds["b"][0] == Kind.IMPORTED

    def test_a_session_that_goes_on_meanwhile_is_no_difference(self):
        write_rows(self.path, {"a": ["{}"]})
        read = store.read_stored

        def race(keys, **options):
            if len(read_before) == 0:
                read_before.append(store.append_items("a", [{"content": "new"}]))
            return read(keys, **options)

        read_before = []
        with mock.patch.object(store, "read_stored", race):
            assert "1 imported" in self.run_import()


class KillTests(ImportCase, TransactionTestCase):
    CODE = (
        "import sys; from django.core.management import call_command;"
        "call_command('import_agent_sessions', *sys.argv[1:])"
    )

    def test_after_a_kill_the_same_command_ends_as_if_it_had_run_once(self):
        texts = [json.dumps({"role": "user", "content": str(n)}) for n in range(40)]
        write_rows(self.path, {f"s{n}": texts for n in range(150)})
        arguments = (str(self.path), "--batch-size", "40")
        for wanted in (1, 40, 90):
            process = start(self.CODE, *arguments)
            while AgentSession.objects.count() < wanted:
                assert process.poll() is None, process.communicate()
                time.sleep(0.005)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                stream.close()
            for row in AgentSession.objects.all():
                assert row.items.count() == row.item_count == 40
        assert AgentSession.objects.count() < 150
        self.run_import("--batch-size", "40")
        assert AgentSession.objects.count() == 150
        for row in AgentSession.objects.all():
            assert [it["content"] for it in store.read_items(row)] == [
                str(n) for n in range(40)
            ]
        before = snapshot()
        assert "150 already there" in self.run_import()
        assert snapshot() == before

    def test_imports_of_one_source_at_once_end_as_one(self):
        texts = [json.dumps({"role": "user", "content": str(n)}) for n in range(20)]
        write_rows(self.path, {f"s{n}": texts for n in range(300)})
        arguments = (str(self.path), "--batch-size", "100")
        for process in [start(self.CODE, *arguments) for _ in range(3)]:
            finish(process)
        counts = AgentSession.objects.values_list("item_count", flat=True)
        assert [*counts] == [20] * 300
        assert SessionItem.objects.count() == 6000

    def test_a_file_that_another_process_keeps_writing_is_caught_up_with(self):
        for mode in ("WAL", "DELETE"):
            with self.subTest(mode):
                path = self.path.with_name(f"{mode}.db")
                write_rows(path, {mode: ["{}"]}, mode=mode)
                writer = start(
                    "import sqlite3, sys\n"
                    "file = sqlite3.connect(sys.argv[1])\n"
                    "for number in range(300):\n"
                    "    file.execute('INSERT INTO agent_messages (session_id,"
                    " message_data) VALUES (?, ?)', (sys.argv[2], '{}'))\n"
                    "    file.commit()\n",
                    str(path),
                    mode,
                )
                while writer.poll() is None:
                    self.run_import(source=path)
                _, errors = writer.communicate()
                assert not errors
                self.run_import(source=path)
                assert AgentSession.objects.get(session_id=mode).item_count == 301
