from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import date
from io import StringIO
from unittest import mock

from agents.extensions.memory import AdvancedSQLiteSession
from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import TestCase

from agent_sessions import store
from agent_sessions.importers.opening import open_source
from agent_sessions.imports import import_sessions
from agent_sessions.models import AgentSession, TurnUsage
from agent_sessions.outcomes import Kind
from agent_sessions.usage import TokenUsage
from tests.imports import ImportCase, snapshot
from tests.sources import converse, write_sqlite

User = get_user_model()


class AdvancedTests(ImportCase, TestCase):
    def write(self):
        """Leave a session with three branches; return what each of them reads."""

        async def write():
            session = AdvancedSQLiteSession(
                session_id="1:a", db_path=self.path, create_tables=True
            )
            await converse(session)
            await session.create_branch_from_turn(2, "other")
            await session.add_items([{"role": "user", "content": "another way"}])
            await session.create_branch_from_turn(2, "third")
            await session.switch_to_branch("main")
            await session.add_items([{"role": "user", "content": "and on"}])
            branches = ("main", "other", "third")
            found = {name: await session.get_items(branch_id=name) for name in branches}
            session.close()
            return found

        return async_to_sync(write)()

    def test_branches_are_sessions_of_their_own(self):
        expected = self.write()
        ann = User.objects.create(pk=1, username="ann")
        rule = r"pattern:^(?P<user>\d+):a$"
        assert "3 imported" in self.run_import("--map-user", rule)
        for name, items in expected.items():
            session_id = "1:a" if name == "main" else f"1:a~{name}"
            assert store.read_items(session_id, user=ann) == items, name
        row = AgentSession.objects.get(session_id="1:a~other")
        notes = {"session_id": "1:a", "branch": "other"}
        assert row.metadata == {"imported": notes}
        assert AgentSession.objects.get(session_id="1:a").metadata == {}
        assert "3 already there" in self.run_import("--map-user", rule)

    def test_a_branch_that_went_on_is_caught_up_with(self):
        self.write()
        self.run_import()

        async def go_on():
            session = AdvancedSQLiteSession(session_id="1:a", db_path=self.path)
            await session.switch_to_branch("other")
            await session.add_items([{"role": "user", "content": "further"}])
            items = await session.get_items()
            session.close()
            return items

        items = async_to_sync(go_on)()
        assert "2 already there" in self.run_import()
        assert store.read_items("1:a~other") == items

    def test_sessions_of_the_plain_class_in_the_same_file_come_along(self):
        self.write()
        expected = write_sqlite(self.path, "plain")["plain"]
        assert "4 imported" in self.run_import()
        assert store.read_items("plain") == expected


USED_AT = "2025-03-01 23:59:59"


class Fixture(ImportCase):
    """A session of three turns, "b" from its second and "c" from the third of "b"."""

    def setUp(self):
        super().setUp()

        async def write():
            session = AdvancedSQLiteSession(
                session_id="s", db_path=self.path, create_tables=True
            )
            await session.add_items(ask("one", "two", "three"))
            await session.create_branch_from_turn(2, "b")
            await session.add_items(ask("zwei", "drei"))
            await session.create_branch_from_turn(3, "c")
            await session.add_items(ask("trois"))
            session.close()

        async_to_sync(write)()

    def execute(self, *statements):
        with closing(sqlite3.connect(self.path)) as file:
            for statement in statements:
                file.execute(statement)
            file.commit()

    def use(self, branch, turn, *counts, details=None, session="s"):
        requests, *tokens = counts
        with closing(sqlite3.connect(self.path)) as file:
            file.execute(
                "INSERT OR REPLACE INTO turn_usage (session_id, branch_id,"
                " user_turn_number, requests, input_tokens, output_tokens,"
                " total_tokens, input_tokens_details, output_tokens_details,"
                " created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [session, branch, turn, requests, *tokens, details, details, USED_AT],
            )
            file.commit()

    def row(self, session_id):
        return AgentSession.objects.get(session_id=session_id)

    def origins(self):
        names = dict(AgentSession.objects.values_list("pk", "session_id"))
        rows = AgentSession.objects.exclude(session_id="s")
        return {it.session_id: names.get(it.forked_from) for it in rows}


def ask(*words):
    return [{"role": "user", "content": it} for it in words]


def everything():
    return snapshot(), list(TurnUsage.objects.order_by("session", "turn").values())


class LineageTests(Fixture, TestCase):
    def test_a_branch_is_a_fork_of_where_the_last_shared_item_was_said(self):
        self.run_import()
        assert self.origins() == {"s~b": "s", "s~c": "s~b"}
        fork = self.row("s~b")
        assert fork.forked_at == fork.created_at
        assert (fork.title, self.row("s").forked_at) == ("b", None)
        assert [it.pk for it in store.get_forks(self.row("s"))] == [fork.pk]

    def test_a_branch_that_shares_nothing_is_a_fork_of_main(self):
        async def write():
            session = AdvancedSQLiteSession(session_id="s", db_path=self.path)
            await session.switch_to_branch("c")
            await session.create_branch_from_turn(1, "anew")
            await session.add_items(ask("uno"))
            session.close()

        async_to_sync(write)()
        self.run_import()
        assert self.origins()["s~anew"] == "s"

    def test_a_branch_in_which_nothing_was_said_is_none(self):
        async def write():
            session = AdvancedSQLiteSession(session_id="s", db_path=self.path)
            await session.create_branch_from_turn(1, "empty")
            branches = await session.list_branches()
            session.close()
            return branches

        assert len(async_to_sync(write)()) == 3
        assert "3 imported" in self.run_import()

    def test_lineage_and_usage_outlive_an_export(self):
        self.use("c", 3, 1, 10, 5, 15)
        self.run_import()
        exports = []
        for _ in range(2):
            path = self.path.with_name("export.jsonl")
            call_command(
                "export_agent_sessions", "--output", str(path), stderr=StringIO()
            )
            exports.append(path.read_bytes())
            AgentSession.objects.all().delete()
            self.run_import(source=path)
            path.unlink()
        assert exports[0] == exports[1]
        assert self.origins() == {"s~b": "s", "s~c": "s~b"}
        assert store.read_usage("s~c").total_tokens == 15

    def test_the_origin_of_a_branch_may_be_gone(self):
        async def write():
            session = AdvancedSQLiteSession(session_id="s", db_path=self.path)
            await session.delete_branch("b")
            session.close()

        async_to_sync(write)()
        assert "2 imported" in self.run_import()
        assert self.origins() == {"s~c": "s"}
        assert len(store.read_items("s~c")) == 3

    def test_forks_of_forks_have_the_owner_of_the_session(self):
        ann = User.objects.create(pk=1, username="ann")
        self.run_import("--map-user", "call:tests.test_importers_advanced.whose")
        assert AgentSession.objects.for_user(ann).count() == 3

    def test_an_import_that_was_stopped_goes_on_with_the_same_lineage(self):
        self.use("c", 3, 1, 2, 3, 5)
        self.run_import()
        expected = self.origins()
        for done in (1, 2):
            AgentSession.objects.all().delete()
            with closing(open_source(str(self.path))) as source:
                outcomes = import_sessions(source, batch_size=1)
                for _ in range(done):
                    next(outcomes)
                outcomes.close()
            assert AgentSession.objects.count() == done
            assert f"{3 - done} imported, {done} already" in self.run_import()
            assert self.origins() == expected

    def test_a_second_import_changes_nothing(self):
        self.use("b", 2, 1, 2, 3, 5)
        self.run_import()
        before = everything()
        assert "3 already there" in self.run_import()
        assert everything() == before

    def test_forks_of_a_session_that_stays_out_are_linked_when_it_comes(self):
        store.append_items("s", ask("somebody else's"))
        self.assert_fails(saying="2 imported, 1 conflict")
        assert self.origins() == {"s~b": None, "s~c": "s~b"}
        output = self.run_import("--on-conflict", "rename")
        assert "1 imported, 1 continued, 1 already there" in output
        assert self.origins()["s~b"] == "s~1"
        assert "3 already there" in self.run_import("--on-conflict", "rename")

    def test_names_of_branches_that_are_no_titles(self):
        self.execute(
            "UPDATE message_structure SET branch_id = 'x' || char(7) || 'y'"
            " WHERE branch_id = 'b'"
        )
        self.assert_fails(saying="2 imported, 1 refused")
        assert "1 imported" in self.run_import("--on-bad-id", "rename")
        (row,) = store.get_forks("s")[:1]
        assert (row.title, row.metadata["imported"]["branch"]) == ("", "x\x07y")
        assert self.origins()["s~c"] == row.session_id

    def test_a_dry_run_writes_nothing(self):
        self.use("b", 2, 1, 2, 3, 5)
        assert "3 imported" in self.run_import("--dry-run")
        assert not AgentSession.objects.exists()
        self.run_import()
        self.use("b", 3, 1, 2, 3, 5)
        before = everything()
        assert "1 continued" in self.run_import("--dry-run")
        assert everything() == before


class EffortTests(Fixture, TestCase):
    def steps(self):
        """Return how many steps SQLite takes to give the items of "s" and its forks."""
        steps = []
        with closing(open_source(str(self.path))) as source:
            sessions = [it for it in source.sessions() if it.place[0] == "s"]
            source._file.set_progress_handler(lambda: steps.append(1), 1)
            assert sum(1 for it in sessions for _ in source.items(it)) == 9
        return len(steps)

    def test_reading_a_session_does_not_look_at_all_others(self):
        alone = self.steps()
        self.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION SELECT i + 1 FROM n WHERE i < 999)"
            " INSERT INTO message_structure (session_id, message_id, message_type,"
            " sequence_number) SELECT 'x' || i, i + 1000, 'user', 1 FROM n"
        )
        assert self.steps() < 2 * alone


class UsageTests(Fixture, TestCase):
    def used(self, session_id):
        return store.get_usage_by_turn(self.row(session_id))

    def test_each_branch_has_what_was_used_in_it(self):
        details = '{"cached_tokens": 4, "reasoning_tokens": 2}'
        self.use("main", 2, 1, 10, 5, 15, details=details)
        self.use("b", 2, 2, 20, 10, 30, details="null")
        self.use("b", 3, None, None, None, None)
        self.run_import()
        assert self.used("s") == {2: TokenUsage(1, 10, 4, 5, 2, 15)}
        assert self.used("s~b") == {2: TokenUsage(2, 20, 0, 10, 0, 30), 3: TokenUsage()}
        assert self.used("s~c") == {}
        assert set(TurnUsage.objects.values_list("day", flat=True)) == {
            date(2025, 3, 1)
        }

    def test_usage_that_comes_later_is_added_once(self):
        self.use("main", 1, 1, 10, 5, 15)
        self.run_import()
        self.use("main", 1, 2, 30, 15, 45)
        self.use("main", 9, 1, 10, 5, 15)
        assert "1 continued" in self.run_import()
        assert self.used("s") == {
            1: TokenUsage(2, 30, 0, 15, 0, 45),
            9: TokenUsage(1, 10, 0, 5, 0, 15),
        }
        assert TurnUsage.objects.get(turn=9).day == date(2025, 3, 1)
        # Its number is not given to another turn.
        assert self.row("s").next_turn == 10
        before = everything()
        assert "3 already there" in self.run_import()
        assert everything() == before

    def test_usage_comes_with_the_items_that_come_later(self):
        self.run_import()

        async def go_on():
            session = AdvancedSQLiteSession(session_id="s", db_path=self.path)
            await session.add_items(ask("four"))
            session.close()

        async_to_sync(go_on)()
        self.use("main", 4, 1, 10, 5, 15)
        assert "1 continued" in self.run_import()
        assert self.used("s") == {4: TokenUsage(1, 10, 0, 5, 0, 15)}
        assert self.row("s").next_turn == 5

    def test_usage_that_is_stored_otherwise_is_reported(self):
        self.use("main", 2, 1, 10, 5, 15)
        read = store.read_used
        for lose in (
            lambda found: {},
            lambda found: dict.fromkeys(found, TokenUsage(1, 10, 0, 5, 0, 14)),
        ):
            AgentSession.objects.all().delete()

            def read_other(*arguments, lose=lose, **options):
                return lose(read(*arguments, **options))

            with mock.patch.object(store, "read_used", read_other):
                outcomes = self.outcomes()
            notes = [it.note for it in outcomes if it.kind == Kind.DIFFERENT]
            assert notes == ["what its turns have used differs from the source"]

    def test_what_is_used_here_is_not_touched(self):
        self.use("main", 3, 1, 10, 5, 15)
        self.run_import()
        here = TokenUsage(1, 1, 0, 1, 0, 2)
        store.append_items("s", ask("here"), usage=here)
        self.use("main", 3, 9, 90, 9, 99)
        before = everything()
        assert "3 already there" in self.run_import()
        assert everything() == before
        assert self.used("s") == {3: TokenUsage(1, 10, 0, 5, 0, 15), 4: here}

    def test_what_is_no_usage_is_left_out_and_said(self):
        for turn, number in enumerate((-1, 2**62, 1.5, "secret"), start=1):
            self.use("main", turn, 1, 10, number, 15)
        self.use("main", -1, 1, 1, 1, 1)
        self.use("main", 2**31 - 1, 1, 1, 1, 1)
        self.use("main", 9, 1, 1, 1, 2)
        output = self.run_import()
        assert "the usage of 6 turn(s) is none: left out" in output
        assert "secret" not in output
        assert "3 imported" in output
        assert self.used("s") == {9: TokenUsage(1, 1, 0, 1, 0, 2)}
        # Its number is not given to another turn.
        assert self.row("s").next_turn == 10

    def test_broken_details_take_nothing_else_along(self):
        broken = ("{secret", "[]", '{"cached_tokens": -1}', "[" * 100_000)
        for turn, details in enumerate(broken, start=1):
            self.use("b", turn, 1, 10, 5, 15, details=details)
        output = self.run_import()
        assert "'s~b': imported; the usage of 4 turn(s) has broken details" in output
        assert "secret" not in output
        assert store.read_usage("s~b") == TokenUsage(4, 40, 0, 20, 0, 60)

    def test_usage_of_what_has_no_items_is_kept(self):
        self.use("gone", 2, 1, 10, 5, 15)
        self.use("main", 1, 1, 10, 5, 15, session="cleared")
        self.use("old", 1, 1, 10, 5, 15, session="cleared")
        assert "6 imported" in self.run_import()
        for session_id in ("s~gone", "cleared", "cleared~old"):
            assert self.row(session_id).item_count == 0
            assert store.read_usage(session_id).total_tokens == 15
        assert self.origins()["s~gone"] == "s"
        assert self.origins()["cleared~old"] == "cleared"
        assert "6 already there" in self.run_import()

    def test_a_file_without_usage(self):
        self.execute("DROP TABLE turn_usage", "DROP TABLE branch_reservations")
        assert "3 imported" in self.run_import()
        assert not TurnUsage.objects.exists()

    def test_a_day_that_no_time_tells_is_that_of_the_session(self):
        self.use("main", 1, 1, 10, 5, 15)
        self.use("main", 2, 1, 10, 5, 15)
        self.execute(
            "UPDATE turn_usage SET created_at = NULL WHERE user_turn_number = 1",
            "UPDATE turn_usage SET created_at = '0001-01-01T00:00:00+23:59'"
            " WHERE user_turn_number = 2",
            "UPDATE agent_sessions SET updated_at = '2025-02-01 10:00:00'",
        )
        self.run_import()
        days = TurnUsage.objects.values_list("day", flat=True)
        assert set(days) == {date(2025, 2, 1)}


class BrokenStructureTests(Fixture, TestCase):
    def test_turns_keep_their_numbers_around_a_broken_message(self):
        self.execute(
            'UPDATE agent_messages SET message_data = \'{"role": "user"\''
            " WHERE message_data LIKE '%two%'"
        )
        self.use("main", 3, 1, 10, 5, 15)
        self.run_import()
        assert store.read_items("s", turn=3) == ask("three")
        assert store.get_turns("s")[-1].usage.total_tokens == 15
        row = self.row("s")
        assert (row.item_count, row.turn_count, row.next_turn) == (3, 2, 4)

    def test_numbers_that_no_turn_has_are_counted_anew(self):
        for number in ("NULL", "-5", "2147483647", "'secret'"):
            with self.subTest(number):
                AgentSession.objects.all().delete()
                self.execute(
                    f"UPDATE message_structure SET user_turn_number = {number}"
                )
                self.run_import()
                turns = [it.number for it in store.get_turns("s~b")]
                assert turns == [1, 2, 3]
                assert self.row("s~b").next_turn == 4

    def test_items_of_no_branch_are_left_out_and_said(self):
        self.execute(
            "DELETE FROM message_structure WHERE branch_id = 'c'",
            "DELETE FROM message_structure WHERE sequence_number = 3",
        )
        output = self.run_import()
        assert "'s': imported; 2 item(s) of no branch: left out" in output
        assert len(store.read_items("s")) == 2

    def test_a_structure_without_its_columns_is_explained(self):
        self.execute(
            "ALTER TABLE message_structure RENAME COLUMN sequence_number TO number"
        )
        self.assert_fails(saying="The source cannot be read: no such column")
        assert not AgentSession.objects.exists()


def whose(session):
    return {"s": 1}[session.session_id]
