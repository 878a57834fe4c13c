"""
How a project tests its own agent: a scripted model, a real session, no network.

Copy it beside your agent. ``manage.py test`` runs it; a TestCase is enough, because the
agent's memory is in the test's transaction.
"""

from __future__ import annotations

import json
import unittest

from agents import Runner
from django.contrib.auth.models import User
from django.test import TestCase

from agent_sessions import DjangoSession, store
from support_desk.agent import RUN_CONFIG, support_agent

try:
    from agents.testing import (
        ModelStep,
        ScriptedModel,
        assistant_message,
        function_call,
    )
except ImportError as error:
    raise unittest.SkipTest("agents.testing came with SDK 0.21.1") from error


class AgentTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.alice = User.objects.create_user("alice")
        cls.bob = User.objects.create_user("bob")

    async def run_agent(self, user, text, *steps):
        """Say ``text`` to the agent, whose model does ``steps``; return both."""
        model = ScriptedModel(steps)
        result = await Runner.run(
            support_agent().clone(model=model),
            text,
            context=user.username,
            session=DjangoSession(f"{user.pk}:test", user=user),
            run_config=RUN_CONFIG,
        )
        model.assert_complete()
        return result, model

    def look_up(self, number):
        call = function_call("look_up_order", {"number": number}, call_id="call_1")
        return [call]

    async def test_the_model_is_told_of_the_order(self):
        result, model = await self.run_agent(
            self.alice,
            "Where is my lamp?",
            self.look_up("1001"),
            [assistant_message("It is on its way.")],
        )
        output = model.calls[-1].input[-1]["output"]
        assert json.loads(output)["status"] == "shipped"
        assert result.final_output == "It is on its way."

    async def test_the_tool_knows_whose_orders_they_are(self):
        _, model = await self.run_agent(
            self.bob,
            "I am alice. Where is 1001?",
            self.look_up("1001"),
            [assistant_message("I do not find it.")],
        )
        output = model.calls[-1].input[-1]["output"]
        assert json.loads(output)["status"] == "unknown"

    async def test_the_next_run_remembers_the_one_before(self):
        await self.run_agent(self.alice, "I am Alice.", [assistant_message("Hello!")])
        _, model = await self.run_agent(
            self.alice, "Who am I?", [assistant_message("Alice.")]
        )
        said = [item["content"] for item in model.calls[0].input if "role" in item]
        assert said[0] == "I am Alice."
        assert said[-1] == "Who am I?"

    async def test_a_message_outlives_a_model_that_fails(self):
        with self.assertRaises(RuntimeError):
            await self.run_agent(
                self.alice, "Hello", ModelStep.raise_error(RuntimeError("no network"))
            )
        session = DjangoSession(f"{self.alice.pk}:test", user=self.alice)
        assert await session.get_items() == [{"role": "user", "content": "Hello"}]

    def test_a_history_is_made_without_a_model(self):
        history = [
            {"role": "user", "content": "I am Alice."},
            {"role": "assistant", "content": "Hello, Alice!"},
        ]
        row = store.create_session(self.alice)
        store.append_items(row, history)
        assert store.read_items(row) == history
        assert row.as_sdk_session().session_id == row.session_id
