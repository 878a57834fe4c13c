from __future__ import annotations

import os
import re

from asgiref.sync import sync_to_async
from django.test import AsyncClient, override_settings
from django.urls import reverse

from agent_sessions.models import AgentSession
from support_desk.tests.cases import ChatCase, words


@override_settings(DEBUG=True)
class VisitorTests(ChatCase):
    async def log_in_as(self, client, username):
        """Press the button of the login page, with the tokens that it carries."""
        page = await client.get(reverse("login"))
        claims = re.findall(r'name="claim" value="([^"]+)"', page.content.decode())
        click = {"username": username, "claim": list(dict.fromkeys(claims))}
        return click, await client.post(reverse("demo_login"), click)

    async def test_a_visitor_talks_and_nobody_else_reads_it(self):
        visitor, other = AsyncClient(), AsyncClient()
        row = await self.start(visitor, "I am Sam.")
        assert row.user_id is None
        url = reverse("session", args=[row.pk])
        assert (await visitor.get(url)).status_code == 200
        assert (await other.get(url)).status_code == 404
        assert (await (await self.log_in(self.alice)).get(url)).status_code == 404
        self.assertContains(await visitor.get(reverse("home")), url)

    async def test_login_takes_the_visitors_session_along_once(self):
        visitor = AsyncClient()
        row = await self.start(visitor, "I am Sam.")
        click, response = await self.log_in_as(visitor, "alice")
        self.assertRedirects(
            response, reverse("session", args=[row.pk]), fetch_redirect_response=False
        )
        await row.arefresh_from_db()
        assert row.user_id == self.alice.pk
        # The same form again, as with the browser's back button, by somebody else.
        response = await AsyncClient().post(
            reverse("demo_login"), {**click, "username": "bob"}
        )
        self.assertRedirects(response, reverse("home"), fetch_redirect_response=False)
        await row.arefresh_from_db()
        assert row.user_id == self.alice.pk
        _, _ = await self.post(visitor, "send", row.pk, text="What is my name?")
        await self.runs_end()
        said = await sync_to_async(words)(row)
        assert said[-1] == ("assistant", "Your name is Sam.")

    async def test_older_versions_are_the_visitors_too_and_come_along(self):
        visitor, other = AsyncClient(), AsyncClient()
        row = await self.start(visitor, "I am Sam.")
        await self.post(visitor, "edit", row.pk, turn=1, text="I am Kim.")
        await self.runs_end()
        older = await AgentSession.objects.aget(forked_from=row.pk)
        url = reverse("session", args=[older.pk])
        assert (await visitor.get(url)).status_code == 200
        assert (await other.get(url)).status_code == 404
        # Who goes on from it changes things there as well.
        await visitor.post(reverse("change", args=[older.pk]), {"archived": "no"})
        await self.post(visitor, "edit", older.pk, turn=1, text="I am Lea.")
        await self.runs_end()
        oldest = await AgentSession.objects.aget(forked_from=older.pk)
        url = reverse("session", args=[oldest.pk])
        assert (await visitor.get(url)).status_code == 200
        _, response = await self.log_in_as(visitor, "alice")
        # To where they were last.
        self.assertRedirects(
            response, reverse("session", args=[older.pk]), fetch_redirect_response=False
        )
        assert await AgentSession.objects.filter(user=self.alice).acount() == 3

    async def test_login_in_mid_answer_asks_to_ask_again(self):
        os.environ["OFFLINE_PAUSE"] = "0.01"
        visitor = AsyncClient()
        await self.post(visitor, "start", text="I am Sam. About your lamps!")
        await self.log_in_as(visitor, "alice")
        await self.runs_end()
        row = await AgentSession.objects.aget(user=self.alice)
        page = await visitor.get(reverse("session", args=[row.pk]))
        self.assertContains(page, "This session moved into an account.")
        os.environ["OFFLINE_PAUSE"] = "0"
        await self.post(visitor, "retry", row.pk)
        await self.runs_end()
        said = await sync_to_async(words)(row)
        assert [role for role, _ in said] == ["user", "assistant"]

    async def test_a_password_takes_the_session_along_too(self):
        visitor = AsyncClient()
        row = await self.start(visitor, "I am Sam.")
        page = await visitor.get(reverse("login"))
        (claim, *_) = re.findall(r'name="claim" value="([^"]+)"', page.content.decode())
        await visitor.post(
            reverse("login"),
            {"username": "bob", "password": "builder", "claim": claim},
        )
        await row.arefresh_from_db()
        assert row.user_id == self.bob.pk

    async def test_logging_out_leaves_nothing_behind(self):
        client = await self.log_in(self.alice)
        row = await self.start(client, "I am Alice.")
        await client.post(reverse("logout"))
        url = reverse("session", args=[row.pk])
        assert (await client.get(url)).status_code == 404
        assert await AgentSession.objects.anonymous().acount() == 0
