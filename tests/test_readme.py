"""The README's examples run, and it names all there is."""

from __future__ import annotations

import ast
import inspect
import io
import re
import zipfile
from pathlib import Path
from typing import Any
from unittest import mock

from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth import get_user_model
from django.core.signals import request_started
from django.db import close_old_connections
from django.test import RequestFactory, TestCase
from rest_framework.authtoken.models import Token
from rest_framework.test import RequestsClient

import agent_sessions.checks
from agent_sessions import DjangoSession, exceptions, store
from agent_sessions.conf import Settings
from agent_sessions.exceptions import SessionBusy
from tests.fakes import FakeModel, say

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


class ReadmeTests(TestCase):
    def test_the_examples_run(self):
        user = get_user_model().objects.create(username="ann")
        names: dict[str, Any] = {
            "__name__": "readme",
            "user": user,
            "sync_to_async": sync_to_async,
            "site": "http://testserver",
            "api_token": Token.objects.create(user=user).key,
        }
        assert len(BLOCKS) > 5
        self.enterContext(mock.patch("requests.Session", RequestsClient))
        # As Django's own test client does: its first releases of 5.2 would close the
        # connection that this test's transaction is on.
        request_started.disconnect(close_old_connections)
        self.addCleanup(request_started.connect, close_old_connections)
        for block in BLOCKS:
            flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            code = compile(block, "README.md", "exec", flags=flags)
            if code.co_flags & inspect.CO_COROUTINE:

                async def run(code: Any = code) -> None:
                    await eval(code, names)

                async_to_sync(run)()
            else:
                exec(code, names)
        assert "agent_sessions" in names["INSTALLED_APPS"]
        assert names["items"][-1]["content"] == "Where is my order?"

        assert names["renamed"].json()["metadata"]["vip"] is True
        assert names["history"] and names["markdown"].startswith("# Order 1001")
        assert names["prune_old_sessions"]() == "0 sessions, 0 items"
        assert names["prune_what_visitors_left"]() == 0

        request = RequestFactory().get("/")
        request.user = user
        archive = b"".join(names["download_my_sessions"](request).streaming_content)
        assert zipfile.ZipFile(io.BytesIO(archive)).testzip() is None

        request = RequestFactory().post("/", {"text": "hello"})
        request.user = user
        request.auser = sync_to_async(lambda: user)
        names["agent"].model = FakeModel([say("Hello Ann")])
        response = async_to_sync(names["chat"])(request)
        assert response.content == b'{"answer": "Hello Ann"}'
        assert len(store.read_items(f"{user.pk}:support", user=user)) == 2

        names["agent"].model = FakeModel([say("Here I am")])
        alone = async_to_sync(names["answer_alone"])
        session = DjangoSession("alone", user=user)
        assert alone(session, "Hello?").final_output == "Here I am"
        store.acquire_lease("alone", user=user)
        with mock.patch("asyncio.sleep", side_effect=SessionBusy):
            assert alone(session, "Hello?") is None

        request.session = {"agent_session_id": "a visitor's"}
        store.append_items("a visitor's", [{"role": "user", "content": "hello"}])
        for _ in range(2):
            names["keep_visitors_session"](None, request, user)
        assert len(store.read_items("a visitor's", user=user)) == 1


def test_every_setting_check_error_and_verb_is_named():
    source = Path(agent_sessions.checks.__file__).read_text()
    names = [
        *(name for name in dir(Settings) if name.startswith("AGENT_SESSIONS_")),
        *re.findall(r'id="(agent_sessions\.[EW]\d{3})"', source),
        *(
            name
            for name, error in vars(exceptions).items()
            if isinstance(error, type)
            and issubclass(error, exceptions.AgentSessionError)
        ),
    ]
    assert len(names) > 15
    assert [name for name in names if f"`{name}" not in README] == []
