from __future__ import annotations

from django.core.management import call_command
from django.db import connection
from django.test import TestCase

from agent_sessions import DjangoSession, store
from agent_sessions.models import AgentSession
from tests.projects.cases import USER_MODELS, ProjectTestCase, create_users, say

# Each a pair that some collation takes for one and the same.
LOOK_ALIKES = [
    ("ann", "Ann"),
    ("ann", "änn"),
    ("ann", "ann\u0308"),
    ("\u00e4nn", "a\u0308nn"),
    ("strasse", "straße"),
    ("file", "\ufb01le"),
    ("a1", "a\u00b9"),
    ("ab", "\uff41\uff42"),
    ("ab", "a\u200bb"),
    ("ab", "a\u00adb"),
    ("i", "ı"),
    ("İ", "i"),
    ("ς", "σ"),
    ("\u212b", "\u00c5"),
    ("か", "カ"),
    ("か", "が"),
    ("🙂", "🙃"),
    ("a b", "a\u00a0b"),
    ("a-b", "a_b"),
    ("50%", "50_"),
]


def migrate_back_and_forth() -> None:
    ours = {
        f"agent_sessions_{model}"
        for model in ("agentsession", "agentuser", "sessionitem")
    }
    for name in ("alice", "bob"):
        call_command("migrate", verbosity=0)
        assert ours <= set(connection.introspection.table_names())
        (user,) = create_users(f"{name}@example.com")
        store.append_items("support", [say("hello")], user=user)
        store.update_user_metadata({"a": 1}, user=user)
        call_command("migrate", "agent_sessions", "zero", verbosity=0)
        assert not ours & set(connection.introspection.table_names())


def find_no_changes() -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


class MigrationTests(ProjectTestCase):
    def test_the_models_are_what_the_migrations_make(self):
        for users in USER_MODELS:
            with self.subTest(users):
                self.run_project(find_no_changes, PROJECT_USERS=users)

    def test_all_tables_go_and_come_again(self):
        for users in USER_MODELS:
            with self.subTest(users):
                self.run_project(migrate_back_and_forth, PROJECT_USERS=users)


class CollationTests(TestCase):
    def test_session_ids_are_compared_byte_for_byte(self):
        ids = sorted({session_id for pair in LOOK_ALIKES for session_id in pair})
        for session_id in ids:
            assert store.get_session(None, session_id) is None
            appended = store.append_items(session_id, [say(session_id)])
            assert appended is not None
            assert (appended.created, appended.first_position) == (True, 0)
        for session_id in ids:
            assert store.read_items(session_id) == [say(session_id)]
        stored = AgentSession.objects.values_list("session_id", flat=True)
        assert sorted(stored) == ids
        for session_id in ids:
            store.delete_session(session_id)
            assert store.get_session(None, session_id) is None

    async def test_agents_on_ids_that_look_alike_do_not_meet(self):
        for one, two in LOOK_ALIKES:
            assert one != two
            first, second = DjangoSession(one), DjangoSession(two)
            await first.add_items([say("one")])
            assert await second.get_items() == []
            assert await second.pop_item() is None
            await second.clear_session()
            await second.add_items([say("two")])
            assert await first.get_items() == [say("one")]
            await first.clear_session()
            assert await second.get_items() == [say("two")]
            await second.clear_session()
