from __future__ import annotations

import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock
from urllib.parse import quote

from agents.extensions.memory import SQLAlchemySession
from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model
from django.core.management.base import CommandError
from django.db import connections
from django.test import TestCase, TransactionTestCase

from agent_sessions import store
from agent_sessions.exceptions import InvalidSource
from agent_sessions.importers.opening import open_source, parse_url
from agent_sessions.importers.sql import SQLSource, open_connection
from agent_sessions.models import AgentSession, SessionItem
from tests.elsewhere import (
    AgenticItem,
    AgenticSession,
    OpenAIDjangoMessage,
    OpenAIDjangoSession,
)
from tests.imports import ImportCase, snapshot
from tests.sources import converse

User = get_user_model()
MOMENT = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)


def items(count, start=0):
    return [{"role": "user", "content": f"{n} 你好"} for n in range(start, count)]


class TableCase(ImportCase, TransactionTestCase):
    """The source is the database "other"; its tables go with the test."""

    databases = {"default", "other"}

    def create(self, *models):
        connection = connections["other"]
        with connection.schema_editor() as editor:
            for model in models:
                editor.create_model(model)
        self.addCleanup(self.drop, models)

    def drop(self, models):
        with connections["other"].schema_editor() as editor:
            for model in reversed(models):
                editor.delete_model(model)

    def execute(self, sql, *values):
        with connections["other"].cursor() as cursor:
            # Without values "%" stands for itself.
            cursor.execute(sql, values or None)


class SQLAlchemyTests(TableCase):
    def create_sdk_tables(self, sessions="agent_sessions", messages="agent_messages"):
        """Make the tables of SQLAlchemySession; on MySQL it cannot do so itself."""
        vendor = connections["other"].vendor
        key = {
            "postgresql": "serial PRIMARY KEY",
            "mysql": "integer AUTO_INCREMENT PRIMARY KEY",
            "sqlite": "integer PRIMARY KEY AUTOINCREMENT",
        }[vendor]
        time = "TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL"
        q = connections["other"].ops.quote_name
        self.execute(
            f"CREATE TABLE {q(sessions)} (session_id VARCHAR(191) PRIMARY KEY,"
            f" created_at {time}, updated_at {time})"
        )
        self.addCleanup(self.execute, f"DROP TABLE {q(sessions)}")
        text = "LONGTEXT" if vendor == "mysql" else "TEXT"
        self.execute(
            f"CREATE TABLE {q(messages)} (id {key}, session_id VARCHAR(191) NOT NULL"
            f" REFERENCES {q(sessions)} (session_id), message_data {text} NOT NULL,"
            f" created_at {time})"
        )
        self.addCleanup(self.execute, f"DROP TABLE {q(messages)}")
        self.execute(
            f"CREATE INDEX idx_agent_messages_session_time ON {q(messages)}"
            " (session_id, created_at)"
        )
        return [q(name).replace("%", "%%") for name in (sessions, messages)]

    def write(self, tables, session_id, texts):
        sessions, messages = tables
        self.execute(
            f"INSERT INTO {sessions} VALUES (%s, %s, %s)",
            session_id,
            "2025-01-02 03:04:05",
            "2025-02-03 04:05:06",
        )
        for text, time in texts:
            self.execute(
                f"INSERT INTO {messages} (session_id, message_data, created_at)"
                " VALUES (%s, %s, %s)",
                session_id,
                text,
                time,
            )

    def test_an_alias_is_read_in_the_order_of_the_sdk(self):
        tables = self.create_sdk_tables()
        later, earlier = "2025-01-02 03:04:07", "2025-01-02 03:04:06"
        texts = [('{"n":1}', later), ('{"n":2}', earlier), ('{"n":3}', later)]
        self.write(tables, "a", texts)
        self.write(tables, "b", [])
        assert "2 imported" in self.run_import(source="other")
        assert [item["n"] for item in store.read_items("a")] == [2, 1, 3]
        row = AgentSession.objects.get(session_id="a")
        assert row.created_at == MOMENT
        assert row.updated_at == datetime(2025, 2, 3, 4, 5, 6, tzinfo=UTC)
        before = snapshot()
        assert "2 already there" in self.run_import(source="other")
        assert snapshot() == before

    def test_custom_tables_and_a_time_zone(self):
        tables = self.create_sdk_tables("my sessions", "My%Messages")
        self.write(tables, "a", [("{}", "2025-01-02 03:04:06")])
        with self.assertRaisesMessage(CommandError, "no table 'agent_"):
            self.run_import(source="other")
        given = ("--sessions-table", "my sessions", "--messages-table", "My%Messages")
        if connections["other"].vendor == "sqlite":
            # A file of SQLite always has UTC.
            self.run_import(*given, source="other")
            assert SessionItem.objects.get().created_at.hour == 3
        else:
            self.run_import(*given, "--timezone", "Asia/Tokyo", source="other")
            assert SessionItem.objects.get().created_at.hour == 18

    def test_many_items_come_over_in_order(self):
        tables = self.create_sdk_tables()
        texts = [(f'{{"n":{n}}}', "2025-01-02 03:04:06") for n in range(1500)]
        self.write(tables, "long", texts)
        for number in range(20):
            self.write(tables, f"short-{number}", texts[:2])
        with mock.patch("agent_sessions.importers.sql._PAGE", 7):
            self.run_import(source="other")
        assert [it["n"] for it in store.read_items("long")] == [*range(1500)]
        assert AgentSession.objects.count() == 21

    def test_the_source_cannot_be_written_to(self):
        self.create(OpenAIDjangoSession, OpenAIDjangoMessage)
        source = open_source("other", format="openai-django-sessions")
        self.addCleanup(source.close)
        with self.assertRaises(InvalidSource):
            source._fetch("DELETE FROM agent_messages", [])

    def test_one_unreadable_session_does_not_end_the_others(self):
        tables = self.create_sdk_tables()
        self.write(tables, "a", [("{}", "2025-01-02 03:04:06")])
        source = open_source("other", format="sqlalchemy")
        self.addCleanup(source.close)
        if isinstance(source, SQLSource):
            source._shape = replace(source._shape, order="nothing")
        else:
            source._order = "nothing"
        (session,) = source.sessions()
        with self.assertRaises(InvalidSource):
            list(source.items(session))
        assert [it.session_id for it in source.sessions()] == ["a"]

    def test_the_projects_connections_are_left_alone(self):
        settings = connections["other"].settings_dict
        options = {**settings["OPTIONS"], "pool": True}
        connection = open_connection({**settings, "OPTIONS": options})
        self.addCleanup(connection.close)
        assert connection.alias not in connections
        assert "pool" not in connection.settings_dict["OPTIONS"]
        assert connection.settings_dict["CONN_MAX_AGE"] == 0

    def test_a_database_without_such_tables_is_explained(self):
        with self.assertRaisesMessage(CommandError, "no table 'agent_"):
            self.run_import(source="other")
        with self.assertRaisesMessage(CommandError, "no table 'agent_"):
            self.run_import("--format", "sqlalchemy", source="other")

    def test_tables_of_another_kind_are_explained(self):
        self.execute("CREATE TABLE agent_sessions (x integer)")
        self.addCleanup(self.execute, "DROP TABLE agent_sessions")
        self.execute("CREATE TABLE agent_messages (y integer)")
        self.addCleanup(self.execute, "DROP TABLE agent_messages")
        with self.assertRaisesMessage(CommandError, "The source cannot be read"):
            self.run_import(source="other")


class SQLAlchemySessionTests(ImportCase, TransactionTestCase):
    """What the SDK's own class has written, where there is a driver for it."""

    databases = {"default", "other"}

    def url(self):
        settings = connections["other"].settings_dict
        match connections["other"].vendor:
            case "postgresql":
                user = quote(settings["USER"])
                if settings["PASSWORD"]:
                    user += f":{quote(settings['PASSWORD'], safe='')}"
                host = f"{settings['HOST']}:{settings['PORT']}"
                return f"postgresql+asyncpg://{user}@{host}/{settings['NAME']}"
            case _:
                # There is no async driver for MySQL here, so the file stands in.
                return f"sqlite+aiosqlite:///{self.path}"

    def test_a_conversation_comes_over_item_by_item(self):
        async def write(url):
            session = SQLAlchemySession.from_url("a", url=url, create_tables=True)
            await converse(session)
            found = await session.get_items()
            await session.engine.dispose()
            return found

        url = self.url()
        expected = async_to_sync(write)(url)
        if "postgresql" in url:
            self.addCleanup(self.drop)
        assert "1 imported" in self.run_import(source=url)
        assert store.read_items("a") == expected
        assert "1 already there" in self.run_import(source=url)

    def drop(self):
        with connections["other"].cursor() as cursor:
            cursor.execute("DROP TABLE agent_messages")
            cursor.execute("DROP TABLE agent_sessions")


class PackageTests(TableCase):
    def test_openai_django_sessions_come_over(self):
        self.create(OpenAIDjangoSession, OpenAIDjangoMessage)
        for name, given in {"a": items(3), "b": items(1)}.items():
            row = OpenAIDjangoSession.objects.using("other").create(
                session_id=name, created_at=MOMENT, updated_at=MOMENT
            )
            for item in given:
                OpenAIDjangoMessage.objects.using("other").create(
                    session=row, data=item, created_at=MOMENT + timedelta(seconds=1.5)
                )
        assert "2 imported" in self.run_import(source="other")
        assert store.read_items("a") == items(3)
        item = SessionItem.objects.filter(session__session_id="b").get()
        assert item.created_at == MOMENT + timedelta(seconds=1.5)
        assert "2 already there" in self.run_import(source="other")

    def test_agentic_django_comes_over_with_its_owners(self):
        self.create(AgenticSession, AgenticItem)
        ann = User.objects.create(username="ann")
        for owner in (ann.pk, ann.pk + 1):
            row = AgenticSession.objects.using("other").create(
                session_key="chat",
                owner_id=owner,
                metadata={"plan": "pro"},
                created_at=MOMENT,
                updated_at=MOMENT,
            )
            for sequence, item in reversed(list(enumerate(items(3), start=1))):
                AgenticItem.objects.using("other").create(
                    session=row, sequence=sequence, payload=item, created_at=MOMENT
                )
        with self.assertRaisesMessage(CommandError, "1 imported, 1 refused"):
            self.run_import(source="other")
        session = AgentSession.objects.for_user(ann).get()
        key = AgenticSession.objects.using("other").get(owner_id=ann.pk).pk
        assert session.session_id == str(key)
        assert session.metadata == {"plan": "pro", "imported": {"session_key": "chat"}}
        assert store.read_items(session) == items(3)
        with self.assertRaisesMessage(CommandError, "1 already there, 1 refused"):
            self.run_import(source="other")


class URLTests(TestCase):
    def test_urls_of_sqlalchemy_are_read(self):
        found = parse_url("postgresql+asyncpg://ann:p%40ss@db:5433/chat?ssl=require")
        assert found == {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "chat",
            "USER": "ann",
            "PASSWORD": "p@ss",
            "HOST": "db",
            "PORT": "5433",
            "OPTIONS": {"sslmode": "require"},
        }
        found = parse_url("mysql+aiomysql://root@127.0.0.1/chat?charset=utf8mb4")
        assert found["ENGINE"] == "django.db.backends.mysql"
        assert found["OPTIONS"] == {"charset": "utf8mb4"}
        found = parse_url("mysql://root@127.0.0.1/chat?connect_timeout=10")
        assert found["OPTIONS"] == {"connect_timeout": 10}
        assert parse_url("sqlite+aiosqlite:////tmp/x.db")["NAME"] == "/tmp/x.db"
        assert parse_url("sqlite:///x.db")["NAME"] == "x.db"

    def test_urls_that_name_nothing_are_refused_without_their_password(self):
        for url in (
            "postgresql://ann:secret@db/",
            "mongodb://ann:secret@db/chat",
            "postgresql://ann:secret@db:port/chat",
            "postgresql://ann:secret@127.0.0.1:1/chat",
            "redis://:secret@127.0.0.1:1/0",
            "redis://:secret@127.0.0.1:1/x?y=z",
        ):
            with self.subTest(url):
                with self.assertRaises(InvalidSource) as caught:
                    open_source(url)
                assert "secret" not in str(caught.exception)

    def test_options_that_a_driver_does_not_take_are_explained(self):
        for url in (
            "postgresql://ann:secret@127.0.0.1:1/chat?isolation_level=x",
            "mysql://ann:secret@127.0.0.1:1/chat?isolation_level=x",
            "mysql://ann:secret@127.0.0.1:1/chat?connect_timeout=soon",
            "mysql://ann:secret@127.0.0.1:1/chat?such=secret",
        ):
            with self.subTest(url):
                with self.assertRaises(InvalidSource) as caught:
                    open_source(url)
                assert "secret" not in str(caught.exception)

    def test_a_file_is_no_home_of_every_format(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "x.db"
            for format in ("openai-django-sessions", "agentic-django"):
                with self.assertRaises(InvalidSource):
                    open_source(str(path), format=format)
            assert not path.exists()
