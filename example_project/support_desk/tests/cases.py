from __future__ import annotations

import asyncio
import json
import os
from unittest import mock
from uuid import uuid4

from django.contrib.auth.models import User
from django.test import AsyncClient, TransactionTestCase, override_settings
from django.urls import reverse

from agent_sessions import store
from agent_sessions.crossing import close_connections
from agent_sessions.models import AgentSession
from support_desk import runs
from support_desk.demo_users import create_demo_users

OFFLINE = {"OFFLINE_PAUSE": "0", "OPENAI_API_KEY": "", "OPENAI_BASE_URL": ""}
# What is slow on purpose would take most of the tests' time.
FAST = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@override_settings(PASSWORD_HASHERS=FAST)
class ChatCase(TransactionTestCase):
    """
    The site as its own JavaScript sees it, without a network and without pauses.

    Not a TestCase: runs outlive their request and have connections of their own.
    """

    def setUp(self):
        self.enterContext(mock.patch.dict(os.environ, OFFLINE))
        self.addCleanup(close_connections)
        create_demo_users()
        self.alice, self.bob, self.support = User.objects.order_by("username")

    async def log_in(self, user):
        client = AsyncClient()
        await client.aforce_login(user)
        return client

    async def post(self, client, name, pk=None, **data):
        """Return the answer's status and JSON; wait until the run has ended."""
        url = reverse(name, args=[pk] if pk else [])
        data.setdefault("run", str(uuid4()))
        if name in ("edit", "retry"):
            data.setdefault("seen", await self.see(pk))
        response = await client.post(url, data, headers={"Accept": "application/json"})
        content = json.loads(response.content) if response.content else {}
        return response.status_code, content

    async def see(self, pk):
        """Return what a page that is loaded now says of how far the session went."""
        rows = AgentSession.objects.filter(pk=pk)
        return await rows.values_list("next_position", flat=True).afirst() or 0

    async def start(self, client, text):
        """Send the first words, wait for the answer, and return the session's row."""
        status, content = await self.post(client, "start", text=text)
        assert status == 202, content
        await self.runs_end()
        return await AgentSession.objects.aget(pk=content["session"].split("/")[2])

    async def runs_end(self):
        while runs._tasks:
            await asyncio.gather(*runs._tasks)


def words(row):
    """Return who said what in the session, without the tools."""
    return [
        (item["role"], item["content"])
        if isinstance(item["content"], str)
        else (item["role"], item["content"][0]["text"])
        for item in store.read_items(row)
        if "role" in item
    ]


def parse(stream):
    """Return the events of a stream of server-sent events."""
    blocks = stream.decode().strip().split("\n\n")
    lines = [
        dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks
    ]
    return [(one["event"], json.loads(one["data"])) for one in lines if "event" in one]
