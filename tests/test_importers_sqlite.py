from __future__ import annotations

import json
import sqlite3
import tempfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

from agents import Agent, Runner, SQLiteSession
from agents.extensions.memory import AsyncSQLiteSession
from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model
from django.test import SimpleTestCase, TestCase

from agent_sessions import DjangoSession, store
from agent_sessions.importers.opening import open_source
from agent_sessions.models import AgentSession, SessionItem
from tests.fakes import RUN_CONFIG, FakeModel, say
from tests.imports import ImportCase, snapshot
from tests.nasty import NASTY_ITEMS
from tests.sources import write_rows, write_sqlite

User = get_user_model()


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
        self.assert_fails(saying="The source has no table 'agent_sessions'.")
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
        self.assert_fails(saying="1 conflict")
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
