"""Saying something else, asking again, and what becomes of what was there before."""

from __future__ import annotations

import os
from datetime import timedelta
from unittest import mock
from uuid import uuid4

from asgiref.sync import sync_to_async
from django.contrib.humanize.templatetags.humanize import intcomma
from django.test import AsyncClient, override_settings
from django.urls import reverse
from django.utils import timezone

from agent_sessions import store
from agent_sessions.models import AgentSession
from support_desk import runs
from support_desk.models import ChatRun
from support_desk.tests.cases import ChatCase, words

read_words = sync_to_async(words)


class ChangeTests(ChatCase):
    async def versions(self, row):
        return await sync_to_async(store.get_forks)(row)

    async def page(self, client, row):
        return await client.get(reverse("session", args=[row.pk]))

    async def usage(self, client, row):
        usage = await sync_to_async(store.read_usage)(row)
        page = await client.get(reverse("transcript", args=[row.pk]))
        self.assertContains(page, f"{intcomma(usage.total_tokens)} tokens")
        return usage

    async def test_a_message_is_changed_and_the_older_version_kept(self):
        client = await self.log_in(self.alice)
        row = await self.start(client, "I am Alice.")
        await self.post(client, "send", row.pk, text="What is my name?")
        await self.runs_end()
        before = await read_words(row)
        status, _ = await self.post(client, "edit", row.pk, turn=1, text="I am Carol.")
        await self.runs_end()
        assert status == 202
        said, answer = await read_words(row)
        assert said == ("user", "I am Carol.")
        assert "Carol" in answer[1]
        (older,) = await self.versions(row)
        assert await read_words(older) == before
        page = await self.page(client, row)
        self.assertContains(page, reverse("session", args=[older.pk]))
        self.assertContains(page, "Before your change of")

    async def test_an_answer_is_asked_for_again_and_the_older_one_kept(self):
        client = await self.log_in(self.alice)
        row = await self.start(client, "Where is #1001?")
        before = await sync_to_async(store.read_items)(row)
        self.assertContains(await self.page(client, row), "Ask again")
        assert (await self.post(client, "retry", row.pk))[0] == 202
        await self.runs_end()
        after = await sync_to_async(store.read_items)(row)
        assert [one.get("type") for one in after] == [one.get("type") for one in before]
        assert after[0] == before[0] and after[-1]["id"] != before[-1]["id"]
        (older,) = await self.versions(row)
        assert await sync_to_async(store.read_items)(older) == before

    async def test_a_change_that_is_sent_twice_is_one(self):
        client, run = await self.log_in(self.alice), str(uuid4())
        row = await self.start(client, "I am Alice.")
        change = {"turn": 1, "text": "I am Carol.", "seen": await self.see(row.pk)}
        for _ in range(2):
            status, _ = await self.post(client, "edit", row.pk, run=run, **change)
            assert status == 202
            await self.runs_end()
        assert len(await self.versions(row)) == 1
        assert len(await read_words(row)) == 2

    async def test_where_sessions_are_limited_the_page_says_so(self):
        client = await self.log_in(self.alice)
        row = await self.start(client, "I am Alice.")
        with override_settings(AGENT_SESSIONS_MAX_SESSIONS=1):
            status, content = await self.post(client, "start", text="Hello")
            assert status == 409
            assert "sessions" in content["error"]
            assert (await self.post(client, "send", row.pk, text="Hi"))[0] == 202
            await self.runs_end()
        assert [text for _, text in await read_words(row)][::2] == ["I am Alice.", "Hi"]
        assert await AgentSession.objects.acount() == 1

    async def test_where_a_session_is_full_the_page_says_so(self):
        client = await self.log_in(self.alice)
        row = await self.start(client, "I am Alice.")
        with override_settings(AGENT_SESSIONS_MAX_ITEMS=2):
            status, content = await self.post(client, "send", row.pk, text="Hi")
            assert status == 409
            assert "full" in content["error"]
        assert len(await read_words(row)) == 2
        # Room for the question, and none for the answer.
        with override_settings(AGENT_SESSIONS_MAX_ITEMS=3):
            assert (await self.post(client, "send", row.pk, text="Hi"))[0] == 202
            await self.runs_end()
        run = await ChatRun.objects.filter(session=row).order_by("-started_at").afirst()
        assert run.state == ChatRun.State.FAILED
        assert "full" in run.reason

    async def test_who_has_not_seen_all_of_it_changes_nothing(self):
        client = await self.log_in(self.alice)
        row = await self.start(client, "I am Alice.")
        seen = await self.see(row.pk)
        await self.post(client, "send", row.pk, text="What is my name?")
        await self.runs_end()
        before = await read_words(row)
        for name, data in (
            ("edit", {"turn": 1, "text": "I am Carol.", "seen": seen}),
            ("edit", {"turn": 7, "text": "I am Carol."}),
            ("retry", {"seen": seen}),
        ):
            status, content = await self.post(client, name, row.pk, **data)
            assert status == 409
            assert "changed meanwhile" in content["error"]
        for bad in ({"turn": 0}, {"turn": 1, "text": ""}, {"turn": 1, "seen": ""}):
            data = {"text": "I am Carol."} | bad
            status, content = await self.post(client, "edit", row.pk, **data)
            assert status == 400
            assert content["error"]
        assert await read_words(row) == before
        assert await self.versions(row) == []

    async def test_nothing_is_asked_again_where_nothing_was_asked(self):
        client = await self.log_in(self.alice)
        row = await sync_to_async(store.create_session)(self.alice)
        assert (await self.post(client, "retry", row.pk))[0] == 409
        assert not await ChatRun.objects.aexists()

    async def test_a_stopped_answer_that_gives_way_is_kept(self):
        client = await self.log_in(self.alice)
        os.environ["OFFLINE_PAUSE"] = "0.1"
        _, content = await self.post(client, "start", text="Tell me about your lamps")
        row = await AgentSession.objects.aget()
        response = await client.get(content["events"])
        async for part in response.streaming_content:
            if b"event: text" in part:
                await self.post(client, "stop", row.pk)
        half = await read_words(row)
        os.environ["OFFLINE_PAUSE"] = "0"
        await self.post(client, "retry", row.pk)
        await self.runs_end()
        (older,) = await self.versions(row)
        assert await read_words(older) == half
        assert len(await read_words(row)) == 2

    async def test_an_older_version_is_read_and_then_gone_on_from(self):
        client = await self.log_in(self.alice)
        row = await self.start(client, "I am Alice.")
        await self.post(client, "edit", row.pk, turn=1, text="I am Carol.")
        await self.runs_end()
        (older,) = await self.versions(row)
        page = await self.page(client, older)
        self.assertContains(page, "I am Alice.")
        self.assertContains(page, reverse("session", args=[row.pk]))
        for form in ("Your message", "Save and ask", "Ask again"):
            self.assertNotContains(page, form)
        change = reverse("change", args=[older.pk])
        await client.post(change, {"archived": "no"})
        self.assertContains(await self.page(client, older), "Your message")
        await self.post(client, "send", older.pk, text="What is my name?")
        await self.runs_end()
        assert (await read_words(older))[-1][1] == "Your name is Alice."
        self.assertContains(await client.get(reverse("home")), "older version")

    async def test_the_page_says_what_the_session_has_used(self):
        client = await self.log_in(self.alice)
        row = await self.start(client, "Where is #1001?")
        before = await self.usage(client, row)
        await self.post(client, "edit", row.pk, turn=1, text="Hello")
        await self.runs_end()
        after = await self.usage(client, row)
        # What was taken back was used all the same.
        assert (before.requests, after.requests) == (2, 3)
        assert 0 < before.total_tokens < after.total_tokens
        # A copy has used nothing.
        (older,) = await self.versions(row)
        self.assertNotContains(await self.page(client, older), "tokens")


class BusyTests(ChatCase):
    async def test_while_another_process_answers_nothing_else_is_asked(self):
        client = await self.log_in(self.alice)
        row = await self.start(client, "I am Alice.")
        await sync_to_async(store.acquire_lease)(row)
        for name, data in (
            ("send", {"text": "Hello"}),
            ("edit", {"turn": 1, "text": "I am Carol."}),
            ("retry", {}),
        ):
            status, content = await self.post(client, name, row.pk, **data)
            assert status == 409
            assert content["error"].startswith("Another answer is being written here")
        assert len(await read_words(row)) == 2
        assert await ChatRun.objects.acount() == 1
        # It was killed: what it held is free after a while.
        await AgentSession.objects.aupdate(leased_until=timezone.now())
        assert (await self.post(client, "retry", row.pk))[0] == 202
        await self.runs_end()
        assert (await AgentSession.objects.aget(pk=row.pk)).lease is None

    async def test_a_run_whose_session_another_has_taken_says_so(self):
        client = await self.log_in(self.alice)
        os.environ["OFFLINE_PAUSE"] = "0.2"
        with mock.patch.object(runs, "LEASE_TIME", timedelta(seconds=1)):
            await self.post(client, "start", text="Tell me about your lamps")
            # This process was asleep for longer than its lease.
            await AgentSession.objects.aupdate(lease=uuid4())
            await self.runs_end()
        run = await ChatRun.objects.aget()
        assert (run.state, run.reason) == ("failed", "The answer was interrupted.")
        row = await AgentSession.objects.aget()
        assert [role for role, _ in await read_words(row)] == ["user"]

    async def test_a_run_says_how_it_ended_before_its_lease_ends(self):
        client, release = await self.log_in(self.alice), store.release_lease
        ended = []

        def watch(session, lease, **options):
            ended.append(ChatRun.objects.get(pk=lease).state)
            return release(session, lease, **options)

        with mock.patch.object(store, "release_lease", watch):
            row = await self.start(client, "I am Alice.")
            with self.assertLogs("support_desk.runs", "ERROR"):
                await self.post(client, "send", row.pk, text="/fail, please")
                await self.runs_end()
        assert ended == ["finished", "failed"]

    async def test_without_a_script_a_page_says_what_was_refused(self):
        client = await self.log_in(self.alice)
        row = await self.start(client, "I am Alice.")
        await sync_to_async(store.acquire_lease)(row)
        data = {"text": "Are you <there>?", "run": str(uuid4())}
        for browser, status in ((client, 409), (AsyncClient(), 404)):
            response = await browser.post(reverse("send", args=[row.pk]), data)
            assert response.headers["Content-Type"].startswith("text/html")
            self.assertContains(response, "Are you &lt;there&gt;?", status_code=status)
