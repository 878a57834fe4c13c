from __future__ import annotations

import builtins
import shutil
import socket
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from importlib.util import find_spec
from unittest import mock, skipUnless

from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model
from django.core.management.base import CommandError
from django.test import SimpleTestCase, TestCase

from agent_sessions import store
from agent_sessions.exceptions import InvalidSource
from agent_sessions.importers.opening import open_source
from agent_sessions.models import AgentSession
from tests.imports import ImportCase
from tests.nasty import NASTY_ITEMS
from tests.sources import converse

AVAILABLE = shutil.which("redis-server") and find_spec("redis")


class MissingTests(SimpleTestCase):
    def test_without_the_driver_the_extra_is_named(self):
        imported = builtins.__import__

        def refuse(name, *arguments):
            if name == "redis":
                raise ImportError
            return imported(name, *arguments)

        with (
            mock.patch("builtins.__import__", refuse),
            self.assertRaisesMessage(InvalidSource, "django-agent-sessions[redis]"),
        ):
            open_source("redis://localhost")


@skipUnless(AVAILABLE, "needs redis-server and redis-py")
class RedisTests(ImportCase, TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        cls.server = subprocess.Popen(
            ["redis-server", "--port", port, "--save", "", "--dir", folder],
            stdout=subprocess.DEVNULL,
        )
        cls.addClassCleanup(cls.server.wait)
        cls.addClassCleanup(cls.server.terminate)
        cls.url = f"redis://127.0.0.1:{port}/0"
        import redis

        cls.redis = redis.Redis.from_url(cls.url)
        cls.addClassCleanup(cls.redis.close)
        for _ in range(200):
            try:
                cls.redis.ping()
                return
            except redis.ConnectionError:
                time.sleep(0.05)
        raise AssertionError("redis-server does not answer")

    def setUp(self):
        super().setUp()
        self.redis.flushall()

    def write(self, *session_ids, **options):
        from agents.extensions.memory import RedisSession

        async def write():
            found = {}
            for session_id in session_ids:
                session = RedisSession.from_url(session_id, url=self.url, **options)
                await converse(session)
                found[session_id] = await session.get_items()
                await session.close()
            return found

        return async_to_sync(write)()

    def test_conversations_come_over_item_by_item(self):
        for session_id, items in self.write("a", "b:c", "x:messages").items():
            if session_id == "a":
                output = self.run_import(source=self.url)
                assert "3 imported" in output
            assert store.read_items(session_id) == items
        assert "3 already there" in self.run_import(source=self.url)

    def test_times_are_the_sources(self):
        self.write("a")
        self.redis.hset("agents:session:a", "created_at", "1735787045")
        self.run_import(source=self.url)
        row = AgentSession.objects.get()
        assert row.created_at == datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
        assert row.updated_at > row.created_at

    def test_another_prefix_and_nobody_elses_keys(self):
        self.write("a", key_prefix="my*[keys]")
        self.write("b")
        self.redis.hset("agents:session:other", "field", "secret")
        self.redis.hset("agents:session:x", "session_id", "y")
        self.run_import("--key-prefix", "my*[keys]", source=self.url)
        assert AgentSession.objects.get().session_id == "a"

    def test_many_and_nasty_items(self):
        items = [*NASTY_ITEMS.values()] * 30
        from agents.extensions.memory import RedisSession

        async def write():
            session = RedisSession.from_url("a", url=self.url)
            for item in items:
                await session.add_items([item])
            await session.close()

        items = [it for it in items if len(str(it)) < 100_000]
        async_to_sync(write)()
        self.redis.rpush("agents:session:a:messages", b"\xff{secret")
        assert "1 broken" in self.run_import(source=self.url)
        assert repr(store.read_items("a")) == repr(items)

    def test_items_whose_hash_is_gone_come_along(self):
        items = self.write("a")["a"]
        self.redis.delete("agents:session:a")
        self.run_import(source=self.url)
        assert store.read_items("a") == items
        assert "1 already there" in self.run_import(source=self.url)

    def test_and_nobodys_empty_session_is_taken_for_theirs(self):
        ann = get_user_model().objects.create(username="ann")
        store.create_session(ann, session_id="a")
        self.write("a")
        self.redis.delete("agents:session:a")
        self.assert_fails(source=self.url, saying="1 conflict")
        assert store.read_items("a", user=ann) == []

    def test_a_session_that_went_on_is_caught_up_with(self):
        self.write("a")
        self.run_import(source=self.url)
        items = self.write("a")["a"]
        assert "1 continued" in self.run_import(source=self.url)
        assert store.read_items("a") == items

    def test_a_server_without_sessions_is_no_success(self):
        with self.assertRaisesMessage(CommandError, "There are no sessions"):
            self.run_import(source=self.url)
