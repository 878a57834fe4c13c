from __future__ import annotations

import asyncio
import os
from unittest import mock
from uuid import uuid4

from asgiref.sync import sync_to_async
from django.urls import reverse
from django.utils import timezone

from agent_sessions import store
from agent_sessions.models import AgentSession
from support_desk import runs
from support_desk.models import ChatRun
from support_desk.tests.cases import ChatCase, parse, words

read_words = sync_to_async(words)


class RunTests(ChatCase):
    def setUp(self):
        super().setUp()
        os.environ["OFFLINE_PAUSE"] = "0.01"

    async def events(self, client, content, **headers):
        response = await client.get(content["events"], headers=headers)
        assert response.headers["Content-Type"] == "text/event-stream"
        return parse(b"".join([part async for part in response.streaming_content]))

    async def test_an_answer_is_streamed_in_words_with_the_tool_call(self):
        client = await self.log_in(self.alice)
        status, content = await self.post(client, "start", text="Where is #1001?")
        assert status == 202
        events = await self.events(client, content)
        names = [name for name, _ in events]
        assert names[:2] == ["tool", "tool_done"]
        assert names[-1] == "end"
        assert events[0][1]["name"] == "look_up_order"
        pieces = [data for name, data in events if name == "text"]
        assert len(pieces) > 5
        row = await AgentSession.objects.aget()
        assert (await read_words(row))[-1] == ("assistant", "".join(pieces))
        assert (await ChatRun.objects.aget()).state == "finished"

    async def test_who_comes_back_hears_what_was_missed(self):
        client = await self.log_in(self.alice)
        _, content = await self.post(client, "start", text="Where is #1001?")
        whole = await self.events(client, content)
        _, content = await self.post(
            client, "send", content["session"].split("/")[2], text="Where is #1001?"
        )
        rest = await self.events(client, content, **{"Last-Event-ID": "2"})
        assert rest == whole[2:]

    async def test_nobody_listens_to_somebody_elses_run(self):
        alice, bob = await self.log_in(self.alice), await self.log_in(self.bob)
        _, content = await self.post(alice, "start", text="Where is #1001?")
        mine = await self.start(bob, "Hello")
        run = content["events"].split("/")[-2]
        for url in (content["events"], reverse("events", args=[mine.pk, run])):
            assert (await bob.get(url)).status_code == 404

    async def test_who_comes_late_still_hears_it(self):
        client = await self.log_in(self.alice)
        _, content = await self.post(client, "start", text="Where is #1001?")
        await self.runs_end()
        assert len(await self.events(client, content)) > 5

    async def test_the_run_goes_on_when_nobody_listens(self):
        client = await self.log_in(self.alice)
        row = await self.start(client, "I am Alice.")
        assert len(await read_words(row)) == 2

    async def test_a_message_sent_twice_is_one(self):
        client, run = await self.log_in(self.alice), str(uuid4())
        both = [
            await self.post(client, "start", run=run, text="Hello") for _ in range(2)
        ]
        await self.runs_end()
        assert [status for status, _ in both] == [202, 202]
        assert both[0][1]["session"] == both[1][1]["session"]
        row = await AgentSession.objects.aget()
        assert [role for role, _ in await read_words(row)] == ["user", "assistant"]
        run = str(uuid4())
        for _ in range(2):
            await self.post(client, "send", row.pk, run=run, text="Thanks")
            await self.runs_end()
        assert len(await read_words(row)) == 4

    async def test_of_two_tabs_one_is_refused(self):
        client = await self.log_in(self.alice)
        row = await self.start(client, "I am Alice.")
        first, second = await asyncio.gather(
            *(self.post(client, "send", row.pk, text=f"Hello {n}") for n in range(2))
        )
        assert sorted([first[0], second[0]]) == [202, 409]
        await self.runs_end()
        assert len(await read_words(row)) == 4

    async def test_a_failed_answer_is_asked_for_again_without_saying_it_twice(self):
        client = await self.log_in(self.alice)
        with self.assertLogs("support_desk.runs", "ERROR") as logs:
            row = await self.start(client, "/fail my secret")
        assert "secret" not in str(logs.output)
        assert [role for role, _ in await read_words(row)] == ["user"]
        response = await client.get(reverse("session", args=[row.pk]))
        self.assertContains(response, "The model did not answer.")
        self.assertContains(response, "Ask again")
        seen = await self.see(row.pk)
        status, _ = await self.post(client, "retry", row.pk)
        await self.runs_end()
        assert status == 202
        assert [role for role, _ in await read_words(row)] == ["user", "assistant"]
        # In a tab that has not heard of the answer.
        status, _ = await self.post(client, "retry", row.pk, seen=seen)
        assert status == 409

    async def test_a_tool_that_has_run_does_not_run_again(self):
        try:
            from agents import testing
        except ImportError:
            self.skipTest("agents.testing came with SDK 0.21.1")
        model = testing.ScriptedModel(
            [
                [testing.function_call("look_up_order", {"number": "1"}, call_id="1")],
                testing.ModelStep.raise_error(RuntimeError("no network")),
                [testing.assistant_message("It is on its way.")],
            ]
        )
        self.enterContext(
            mock.patch("support_desk.agent.choose_model", return_value=model)
        )
        client = await self.log_in(self.alice)
        with self.assertLogs("support_desk.runs", "ERROR"):
            row = await self.start(client, "Where is my lamp?")
        await self.post(client, "retry", row.pk)
        await self.runs_end()
        items = await sync_to_async(store.read_items)(row)
        assert [item.get("type") for item in items] == [
            None,
            "function_call",
            "function_call_output",
            "message",
        ]

    async def test_a_stopped_answer_stays_as_far_as_it_was_said(self):
        client = await self.log_in(self.alice)
        os.environ["OFFLINE_PAUSE"] = "0.1"
        _, content = await self.post(client, "start", text="Tell me about your lamps")
        pk = content["session"].split("/")[2]
        response = await client.get(content["events"])
        heard = b""
        async for part in response.streaming_content:
            heard += part
            if heard.count(b"event: text") == 5:
                await self.post(client, "stop", pk)
        events = parse(heard)
        self.assertEqual(events[-1], ("end", "stopped"))
        row = await AgentSession.objects.aget()
        said = "".join(data for name, data in events if name == "text")
        assert (await read_words(row))[-1] == ("assistant", said)
        response = await client.get(reverse("session", args=[pk]))
        self.assertContains(response, "Stopped here.")
        os.environ["OFFLINE_PAUSE"] = "0"
        await self.post(client, "retry", pk)
        await self.runs_end()
        _, text = (await read_words(row))[-1]
        assert text.startswith(said) and len(text) > len(said)
        assert len(await read_words(row)) == 2

    async def test_a_stop_reaches_a_run_of_another_process(self):
        client = await self.log_in(self.alice)
        with mock.patch.object(runs, "WATCH_SECONDS", 0.05):
            os.environ["OFFLINE_PAUSE"] = "0.1"
            await self.post(client, "start", text="Tell me about your lamps")
            await ChatRun.objects.aupdate(stopping=True)
            await self.runs_end()
        assert (await ChatRun.objects.aget()).state == "stopped"

    async def test_a_run_whose_process_died_makes_room(self):
        client = await self.log_in(self.alice)
        row = await self.start(client, "I am Alice.")
        run = await ChatRun.objects.acreate(pk=uuid4(), session=row)
        await sync_to_async(store.acquire_lease)(row, lease=run.pk)
        assert (await self.post(client, "send", row.pk, text="Hello"))[0] == 409
        await AgentSession.objects.aupdate(leased_until=timezone.now())
        await sync_to_async(store.append_items)(
            row, [{"role": "user", "content": "Hello"}]
        )
        response = await client.get(reverse("session", args=[row.pk]))
        self.assertContains(response, "The answer was interrupted.")
        assert (await self.post(client, "retry", row.pk))[0] == 202
        await self.runs_end()
        assert len(await read_words(row)) == 4

    async def test_a_run_of_another_process_is_waited_for(self):
        client = await self.log_in(self.alice)
        row = await self.start(client, "I am Alice.")
        run = await ChatRun.objects.acreate(pk=uuid4(), session=row)
        await sync_to_async(store.acquire_lease)(row, lease=run.pk)
        end = asyncio.get_running_loop().call_later(
            0.2,
            lambda: asyncio.ensure_future(
                ChatRun.objects.filter(pk=run.pk).aupdate(state="finished")
            ),
        )
        url = reverse("events", args=[row.pk, run.pk])
        assert await self.events(client, {"events": url}) == [("end", "finished")]
        end.cancel()

    async def test_a_session_that_is_deleted_meanwhile_says_so(self):
        client = await self.log_in(self.alice)
        _, content = await self.post(client, "start", text="Hello")
        row = await AgentSession.objects.aget()
        await sync_to_async(store.delete_session)(row)
        assert (await self.events_or_404(client, content)) == 404
        await self.runs_end()
        assert (await self.post(client, "send", row.pk, text="Hello"))[0] == 404
        assert not await ChatRun.objects.aexists()

    async def events_or_404(self, client, content):
        return (await client.get(content["events"])).status_code

    async def test_words_that_are_none_are_refused(self):
        client = await self.log_in(self.alice)
        for bad in ({"text": " "}, {"text": "x" * 2001}, {"text": "x", "run": "1"}):
            status, content = await self.post(client, "start", **bad)
            assert status == 400
            assert content["error"]
        assert not await AgentSession.objects.aexists()

    async def test_without_a_script_a_form_leads_to_the_session(self):
        client = await self.log_in(self.alice)
        response = await client.post(
            reverse("start"), {"text": "Hello", "run": str(uuid4())}
        )
        await self.runs_end()
        row = await AgentSession.objects.aget()
        self.assertRedirects(
            response, reverse("session", args=[row.pk]), fetch_redirect_response=False
        )
