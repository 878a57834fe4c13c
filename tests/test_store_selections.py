from __future__ import annotations

from django.contrib.auth import get_user_model
from django.test import TestCase

from agent_sessions import store
from agent_sessions.exceptions import (
    SessionGone,
    SessionOwnershipError,
)
from agent_sessions.identifiers import uuid7
from agent_sessions.models import AgentSession, SessionItem
from tests.projects.cases import say

User = get_user_model()


class SelectionTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.alice = User.objects.create(username="alice")
        for number in range(3):
            store.append_items(f"s{number}", [say("hello")] * 2, user=cls.alice)
        store.append_items("anonymous", [say("hello")])
        cls.rows = list(AgentSession.objects.order_by("session_id"))
        cls.keys = [row.pk for row in cls.rows]

    def test_archiving_leaves_the_last_activity_and_what_is_archived(self):
        store.update_session(self.rows[0], archived=True)
        before = AgentSession.objects.get(pk=self.keys[0]).archived_at
        assert store.archive_sessions([*self.keys, uuid7()]) == 3
        after = AgentSession.objects.order_by("session_id")
        assert [row.updated_at for row in after] == [r.updated_at for r in self.rows]
        assert after.get(pk=self.keys[0]).archived_at == before
        assert {row.revision for row in after} == {1}
        assert store.archive_sessions(self.keys[:2], archived=False) == 2
        assert set(AgentSession.objects.active()) == set(self.rows[:2])

    def test_sessions_without_their_owner_are_orphans(self):
        assert store.remove_owners(self.keys) == 3
        assert AgentSession.objects.orphaned().count() == 3
        assert AgentSession.objects.anonymous().count() == 1
        for user in (None, self.alice):
            with self.assertRaises(SessionOwnershipError):
                store.append_items("s1", [say("mine")], user=user)

    def test_deleted_sessions_take_their_items_along(self):
        handle = store.row_handle(self.rows[1])
        assert store.delete_sessions([*self.keys[:2], uuid7()]) == 2
        assert set(AgentSession.objects.all()) == set(self.rows[2:])
        assert SessionItem.objects.count() == 4
        with self.assertRaises(SessionGone):
            store.append_items(handle, [say("too late")])
        assert store.delete_sessions(self.keys[:2]) == 0

    def test_costs_are_by_the_hundred(self):
        keys = [store.create_session(self.alice).pk for _ in range(150)]
        with self.assertNumQueries(2 * 3):
            assert store.archive_sessions(iter(keys)) == 150
        with self.assertNumQueries(2 * 3):
            assert store.remove_owners(keys) == 150
        with self.assertNumQueries(2 * 9):
            assert store.delete_sessions(keys) == 150

    def test_nothing_selected_asks_nothing(self):
        with self.assertNumQueries(0):
            assert store.delete_sessions([]) == store.archive_sessions([]) == 0
