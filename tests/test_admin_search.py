from __future__ import annotations

from agent_sessions import store
from agent_sessions.models import AgentSession
from tests.projects.cases import ProjectTestCase, create_users, say, set_up


def search_people() -> None:
    """Find sessions of users who have no user name."""
    from agent_sessions.admin import search

    set_up()
    alice, bob = create_users("alice@example.com", "bob@example.com")
    rows = AgentSession.objects.newest_first()
    for user in (alice, bob):
        store.append_items(f"of {user.email}", [say("hello")], user=user)
    for term in ("alice@example.com", "ALICE", str(alice.pk)):
        found = search.find_sessions(rows, term, in_titles=False).rows
        assert [row.session_id for row in found] == ["of alice@example.com"], term
    assert search.find_sessions(rows, "example.com", in_titles=True).rows.count() == 2


class UserModelTests(ProjectTestCase):
    def test_users_of_any_kind_are_found(self):
        for users in ("people.IntegerUser", "people.UUIDUser", "people.StringUser"):
            with self.subTest(users):
                self.run_project(search_people, PROJECT_USERS=users, PROJECT_ADMIN="1")
