from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from unittest import mock

from agents import Runner
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.test import SimpleTestCase, TestCase

from agent_sessions import DjangoSession
from tests.example_site import EXAMPLE, ExampleSite
from tests.fakes import RUN_CONFIG

sys.path.append(str(EXAMPLE))
database_url = import_module("example.database_url")
desk = import_module("support_desk.agent")


class ExampleProjectTests(SimpleTestCase):
    """The site from outside: its commands, each in a process, on its own database."""

    def setUp(self):
        self.site = ExampleSite()
        self.addCleanup(self.site.close)

    def test_the_demo_tells_the_same_story_twice(self):
        self.site.manage("prepare_demo")
        stories = []
        for _ in range(2):
            stories.append(self.site.manage("demo_conversation").splitlines())
        for story in stories:
            text = "\n".join(story)
            assert text.count('look_up_order {"number": ') == 2
            assert "Your name is Alice. You asked about #1001." in text
            assert "Sie heißen Bob. Sie haben nach #1002 gefragt." in text
            assert "SessionOwnershipError: The session is not open to" in text
            pids = {line.split("(process ")[1] for line in story if "(process" in line}
            assert len(pids) == 3
        first, second = (
            [line for line in story if "(process" not in line] for story in stories
        )
        assert first == second

    def test_a_month_is_seeded_once(self):
        (seeded,) = re.findall(r"(\d+) imported", self.site.manage("prepare_demo"))
        assert int(seeded) > 150
        assert self.site.manage("prepare_demo") == ""
        self.site.manage("check_agent_sessions")  # what was written is whole
        code = (
            "from agent_sessions.models import AgentSession as S;"
            "print(S.objects.count(), S.objects.archived().exists(),"
            " S.objects.filter(user__username='alice').count() > 20)"
        )
        counted = self.site.manage("shell", "--no-imports", "-c", code)
        assert counted == f"{seeded} True True\n"

    def test_the_site_is_on_the_database_under_test(self):
        code = "from django.db import connection; print(connection.vendor)"
        expected = {"mysql": "sqlite"}.get(connection.vendor, connection.vendor)
        assert self.site.manage("shell", "--no-imports", "-c", code).strip() == expected

    def test_the_sites_own_tests_pass(self):
        self.site.manage("check", "--fail-level", "WARNING")
        process = self.site.run("test", EXAMPLE)
        assert process.returncode == 0, process.stderr
        assert "OK" in process.stderr

    def test_demo_users_are_refused_without_debug(self):
        with tempfile.TemporaryDirectory() as folder:
            settings = Path(folder) / "production.py"
            settings.write_text("from example.settings import *\nDEBUG = False\n")
            process = self.site.run(
                "prepare_demo",
                "--settings=production",
                f"--pythonpath={folder}",
            )
        assert process.returncode == 1
        assert "DEBUG only" in process.stderr

    def test_a_database_url_that_cannot_be_used_says_what_to_do(self):
        process = self.site.run("check", DATABASE_URL="mysql://me@host/shop")
        assert process.returncode == 1
        assert process.stderr == (
            "DATABASE_URL must look like postgres://user:password@host:port/name.\n"
        )


class DatabaseUrlTests(SimpleTestCase):
    def test_postgresql_is_chosen_by_url(self):
        url = "postgres://me:p%40ss@db.host:6432/shop?sslmode=require"
        with mock.patch.object(database_url, "find_spec"):
            settings = database_url.parse_database_url(url)
        assert settings == {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "shop",
            "USER": "me",
            "PASSWORD": "p@ss",
            "HOST": "db.host",
            "PORT": "6432",
            "OPTIONS": {"sslmode": "require", "pool": database_url.POOL},
            "CONN_HEALTH_CHECKS": True,
        }

    def test_a_missing_driver_is_named(self):
        with (
            mock.patch.object(database_url, "find_spec", return_value=None),
            self.assertRaisesMessage(
                ImproperlyConfigured, "pip install 'psycopg[binary,pool]'"
            ),
        ):
            database_url.parse_database_url("postgres://me@db.host/shop")


class OfflineModelTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.alice = User.objects.create_user("alice")

    def setUp(self):
        offline = {"OPENAI_API_KEY": "", "OPENAI_BASE_URL": "", "OFFLINE_PAUSE": "0"}
        self.enterContext(mock.patch.dict(os.environ, offline))

    async def ask(self, *texts):
        """Say ``texts`` in one session, each with a new object; return the answers."""
        answers = []
        for text in texts:
            session = DjangoSession("desk", user=self.alice)
            result = await desk.answer(text, customer="alice", session=session)
            answers.append(result.final_output)
        return answers

    async def test_an_order_is_looked_up_with_the_tool(self):
        (answer,) = await self.ask("Where is #1001?")
        assert answer == (
            "Order #1001, the Luna lamp, is on its way and arrives in 2 days."
        )
        items = await DjangoSession("desk", user=self.alice).get_items()
        assert [item.get("type") for item in items] == [
            None,
            "function_call",
            "function_call_output",
            "message",
        ]

    async def test_each_order_of_a_message_is_looked_up(self):
        (answer,) = await self.ask("Where are #1001 and #1003?")
        assert "#1001" in answer and "was delivered 5 days ago" in answer

    async def test_somebody_elses_order_is_not_found(self):
        (answer,) = await self.ask("Where is order 1002?")
        assert answer == "I find no order #1002 of yours."

    async def test_name_and_order_are_remembered_from_the_session(self):
        *_, name, order, thanks = await self.ask(
            "Hi, I'm Alice.",
            "Where is my order #1003?",
            "What is my name?",
            "And when did the order arrive?",
            "Thanks!",
        )
        assert name == "Your name is Alice."
        assert order.startswith("Order #1003")
        assert thanks == "You are welcome, Alice!"

    async def test_what_nobody_said_is_not_known(self):
        answers = await self.ask("I am waiting.", "What's my name?", "Which order?")
        assert answers[1:] == [
            "You have not told me your name yet.",
            "You have not asked about an order yet.",
        ]

    async def test_it_answers_in_the_language_of_the_question(self):
        answers = await self.ask(
            "Ich heiße Jörg. Wo ist meine Bestellung 1001?",
            "Bonjour, comment je m'appelle ?",
            "¡Gracias! ¿Qué pedido era?",
            "1001",
        )
        assert [answer.split("!")[0] for answer in answers] == [
            "Freut mich, Jörg",
            "Bonjour, Jörg ",
            "¡De nada, Jörg",
            "El pedido #1001 (Luna lamp) está en camino y llega en 2 días.",
        ]

    async def test_a_stream_says_the_same_piece_by_piece(self):
        session = DjangoSession("desk", user=self.alice)
        result = Runner.run_streamed(
            desk.support_agent(),
            "Where is #1001?",
            context="alice",
            session=session,
            run_config=RUN_CONFIG,
        )
        pieces = [
            event.data.delta
            async for event in result.stream_events()
            if event.type == "raw_response_event"
            and event.data.type == "response.output_text.delta"
        ]
        assert len(pieces) > 5
        assert "".join(pieces) == result.final_output
        assert [result.final_output] == await self.ask("Where is #1001?")
        assert len(await session.get_items()) == 8


class Compatible(BaseHTTPRequestHandler):
    """The least of a server with OpenAI's chat completions."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, self.headers["Authorization"], asked))
        message = {"role": "assistant", "content": "Hello from over there."}
        answer = {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": asked["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        }
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *args):
        pass


class RealModelTests(TestCase):
    def setUp(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Compatible)
        self.server.asked = []
        self.addCleanup(self.server.server_close)
        thread = threading.Thread(target=self.server.serve_forever)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.server.shutdown)

    async def test_a_base_url_takes_the_place_of_the_offline_model(self):
        url = f"http://127.0.0.1:{self.server.server_port}/v1"
        environment = {
            "OPENAI_API_KEY": "",
            "OPENAI_BASE_URL": url,
            "OPENAI_DEFAULT_MODEL": "small",
        }
        user = await User.objects.acreate(username="alice")
        with mock.patch.dict(os.environ, environment):
            result = await desk.answer(
                "Hello", customer="alice", session=DjangoSession("desk", user=user)
            )
        assert result.final_output == "Hello from over there."
        ((path, key, asked),) = self.server.asked
        assert (path, key) == ("/v1/chat/completions", "Bearer none")
        assert asked["model"] == "small"
        assert asked["messages"][-1] == {"role": "user", "content": "Hello"}
        assert asked["tools"][0]["function"]["name"] == "look_up_order"
