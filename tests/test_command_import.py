from __future__ import annotations

import json
import os
import signal
import sqlite3
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from unittest import mock

from agents import Agent, Runner, SQLiteSession
from agents.extensions.memory import AsyncSQLiteSession
from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import DataError, OperationalError
from django.test import SimpleTestCase, TestCase, TransactionTestCase, override_settings

from agent_sessions import DjangoSession, store
from agent_sessions.exceptions import InvalidSource
from agent_sessions.importers.opening import open_source
from agent_sessions.importers.owners import parse_owner_rule
from agent_sessions.importers.sqlite import SQLiteSource
from agent_sessions.imports import import_sessions
from agent_sessions.models import AgentSession, SessionItem
from agent_sessions.outcomes import Kind
from agent_sessions.store import imports as store_imports
from tests.fakes import RUN_CONFIG, FakeModel, say
from tests.nasty import NASTY_ITEMS
from tests.processes import start
from tests.sources import write_rows, write_sqlite

User = get_user_model()


def owner_by_suffix(session):
    return User.objects.filter(username=session.session_id.rpartition("-")[2]).first()


class ImportCase:
    def setUp(self):
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self.path = Path(folder) / "source.db"

    def run_import(self, *arguments, source=None):
        output = StringIO()
        call_command(
            "import_agent_sessions",
            str(source or self.path),
            *arguments,
            stdout=output,
            stderr=StringIO(),
        )
        return output.getvalue()

    def fail(self, *arguments, source=None, saying=""):
        with self.assertRaisesMessage(CommandError, saying) as caught:
            self.run_import(*arguments, source=source)
        assert "secret" not in str(caught.exception)
        return str(caught.exception)

    def outcomes(self, **options):
        return list(import_sessions(open_source(str(self.path)), **options))


def snapshot():
    return (
        list(AgentSession.objects.order_by("session_id").values()),
        list(SessionItem.objects.order_by("session_id", "position").values()),
    )


class SQLiteTests(ImportCase, TestCase):
    def test_a_conversation_comes_over_item_by_item_and_goes_on(self):
        expected = write_sqlite(self.path, "a", "b")
        output = self.run_import()
        assert output == (
            "Sessions: 2 imported, 2 without an owner. Items written: 18.\n"
        )
        for session_id, items in expected.items():
            session = DjangoSession(session_id)
            assert async_to_sync(session.get_items)() == items
        model = FakeModel([say("Ja.")])
        agent = Agent(name="a", model=model)
        async_to_sync(Runner.run)(
            agent, "Noch da?", session=session, run_config=RUN_CONFIG
        )
        assert model.inputs[0][:-1] == expected["b"]
        assert len(async_to_sync(session.get_items)()) == 11

    def test_rows_are_what_the_stores_own_append_would_have_made(self):
        items = write_sqlite(self.path, "a")["a"]
        store.append_items("ours", items)
        self.run_import()
        columns = ("item_count", "turn_count", "next_position", "next_turn", "preview")
        rows = {row["session_id"]: row for row in AgentSession.objects.values()}
        for name in columns:
            assert rows["a"][name] == rows["ours"][name], name
        pairs = zip(
            SessionItem.objects.filter(session__session_id="a").in_order(),
            SessionItem.objects.filter(session__session_id="ours").in_order(),
            strict=True,
        )
        for mine, ours in pairs:
            for name in ("position", "turn", "type", "role"):
                assert getattr(mine, name) == getattr(ours, name)
            assert store.read_raw(mine) == store.read_raw(ours)

    def test_times_are_the_sources(self):
        write_rows(
            self.path,
            {"a": [("{}", "2025-01-02 03:04:06"), ("{}", "2025-01-02 03:04:07")]},
            created_at="2025-01-02 03:04:05",
            updated_at="2025-02-03 04:05:06",
        )
        self.run_import()
        row = AgentSession.objects.get()
        assert row.created_at == datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
        assert row.updated_at == datetime(2025, 2, 3, 4, 5, 6, tzinfo=UTC)
        times = row.items.in_order().values_list("created_at", flat=True)
        assert [time.second for time in times] == [6, 7]

    def test_nasty_items_come_over_to_the_letter(self):
        session = SQLiteSession("a", self.path)
        items = list(NASTY_ITEMS.values())
        async_to_sync(session.add_items)(items)
        session.close()
        assert "1 encrypted" in self.run_import()
        assert repr(store.read_items("a")) == repr(items)

    def test_what_is_broken_stays_broken_and_is_counted(self):
        texts = [
            '{"role": "user", "content": "one"}',
            '{"secret',
            "[1]",
            '{"type": "number", "value": NaN}',
            "nul \0 and half \x00",
        ]
        write_rows(self.path, {"a": texts})
        with closing(sqlite3.connect(self.path)) as file:
            file.execute(
                "INSERT INTO agent_messages (session_id, message_data)"
                " VALUES ('a', CAST(x'ff7b' AS TEXT))"
            )
            file.commit()
        assert "6 (4 broken)" in self.run_import()
        one, number = store.read_items("a")
        assert one["content"] == "one" and number["value"] != number["value"]
        assert AgentSession.objects.get().item_count == 6
        assert "already there" in self.run_import()

    def test_sessions_without_a_row_of_their_own_come_along(self):
        write_rows(self.path, {"a": ["{}"], "b": ["{}"]})
        with closing(sqlite3.connect(self.path)) as file:
            file.execute("DELETE FROM agent_sessions WHERE session_id = 'a'")
            file.commit()
        self.run_import()
        assert set(AgentSession.objects.values_list("session_id", "item_count")) == {
            ("a", 1),
            ("b", 1),
        }

    def test_an_async_sqlite_session_comes_over(self):
        async def write():
            session = AsyncSQLiteSession("a", self.path)
            await session.add_items([{"role": "user", "content": "hello"}])
            await session.close()

        async_to_sync(write)()
        self.run_import()
        assert store.read_items("a") == [{"role": "user", "content": "hello"}]

    def test_custom_tables_are_named(self):
        tables = {"sessions_table": "mine", "messages_table": "my_items"}
        write_sqlite(self.path, "a", **tables)
        self.fail(saying="The source has no table 'agent_sessions'.")
        self.run_import("--sessions-table", "mine", "--messages-table", "MY_ITEMS")
        assert AgentSession.objects.get().item_count == 9

    def test_a_second_run_changes_nothing(self):
        write_sqlite(self.path, "a", "b")
        self.run_import()
        before = snapshot()
        assert self.run_import() == "Sessions: 2 already there. Items written: 0.\n"
        assert snapshot() == before

    def test_the_source_is_not_written_to(self):
        write_sqlite(self.path, "a")
        before = self.path.read_bytes(), self.path.stat().st_mtime_ns
        self.run_import()
        assert (self.path.read_bytes(), self.path.stat().st_mtime_ns) == before

    def test_a_session_that_went_on_here_is_left_alone(self):
        write_sqlite(self.path, "a")
        self.run_import()
        store.append_items("a", [{"role": "user", "content": "here"}])
        before = snapshot()
        assert "1 already there" in self.run_import()
        assert snapshot() == before

    def test_a_session_that_went_on_there_is_caught_up_with(self):
        write_sqlite(self.path, "a")
        self.run_import()
        session = SQLiteSession("a", self.path)
        async_to_sync(session.add_items)([{"role": "user", "content": "there"}])
        items = async_to_sync(session.get_items)()
        session.close()
        assert "1 continued" in self.run_import("--dry-run")
        assert SessionItem.objects.count() == 9
        assert "1 continued. Items written: 1." in self.run_import()
        assert store.read_items("a") == items
        row = AgentSession.objects.get()
        assert (row.item_count, row.turn_count, row.next_position) == (10, 3, 10)
        assert row.items.get(position=9).turn == 3
        assert "1 already there" in self.run_import()

    def test_a_session_that_went_on_in_both_places_is_a_conflict(self):
        write_sqlite(self.path, "a")
        self.run_import()
        store.append_items("a", [{"role": "user", "content": "here"}])
        session = SQLiteSession("a", self.path)
        async_to_sync(session.add_items)([{"role": "user", "content": "there"}])
        session.close()
        before = snapshot()
        self.fail(saying="1 conflict")
        assert snapshot() == before

    def test_a_dry_run_writes_nothing_and_says_the_same(self):
        write_sqlite(self.path, "a")
        said = self.run_import("--dry-run")
        assert not AgentSession.objects.exists()
        assert said == f"Nothing was written. {self.run_import()}"

    def test_long_and_heavy_sessions_come_in_parts(self):
        long = [json.dumps({"role": "user", "content": str(n)}) for n in range(2500)]
        heavy = [json.dumps({"content": "x" * 3_000_000})] * 3
        write_rows(self.path, {"long": long, "heavy": heavy, "empty": []})
        self.run_import("--batch-size", "100")
        counts = dict(AgentSession.objects.values_list("session_id", "item_count"))
        assert counts == {"long": 2500, "heavy": 3, "empty": 0}
        assert [item["content"] for item in store.read_items("long")] == [
            str(n) for n in range(2500)
        ]
        row = AgentSession.objects.get(session_id="long")
        assert (row.turn_count, row.next_turn, row.preview) == (2500, 2501, "0")
        assert "3 already there" in self.run_import("--batch-size", "7")


class OwnerTests(ImportCase, TestCase):
    def setUp(self):
        super().setUp()
        self.ann = User.objects.create(username="ann", email="ann@example.com")
        self.id = f"user-{self.ann.pk}-ann"
        write_sqlite(self.path, self.id, "visitor")

    def owners(self):
        return dict(AgentSession.objects.values_list("session_id", "user_id"))

    def test_a_pattern_finds_owners(self):
        self.run_import("--map-user", r"pattern:user-(?P<user>\d+)-")
        assert self.owners() == {self.id: self.ann.pk, "visitor": None}
        row = AgentSession.objects.for_user(self.ann).get()
        assert row.owned_at == row.created_at
        self.run_import("--map-user", r"pattern:user-(?P<user>\d+)-")

    def test_a_csv_finds_owners_by_any_field(self):
        csv = self.path.with_suffix(".csv")
        csv.write_text(f"\ufeffsession_id,user\n{self.id},ann@example.com\n")
        self.run_import("--map-user", f"csv:{csv}", "--user-field", "email")
        assert self.owners() == {self.id: self.ann.pk, "visitor": None}

    def test_a_function_finds_owners(self):
        self.run_import("--map-user", f"call:{__name__}.owner_by_suffix")
        assert self.owners() == {self.id: self.ann.pk, "visitor": None}

    def test_an_unknown_user_is_named_and_their_session_stays_out(self):
        said = StringIO()
        with self.assertRaisesMessage(CommandError, "1 refused"):
            call_command(
                "import_agent_sessions",
                str(self.path),
                "--map-user",
                "pattern:user-.*-(?P<user>.*)",
                "--user-field",
                "email",
                stdout=said,
            )
        assert f"{self.id!r}: refused; No user has the email 'ann'." in said.getvalue()
        assert self.owners() == {"visitor": None}

    def test_a_field_that_several_share_names_nobody(self):
        User.objects.create(username="other", email="ann@example.com")
        rule = lambda session: "ann@example.com"  # noqa: E731
        kinds = {it.note for it in self.outcomes(map_user=rule, user_field="email")}
        assert kinds == {"More than one user has the email 'ann@example.com'."}

    def test_anothers_session_is_a_conflict(self):
        store.create_session(None, session_id=self.id)
        self.fail("--map-user", r"pattern:user-(?P<user>\d+)-", saying="1 conflict")
        self.fail(saying="1 conflict")

    def test_wrong_rules_are_explained(self):
        csv = self.path.with_suffix(".csv")
        for rule, saying in (
            ("ann", "is none of csv:FILE"),
            ("pattern:(", "is not a regular expression"),
            ("pattern:x", "has no group"),
            ("call:no.such", "No module named"),
            ("call:tests.test_command_import.RUN_CONFIG", "cannot be called"),
            (f"csv:{csv}", "The owners cannot be read"),
        ):
            with self.subTest(rule):
                self.fail("--map-user", rule, saying=saying)
        csv.write_text("id,owner\n")
        self.fail("--map-user", f"csv:{csv}", saying="the columns are session_id and")
        csv.write_text("session_id,user\na,1\na,2\n")
        self.fail("--map-user", f"csv:{csv}", saying="line 3: the session has two")
        csv.write_bytes(b"session_id,user\n\xff,1\n")
        self.fail("--map-user", f"csv:{csv}", saying="not a CSV file in UTF-8")
        self.fail("--user-field", "shoe_size", saying="Users have no field")
        assert not AgentSession.objects.exists()

    def test_metadata_of_the_source_can_name_the_owner(self):
        rule = parse_owner_rule("metadata:who")
        session = mock.Mock(metadata={"who": "ann"})
        assert rule(session) == "ann"
        assert rule(mock.Mock(metadata={})) is None


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
        self.fail(saying="1 imported, 1 conflict")
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


class JSONLinesTests(ImportCase, TestCase):
    databases = {"default", "other"}

    def setUp(self):
        super().setUp()
        self.ann = User.objects.create(username="ann")
        owned = store.create_session(
            self.ann, session_id="owned", title="Zoë", metadata={"a": [1e16, "é"]}
        )
        store.append_items(owned, list(NASTY_ITEMS.values()))
        store.pop_item(owned)
        store.replace_tail(owned, [17, 18], [{"role": "user", "content": "sum"}])
        store.update_session(owned, archived=True)
        row = store.create_session(None, session_id="visitor")
        store.append_items(row, [{"role": "user", "content": "x"}] * 3)
        row.items.filter(position=1).update(data='{"broken')
        store.create_session(self.ann, session_id="orphan")
        AgentSession.objects.filter(session_id="orphan").update(user=None)

    def export(self, name="first", *arguments):
        path = self.path.with_name(f"{name}.jsonl")
        call_command(
            "export_agent_sessions",
            "--output",
            str(path),
            *arguments,
            stderr=StringIO(),
        )
        return path

    def test_export_import_export_gives_the_same_bytes(self):
        path = self.export()
        AgentSession.objects.all().delete()
        assert "3 imported" in self.run_import(source=path)
        assert self.export("second").read_bytes() == path.read_bytes()
        assert "3 already there" in self.run_import(source=path)
        assert self.export("third").read_bytes() == path.read_bytes()

    def test_another_database_gets_the_same(self):
        path = self.export()
        User.objects.using("other").create(pk=self.ann.pk, username="ann")
        self.run_import("--database", "other", source=path)
        other = self.export("other", "--database", "other")
        assert other.read_bytes() == path.read_bytes()

    def test_owners_are_found_by_their_user_name(self):
        path = self.export()
        AgentSession.objects.all().delete()
        self.ann.delete()
        ann = User.objects.create(username="ann")
        self.run_import(source=path)
        assert AgentSession.objects.for_user(ann).get().session_id == "owned"
        assert AgentSession.objects.orphaned().get().session_id == "orphan"

    def test_a_session_of_somebody_unknown_stays_out(self):
        path = self.export()
        AgentSession.objects.all().delete()
        self.ann.delete()
        self.fail(source=path, saying="2 imported, 1 refused")
        assert not AgentSession.objects.filter(session_id="owned").exists()

    def test_a_copy_has_keys_of_its_own(self):
        path = self.export()
        store.append_items("visitor", [{"content": "here"}])
        AgentSession.objects.filter(session_id="visitor").update(
            created_at=datetime.now(UTC)
        )
        assert "1 renamed" in self.run_import("--on-conflict", "rename", source=path)
        copy = AgentSession.objects.get(session_id="visitor~1")
        assert copy.item_count == 3
        assert "3 already there" in self.run_import(
            "--on-conflict", "rename", source=path
        )

    def test_what_was_cut_off_stays_out(self):
        lines = self.export().read_bytes().splitlines(keepends=True)
        AgentSession.objects.all().delete()
        self.path.write_bytes(b"".join(lines[:10]) + lines[10][:-5])
        self.fail(saying="1 refused")
        self.path.write_bytes(b"".join(lines[:10]))
        self.fail(saying="1 refused")
        assert not AgentSession.objects.exists()

    def test_what_we_never_wrote_is_refused_by_line(self):
        lines = self.export().read_text().splitlines()
        AgentSession.objects.all().delete()
        header, session, item = lines[0], lines[1], lines[2]

        def change(line, kind, **values):
            return json.dumps({kind: {**json.loads(line)[kind], **values}})

        for broken in (
            "secret",
            '{"secret": 1}',
            '{"session": []}',
            change(session, "session", id="secret"),
            change(session, "session", item_count=-1),
            change(session, "session", item_count=True),
            change(session, "session", created_at=None),
            change(session, "session", metadata=["secret"]),
            change(session, "session", preview="secret" * 100),
        ):
            with self.subTest(broken[:60]):
                self.path.write_text(f"{header}\n{broken}\n{item}\n")
                self.fail(saying="Line 2 ")
        for broken in (
            change(item, "item", position="secret"),
            change(item, "item", position=2**31),
            change(item, "item", type="secret" * 20),
            change(item, "item", data=["secret"]),
            change(item, "item", data="secret\0"),
            change(item, "item", created_at="secret"),
            '{"item": 1}',
        ):
            with self.subTest(broken[:60]):
                text = broken.replace('{"item": ', '{"item":', 1)
                self.path.write_text(f"{header}\n{session}\n{text}\n")
                self.fail(saying="1 refused")
        assert not AgentSession.objects.exists()

    def test_other_files_are_not_taken_for_exports(self):
        self.path.write_text('{"format": "agent_sessions", "version": 99}\n')
        self.fail(saying="has version 99")
        self.path.write_text('{"role": "user", "content": "secret"}\n')
        self.fail(saying="not an export")


class FaultTests(ImportCase, TestCase):
    def test_sources_that_are_none_are_explained(self):
        self.fail(saying="No such file")
        self.fail(source=self.path.parent, saying="Is a directory")
        self.path.write_text("secret")
        self.fail(saying="neither an SQLite database nor an export")
        self.path.write_bytes(b"")
        self.fail(saying="neither an SQLite database nor an export")
        self.path.write_bytes(b"SQLite format 3\0" + b"secret" * 1000)
        self.fail(saying="The source cannot be read")
        self.path.unlink()
        sqlite3.connect(self.path).close()
        self.fail("--format", "sqlite", saying="no table 'agent_sessions'")
        self.fail("--format", "jsonl", saying="Line 1 is broken or was cut off")

    def test_tables_of_another_kind_are_explained(self):
        with closing(sqlite3.connect(self.path)) as file:
            file.execute("CREATE TABLE agent_sessions (x)")
            file.execute("CREATE TABLE agent_messages (y)")
        self.fail(saying="no such column")

    def test_an_empty_source_is_no_success(self):
        write_rows(self.path, {})
        self.fail(saying="There are no sessions in the source.")

    def test_a_locked_source_is_waited_for_but_not_for_ever(self):
        write_rows(self.path, {"a": ["{}"]})
        with (
            closing(sqlite3.connect(self.path)) as file,
            mock.patch("agent_sessions.importers.sqlite._TIMEOUT", 0.05),
        ):
            file.execute("PRAGMA journal_mode = DELETE")
            file.execute("BEGIN EXCLUSIVE")
            self.fail(saying="database is locked")
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
            self.fail(saying="The database failed: database or disk is full.")
        assert not AgentSession.objects.exists()

    def test_what_a_database_says_of_values_is_not_repeated(self):
        write_rows(self.path, {"a": ['{"content": "secret"}']})
        odd = DataError("value secret is too long")
        with mock.patch.object(store_imports, "insert_placed", side_effect=odd):
            self.fail(saying="The database failed: DataError.")

    def test_what_is_stored_otherwise_than_it_was_read_is_reported(self):
        write_rows(self.path, {"a": ['{"content": "secret"}'] * 3})
        insert = store_imports.insert_placed

        def lose_one(items, *, using):
            insert(list(items)[:-1], using=using)

        with mock.patch.object(store_imports, "insert_placed", lose_one):
            self.fail(saying="1 different")

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
                self.fail(*arguments)
        assert not AgentSession.objects.exists()

    def test_an_item_that_the_database_does_not_take_is_refused(self):
        write_rows(self.path, {"a": ['{"content": "secret"}'], "b": ["{}"]})
        limits = {
            "agent_sessions.store.batches._SAFE_BYTES": 1040,
            "agent_sessions.store.batches._MAX_BYTES": 1040,
        }
        for name, value in limits.items():
            self.enterContext(mock.patch(name, value))
        self.fail(saying="1 refused, 1 imported")
        assert AgentSession.objects.get().session_id == "b"

    def test_too_much_metadata_is_refused(self):
        write_rows(self.path, {"x" * 300: ["{}"]})
        with override_settings(AGENT_SESSIONS_METADATA_MAX_BYTES=100):
            self.fail("--on-bad-id", "rename", saying="1 refused")

    @override_settings(USE_TZ=False)
    def test_a_project_without_time_zones_keeps_local_times(self):
        write_rows(self.path, {"a": [("{}", "2025-01-02 03:04:05")]})
        with self.settings(TIME_ZONE="Asia/Tokyo"):
            self.run_import()
            assert SessionItem.objects.get().created_at.hour == 12
            assert "1 already there" in self.run_import()


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
            self.fail(saying="1 imported, 1 conflict")
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


class OpeningTests(SimpleTestCase):
    def test_a_wal_file_in_a_folder_that_cannot_be_written_is_read(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "source.db"
            write_rows(path, {"a": ["{}"]}, mode="WAL")
            connect = sqlite3.connect

            def refuse(name, **options):
                if "immutable" not in name:
                    error = sqlite3.OperationalError("unable to open database file")
                    error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
                    raise error
                return connect(name, **options)

            with mock.patch("sqlite3.connect", refuse):
                source = open_source(str(path))
            assert [it.session_id for it in source.sessions()] == ["a"]
