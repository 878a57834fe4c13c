"""
The API behind a real ASGI server, asked at random by schemathesis.

Whatever it asks, knowing the schema: no answer is a failure of ours, and none is
missing in the schema.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.db import connection
from django.middleware.csrf import _get_new_csrf_string
from django.test import TransactionTestCase
from rest_framework.authtoken.models import Token

from agent_sessions import store
from tests.openapi import PATH
from tests.processes import start
from tests.projects.cases import say

SERVER = """
import socket, uvicorn
from django.conf import settings
from django.core.asgi import get_asgi_application
settings.ALLOWED_HOSTS = ["127.0.0.1"]
settings.ROOT_URLCONF = "tests.server_urls"
# With its protocol named, or asyncio leaves Nagle's algorithm on: 40 ms an answer.
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
listener.bind(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
config = uvicorn.Config(get_asgi_application(), lifespan="off", log_level="error")
uvicorn.Server(config).run(sockets=[listener])
"""
# Not what a schema can say: that a cursor comes from a page and a token from the
# server, or that what is sent with every request is what lets it in.
EXCLUDED = "ignored_auth,positive_data_acceptance"


@unittest.skipUnless(connection.vendor == "postgresql", "one database is enough")
class ServerTests(TransactionTestCase):
    def setUp(self):
        self.alice = User.objects.create_user("alice")
        for number in range(3):
            row = store.create_session(self.alice, metadata={"number": number})
            store.append_items(row, [say("hello")] * 30)
        self.server = start(SERVER)
        self.addCleanup(self.stop)
        self.url = f"http://127.0.0.1:{int(self.server.stdout.readline())}"

    def stop(self):
        self.server.terminate()
        _, errors = self.server.communicate(timeout=30)
        assert "Traceback" not in errors, errors

    def ask_at_random(self, headers, phases):
        done = subprocess.run(
            [
                Path(sys.executable).with_name("schemathesis"),
                "run",
                str(PATH),
                f"--url={self.url}",
                *(f"--header={name}: {value}" for name, value in headers.items()),
                f"--phases={phases}",
                f"--exclude-checks={EXCLUDED}",
                "--checks=all",
                "--max-examples=5",
                "--generation-database=none",
                "--no-color",
            ],
            # It leaves what it has found in the current folder.
            cwd=self.enterContext(tempfile.TemporaryDirectory()),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr
        assert "Tested: 18" in done.stdout

    def test_no_answer_to_a_token_is_missing_in_the_schema(self):
        token = Token.objects.create(user=self.alice)
        self.ask_at_random({"Authorization": f"Token {token.key}"}, "coverage,fuzzing")

    def test_no_answer_to_a_browser_is_missing_in_the_schema(self):
        session = SessionStore()
        session[SESSION_KEY] = str(self.alice.pk)
        session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
        session[HASH_SESSION_KEY] = self.alice.get_session_auth_hash()
        session.create()
        csrf = _get_new_csrf_string()
        cookies = f"sessionid={session.session_key}; csrftoken={csrf}"
        self.ask_at_random({"Cookie": cookies, "X-CSRFToken": csrf}, "fuzzing")

    def test_no_answer_to_a_stranger_is_missing_in_the_schema(self):
        self.ask_at_random({"X-Stranger": "yes"}, "fuzzing")
