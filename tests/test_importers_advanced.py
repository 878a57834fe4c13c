from __future__ import annotations

from agents.extensions.memory import AdvancedSQLiteSession
from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model
from django.test import TestCase

from agent_sessions import store
from agent_sessions.models import AgentSession
from tests.imports import ImportCase
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
