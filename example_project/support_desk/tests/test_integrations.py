from __future__ import annotations

import os
from io import StringIO
from unittest import mock

from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import TestCase, override_settings
from django.urls import reverse

from agent_sessions import store
from agent_sessions.models import AgentSession
from support_desk.demo_users import create_demo_users
from support_desk.models import PendingApproval
from support_desk.tests.cases import FAST, OFFLINE, ChatCase, parse, words

ORDER = "Order #1001, the Luna lamp, is on its way and arrives in 2 days."


@override_settings(PASSWORD_HASHERS=FAST)
class IntegrationTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        create_demo_users()
        cls.alice, cls.bob, cls.support = User.objects.order_by("username")

    def setUp(self):
        self.enterContext(mock.patch.dict(os.environ, OFFLINE))
        self.client.force_login(self.alice)

    def ask(self, name, text, **data):
        return self.client.post(reverse(name), {"text": text, **data})

    async def test_an_async_view_streams(self):
        await self.async_client.aforce_login(self.alice)
        response = await self.async_client.post(
            reverse("ask_sse"), {"text": "Where is #1001?"}
        )
        events = parse(b"".join([part async for part in response.streaming_content]))
        assert events[-1] == ("end", None)
        assert "".join(data for name, data in events if name == "text") == ORDER

    async def test_a_stream_says_that_the_model_failed(self):
        await self.async_client.aforce_login(self.alice)
        response = await self.async_client.post(
            reverse("ask_sse"), {"text": "/fail in a stream"}
        )
        stream = b"".join([part async for part in response.streaming_content])
        assert parse(stream) == [("failed", None)]

    def test_a_sync_view_answers_and_remembers(self):
        self.ask("ask_sync", "I am Alice.")
        answer = self.ask("ask_sync", "What is my name?").json()
        assert answer == {"answer": "Your name is Alice."}
        assert self.ask("ask_sync", "/fail in a view").status_code == 502

    def test_a_drf_view_goes_on_in_ones_own_session_only(self):
        first = self.ask("ask_drf", "I am Alice.").json()
        again = self.ask("ask_drf", "What is my name?", session=first["session"])
        assert again.json() == {**first, "answer": "Your name is Alice."}
        assert self.ask("ask_drf", "").status_code == 400
        self.client.force_login(self.bob)
        foreign = self.ask("ask_drf", "Who?", session=first["session"])
        assert foreign.status_code == 404
        self.client.logout()
        assert self.ask("ask_drf", "Who?").status_code in (401, 403)

    def test_a_command_answers_and_remembers(self):
        said = StringIO()
        for text in ("I am Alice.", "What is my name?"):
            call_command("ask_support", "alice", text, stdout=said)
        assert said.getvalue().endswith("Your name is Alice.\n")
        with self.assertRaisesMessage(CommandError, "no user 'nobody'"):
            call_command("ask_support", "nobody", "Hello")


class WorkerTests(ChatCase):
    def test_a_worker_answers_what_the_request_stored(self):
        self.client.force_login(self.alice)
        response = self.client.post(reverse("ask_later"), {"text": "Where is #1001?"})
        assert response.status_code == 202
        row = AgentSession.objects.get(pk=response.json()["session"])
        assert words(row) == [("user", "Where is #1001?")]
        call_command("db_worker", "--batch", "--no-startup-delay", verbosity=0)
        said = [("user", "Where is #1001?"), ("assistant", ORDER)]
        assert words(row) == said
        # A queue may deliver twice.
        from support_desk.integrations.background_task import answer_session

        answer_session.call(str(row.pk))
        assert words(row) == said
        store.delete_session(row)
        answer_session.call(str(row.pk))


class ApprovalTests(ChatCase):
    def setUp(self):
        super().setUp()
        self.client.force_login(self.alice)
        self.answer = self.client.post(
            reverse("ask_refund"), {"text": "I want a refund for order #1001."}
        ).json()
        self.row = AgentSession.objects.get()
        self.decision = reverse("decide", args=[self.answer["waits_for"]])

    def test_nothing_is_done_before_somebody_decides(self):
        assert self.answer["answer"] is None
        assert [role for role, _ in words(self.row)] == ["user"]
        # Customers do not decide, nor see what others wait for.
        assert self.client.post(self.decision, {"approve": "yes"}).status_code == 403
        assert self.client.get(reverse("pending")).status_code == 403

    def test_an_approved_run_goes_on_in_the_same_session(self):
        self.client.force_login(self.support)
        (waiting,) = self.client.get(reverse("pending")).json()["pending"]
        assert waiting["question"] == 'refund_order {"number": "1001"}'
        answer = self.client.post(self.decision, {"approve": "yes"}).json()
        self.assertEqual(
            answer["answer"], "Order #1001 is refunded: the money is on its way."
        )
        assert [role for role, _ in words(self.row)] == ["user", "assistant"]
        kinds = [item.get("type") for item in store.read_items(self.row)]
        assert kinds == [None, "function_call", "function_call_output", "message"]
        approval = PendingApproval.objects.get()
        assert (approval.decided_by, approval.state) == (self.support, "")
        assert self.client.get(reverse("pending")).json() == {"pending": []}
        assert self.client.post(self.decision, {"approve": "yes"}).status_code == 409

    def test_a_refused_run_tells_the_model_so(self):
        self.client.force_login(self.support)
        answer = self.client.post(self.decision, {"approve": "no"}).json()
        assert "refunded" not in answer["answer"]
        output = store.read_items(self.row)[2]["output"]
        assert "not approved" in output
