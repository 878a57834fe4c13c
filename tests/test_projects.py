"""
Projects unlike the tests' own: other users, other databases, no SDK.

What happens in such a project is a function below that runs in a process of its own,
with the settings that tests.projects.settings makes of the environment.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import connections
from django.test import SimpleTestCase, TestCase, override_settings

from agent_sessions import DjangoSession, store
from agent_sessions.exceptions import (
    InvalidUser,
    SessionOwnershipError,
)
from agent_sessions.models import AgentSession, AgentUser, SessionItem
from tests.nasty import NASTY_ITEMS
from tests.processes import finish, start
from tests.projects.cases import (
    USER_MODELS,
    ProjectTestCase,
    create_users,
    say,
    set_up,
)


def use_sessions(alias: str) -> None:
    """Try every verb as users and as nobody, then delete a user."""
    set_up(alias)
    alice, bob = create_users("alice@example.com", "bob@example.com")
    assert alice._state.db == alias
    async_to_sync(converse)(alice, bob)

    rows = AgentSession.objects
    assert {row._state.db for row in rows.all()} == {alias}
    assert rows.for_user(alice).count() == 3
    assert store.get_session(bob, "support") is None
    support = store.get_session(alice, "support")
    assert support.user == alice
    assert store.read_items(support) == [say("hello")]
    store.update_session("support", user=alice, title="Help", metadata={"a": 1})
    assert store.read_user_metadata(alice) == {"language": "fr"}

    key = alice.pk
    alice.delete()
    assert rows.orphaned().count() == 3
    assert not AgentUser.objects.filter(pk=key).exists()
    for stranger in (None, bob):
        with pytest.raises(SessionOwnershipError):
            store.read_items("support", user=stranger)
    with pytest.raises(InvalidUser):
        store.append_items("new", [say("hello")], user=alice)
    assert store.delete_session(rows.get(session_id="support")) is True
    assert SessionItem.objects.filter(session__session_id="support").count() == 0

    with override_settings(AGENT_SESSIONS_ON_USER_DELETE="delete"):
        bob.delete()
    assert rows.filter(owned_at__isnull=False).count() == 2


async def converse(alice: Any, bob: Any) -> None:
    session = DjangoSession("support", user=alice)
    await session.add_items([say("hello"), say("are you there?")])
    assert session.user_id == alice.pk
    assert await session.pop_item() == say("are you there?")
    for stranger in (
        DjangoSession("support"),
        DjangoSession("support", user=bob),
        DjangoSession("support", user_id=bob.pk),
    ):
        with pytest.raises(SessionOwnershipError):
            await stranger.get_items()
        with pytest.raises(SessionOwnershipError):
            await stranger.add_items([say("it is me")])

    by_key = DjangoSession("support", user_id=str(alice.pk))
    assert await by_key.get_items() == [say("hello")]
    created = await DjangoSession.create_session(alice, title="Orders")
    await created.add_items([say("an order")])
    await created.clear_session()

    anonymous = DjangoSession("anonymous")
    await anonymous.add_items([say("who am I?")])
    await anonymous.claim(alice)
    assert await anonymous.get_items() == [say("who am I?")]
    assert await DjangoSession.get_session(bob, "anonymous") is None

    newest = await DjangoSession.get_sessions_for_user(alice)
    assert newest == ["anonymous", created.session_id, "support"]
    assert len(await DjangoSession.get_sessions(alice, limit=2)) == 2
    assert await DjangoSession.get_sessions(None) == []
    await by_key.update_user_metadata({"language": "fr"})
    await DjangoSession("bob's", user=bob).add_items([say("hello")])


def use_sessions_without_the_sdk() -> None:
    with pytest.raises(ModuleNotFoundError, match="agents"):
        import agents  # noqa: F401
    use_sessions("default")
    assert not {"agents", "openai"} & set(sys.modules)


def dump_and_load(serializer: str) -> None:
    set_up()
    alice, _ = create_users("alice@example.com", "bob@example.com")
    store.append_items("support", list(NASTY_ITEMS.values()), user=alice)
    store.update_user_metadata({"language": "fr"}, user=alice)
    check_round_trip(serializer, get_user_model()._meta.app_label, "agent_sessions")


def check_round_trip(serializer: str, *apps: str) -> None:
    """Dump the apps, load them into empty tables and compare what the tables hold."""
    before = stored_rows()
    with tempfile.TemporaryDirectory() as folder:
        fixture = str(Path(folder) / f"dump.{serializer}")
        call_command("dumpdata", *apps, format=serializer, output=fixture, verbosity=0)
        get_user_model().objects.all().delete()
        AgentSession.objects.all().delete()
        assert not SessionItem.objects.exists() and not AgentUser.objects.exists()
        call_command("loaddata", fixture, verbosity=0)
    assert stored_rows() == before


def stored_rows() -> list[list[Any]]:
    """Return the rows of our tables as the database gives them, without the ORM."""
    rows = []
    with connections["default"].cursor() as cursor:
        for model in (AgentSession, SessionItem, AgentUser):
            table, key = model._meta.db_table, model._meta.pk.column
            cursor.execute(f"SELECT * FROM {table} ORDER BY {key}")
            rows += [list(map(to_milliseconds, row)) for row in cursor.fetchall()]
    return rows


def to_milliseconds(value: Any) -> Any:
    # Django's JSON has no finer times.
    if isinstance(value, datetime):
        return value.replace(microsecond=value.microsecond // 1000 * 1000)
    return value


def split_users_from_sessions() -> None:
    with pytest.raises(CommandError) as refusal:
        call_command("check")
    assert "agent_sessions.E002" in str(refusal.value)


class UserTests(ProjectTestCase):
    def test_any_user_model_will_do(self):
        for users in USER_MODELS:
            with self.subTest(users):
                self.run_project(use_sessions, "default", PROJECT_USERS=users)


class DatabaseTests(ProjectTestCase):
    def test_users_and_sessions_live_together_on_another_database(self):
        for users in ("auth.User", "people.UUIDUser"):
            with self.subTest(users):
                self.run_project(
                    use_sessions,
                    "other",
                    PROJECT_USERS=users,
                    PROJECT_ROUTER="TogetherOnOther",
                )

    def test_a_router_that_parts_users_from_sessions_is_refused(self):
        self.run_project(split_users_from_sessions, PROJECT_ROUTER="SessionsOnOther")


class WithoutSDKTests(ProjectTestCase):
    def test_everything_works_without_the_sdk(self):
        self.run_project(
            use_sessions_without_the_sdk,
            PROJECT_USERS="people.IntegerUser",
            PROJECT_WITHOUT_SDK="1",
        )


class ImportTests(SimpleTestCase):
    def test_importing_the_package_imports_neither_models_nor_the_sdk(self):
        code = (
            "import sys, agent_sessions\n"
            "loaded = set(sys.modules)\n"
            "assert not {'agents', 'openai', 'django.db', 'django.apps'} & loaded\n"
            "assert not {'agent_sessions.models', 'agent_sessions.adapter'} & loaded\n"
        )
        # Without Django set up, which would import the models.
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

    def test_a_project_that_runs_no_agent_never_imports_the_sdk(self):
        process = start(
            "import sys, agent_sessions.models, agent_sessions.apps\n"
            "import agent_sessions.migrations, agent_sessions.store\n"
            "from importlib import import_module\n"
            "import_module('agent_sessions.migrations.0001_initial')\n"
            "from agent_sessions import DjangoSession\n"
            "DjangoSession('x')\n"
            "assert not {'agents', 'openai'} & set(sys.modules)\n"
        )
        finish(process)


class FixtureTests(TestCase):
    def setUp(self):
        User = get_user_model()
        alice, bob = User.objects.create_user("alice"), User.objects.create_user("bob")
        store.append_items("hers", list(NASTY_ITEMS.values()), user=alice)
        store.update_session("hers", user=alice, title="Zoë & <co>", archived=True)
        store.append_items("nobody's", [say("a"), say("b"), say("c"), say("d")])
        store.append_items("orphan", [say("left behind")], user=bob)
        store.update_user_metadata({"likes": ["é", None, 1.5]}, user=alice)
        bob.delete()
        items = SessionItem.objects.filter(session__session_id="nobody's")
        broken = ("not JSON {", '{"a": 1', "[1, 2]")
        for position, text in enumerate(broken):
            items.filter(position=position).update(data=text)

    def test_every_serializer_brings_back_what_was_dumped(self):
        for serializer in ("json", "jsonl", "xml"):
            with self.subTest(serializer):
                check_round_trip(serializer, "auth.user", "agent_sessions")
                assert store.read_items("nobody's") == [say("d")]
                assert AgentSession.objects.orphaned().count() == 1


class FixtureProjectTests(ProjectTestCase):
    def test_fixtures_carry_users_of_any_kind(self):
        for users in ("people.UUIDUser", "people.StringUser"):
            with self.subTest(users):
                self.run_project(dump_and_load, "json", PROJECT_USERS=users)


class ReplicaTests(TestCase):
    databases = {"default", "other"}

    @override_settings(DATABASE_ROUTERS=["tests.projects.routers.ReadsOnOther"])
    def test_a_row_read_from_a_replica_is_written_where_writes_go(self):
        row = store.create_session(None, session_id="support")
        AgentSession.objects.using("other").bulk_create([row])
        copy = AgentSession.objects.get(session_id="support")
        assert copy._state.db == "other"
        session = copy.as_sdk_session()
        async_to_sync(session.add_items)([say("hello")])
        assert async_to_sync(session.get_items)() == [say("hello")]
        assert SessionItem.objects.using("default").count() == 1
        assert SessionItem.objects.using("other").count() == 0
