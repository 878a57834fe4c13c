"""Real runs of the SDK on DjangoSession."""

from __future__ import annotations

from typing import Any

from agents import (
    GuardrailFunctionOutput,
    InputGuardrail,
    InputGuardrailTripwireTriggered,
    MaxTurnsExceeded,
    OutputGuardrail,
    OutputGuardrailTripwireTriggered,
    RunConfig,
    Runner,
    SessionSettings,
    function_tool,
    handoff,
)
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth import get_user_model
from django.test import TestCase, TransactionTestCase

from agent_sessions import DjangoSession, store
from agent_sessions.crossing import close_connections
from agent_sessions.exceptions import InvalidItem, SessionExists
from agent_sessions.models import AgentSession, SessionItem
from tests.fakes import RUN_CONFIG, agent, call, say, think

User = get_user_model()


@function_tool
def look_up_order(number: int) -> str:
    """Tell where an order is."""
    return f"Order {number} is on its way."


def kinds(items: list[Any]) -> list[str]:
    return [item.get("type") or item["role"] for item in items]


async def run(asked: Any, words: Any, session: Any, **options: Any) -> Any:
    options.setdefault("run_config", RUN_CONFIG)
    return await Runner.run(asked, words, session=session, **options)


class RunTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.alice = User.objects.create(username="alice")

    def session(self, **options: Any) -> DjangoSession:
        return DjangoSession("support-42", user=self.alice, **options)

    async def test_a_conversation_goes_on_from_the_database(self):
        await run(agent([say("Hello Ann")]), "I am Ann", self.session())
        second = agent([say("You are Ann")])
        result = await run(second, "Who am I?", self.session())
        assert result.final_output == "You are Ann"
        asked = second.model.inputs[0]
        assert [item["role"] for item in asked] == ["user", "assistant", "user"]
        assert asked[0]["content"] == "I am Ann"
        row = await AgentSession.objects.aget()
        assert (row.user_id, row.preview) == (self.alice.pk, "I am Ann")
        assert (row.item_count, row.turn_count) == (4, 2)

    async def test_a_tool_call_is_kept_with_its_output(self):
        asked = agent(
            [think("an order"), call("look_up_order", '{"number": 7}')],
            [say("On its way")],
            tools=[look_up_order],
        )
        await run(asked, "Where is order 7?", self.session())
        items = await self.session().get_items()
        assert kinds(items) == [
            "user",
            "reasoning",
            "function_call",
            "function_call_output",
            "message",
        ]
        assert items[3]["output"] == "Order 7 is on its way."
        turns = SessionItem.objects.in_order().values_list("turn", flat=True)
        assert [turn async for turn in turns] == [1] * 5

    async def test_a_streamed_run_is_kept_too(self):
        asked = agent(
            [call("look_up_order", '{"number": 7}')],
            [say("On its way")],
            tools=[look_up_order],
        )
        result = Runner.run_streamed(
            asked, "Where?", session=self.session(), run_config=RUN_CONFIG
        )
        async for _ in result.stream_events():
            pass
        assert result.final_output == "On its way"
        items = await self.session().get_items()
        assert kinds(items) == [
            "user",
            "function_call",
            "function_call_output",
            "message",
        ]

    async def test_a_handoff_is_kept(self):
        billing = agent([say("Billing here")])
        billing.name = "billing"
        front = agent([call("transfer_to_billing")], handoffs=[handoff(billing)])
        result = await run(front, "My invoice?", self.session())
        assert result.final_output == "Billing here"
        items = await self.session().get_items()
        assert kinds(items) == [
            "user",
            "function_call",
            "function_call_output",
            "message",
        ]
        follow_up = agent([say("Yes")])
        await run(follow_up, "Still there?", self.session())
        assert len(follow_up.model.inputs[0]) == 5

    async def test_an_input_tripwire_leaves_the_input(self):
        async def alarm(context: Any, agent: Any, words: Any) -> Any:
            return GuardrailFunctionOutput(output_info=None, tripwire_triggered=True)

        guarded = agent([say("never")], input_guardrails=[InputGuardrail(alarm)])
        with self.assertRaises(InputGuardrailTripwireTriggered):
            await run(guarded, "bad words", self.session())
        assert kinds(await self.session().get_items()) == ["user"]

    async def test_an_output_tripwire_drops_the_answer(self):
        async def alarm(context: Any, agent: Any, words: Any) -> Any:
            return GuardrailFunctionOutput(output_info=None, tripwire_triggered=True)

        await run(agent([say("fine")]), "first", self.session())
        guarded = agent([say("bad")], output_guardrails=[OutputGuardrail(alarm)])
        with self.assertRaises(OutputGuardrailTripwireTriggered):
            await run(guarded, "second", self.session())
        items = await self.session().get_items()
        assert kinds(items) == ["user", "message", "user"]

    async def test_a_model_error_leaves_the_input(self):
        with self.assertRaises(ConnectionError):
            await run(agent(ConnectionError("down")), "hello", self.session())
        assert kinds(await self.session().get_items()) == ["user"]

    async def test_too_many_turns_leave_a_readable_history(self):
        looping = agent(
            [call("look_up_order", '{"number": 1}', call_id="c1")],
            [call("look_up_order", '{"number": 2}', call_id="c2")],
            tools=[look_up_order],
        )
        with self.assertRaises(MaxTurnsExceeded):
            await run(looping, "loop", self.session(), max_turns=2)
        items = await self.session().get_items()
        assert kinds(items)[0] == "user"
        calls = [i["call_id"] for i in items if i.get("type") == "function_call"]
        outputs = [
            i["call_id"] for i in items if i.get("type") == "function_call_output"
        ]
        assert calls == outputs
        await run(agent([say("again")]), "go on", self.session())

    async def test_an_interrupted_run_resumes_on_the_same_session(self):
        @function_tool(needs_approval=True)
        def refund(number: int) -> str:
            return f"Refunded {number}"

        asked = agent(
            [call("refund", '{"number": 7}')], [say("Refunded")], tools=[refund]
        )
        session = self.session()
        result = await run(asked, "Refund order 7", session)
        assert len(result.interruptions) == 1
        state = result.to_state()
        state.approve(result.interruptions[0])
        resumed = await run(asked, state, self.session())
        assert resumed.final_output == "Refunded"
        items = await self.session().get_items()
        assert kinds(items) == [
            "user",
            "function_call",
            "function_call_output",
            "message",
        ]

    async def test_an_input_callback_sees_history_and_stores_the_new_part(self):
        await run(agent([say("one")]), "first", self.session())
        seen: list[Any] = []

        def keep_last(history: list[Any], new: list[Any]) -> list[Any]:
            seen.append((len(history), len(new)))
            return history[-1:] + new

        asked = agent([say("two")])
        config = RunConfig(tracing_disabled=True, session_input_callback=keep_last)
        await run(asked, "second", self.session(), run_config=config)
        assert seen == [(2, 1)]
        assert len(asked.model.inputs[0]) == 2
        assert len(await self.session().get_items()) == 4

    async def test_settings_of_the_run_and_of_the_session_limit_the_history(self):
        for number in range(3):
            await run(agent([say("ok")]), str(number), self.session())
        limited = agent([say("ok")])
        await run(limited, "3", self.session(session_settings=SessionSettings(limit=2)))
        assert len(limited.model.inputs[0]) == 3
        config = RunConfig(
            tracing_disabled=True, session_settings=SessionSettings(limit=4)
        )
        limited = agent([say("ok")])
        session = self.session(session_settings={"limit": 2})
        await run(limited, "4", session, run_config=config)
        assert len(limited.model.inputs[0]) == 5

    async def test_what_is_no_json_is_refused_and_the_session_goes_on(self):
        session = self.session()
        with self.assertRaises(InvalidItem):
            await session.add_items([{"role": "user", "content": b"x"}])
        await run(agent([say("fine")]), "hello", session)
        assert len(await session.get_items()) == 2

    async def test_rewinding_as_the_runner_does_it(self):
        session = self.session()
        await run(agent([say("ok")]), "hello", session)
        popped = [await session.pop_item() for _ in range(3)]
        assert kinds(popped[:2]) == ["message", "user"]
        assert popped[2] is None
        await run(agent([say("ok")]), "hello", session)
        assert len(await session.get_items()) == 2


class VerbTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.alice = User.objects.create(username="alice")
        cls.bob = User.objects.create(username="bob")

    async def test_a_created_session_exists_at_once(self):
        session = await DjangoSession.create_session(
            self.alice,
            title="Order 42",
            metadata={"channel": "web"},
            session_settings={"limit": 5},
        )
        row = await AgentSession.objects.aget(session_id=session.session_id)
        assert (row.user_id, row.title) == (self.alice.pk, "Order 42")
        assert row.metadata == {"channel": "web"}
        assert (row.item_count, row.preview) == (0, "")
        assert session.user_id == self.alice.pk
        assert session.session_settings == SessionSettings(limit=5)
        assert session.pk == row.pk
        unseen = DjangoSession(session.session_id, user=self.alice)
        assert unseen.pk is None
        await unseen.get_items()
        assert unseen.pk == row.pk
        # What opens an anonymous session must not stand in URLs.
        assert str(row.pk) != session.session_id

    async def test_a_taken_id_does_not_tell_by_whom(self):
        await DjangoSession.create_session(self.alice, session_id="s")
        messages = set()
        for user in (self.alice, self.bob, None):
            with self.assertRaises(SessionExists) as caught:
                await DjangoSession.create_session(user, session_id="s")
            messages.add(str(caught.exception))
        assert len(messages) == 1

    async def test_a_session_is_found_by_its_user_only(self):
        await DjangoSession.create_session(self.alice, session_id="s")
        found = await DjangoSession.get_session(
            self.alice, "s", session_settings={"limit": 1}
        )
        assert found.session_id == "s"
        assert found.session_settings.limit == 1
        assert await DjangoSession.get_session(self.bob, "s") is None
        assert await DjangoSession.get_session(None, "s") is None
        assert await DjangoSession.get_session(self.alice, "t") is None

    async def test_lists_are_newest_activity_first(self):
        ids = ["a", "b", "c", "d"]
        for session_id in ids:
            session = DjangoSession(session_id, user=self.alice)
            await session.add_items([{"role": "user", "content": session_id}])
        await DjangoSession("z", user=self.bob).add_items([{"role": "user"}])
        await DjangoSession("a", user=self.alice).add_items([{"role": "user"}])
        sessions = await DjangoSession.get_sessions(self.alice)
        assert [session.session_id for session in sessions] == ["a", "d", "c", "b"]
        assert (await sessions[1].get_items())[0]["content"] == "d"
        found = await DjangoSession.get_sessions(self.alice, limit=2, offset=1)
        assert [session.session_id for session in found] == ["d", "c"]
        # The method is static, and works on an instance as the SDK's users write it.
        found = await sessions[0].get_sessions_for_user(self.alice, limit=3)
        assert found == ["a", "d", "c"]
        assert await DjangoSession.get_sessions(self.alice, limit=0) == []
        for bad in ({"limit": -1}, {"offset": -1}):
            with self.assertRaises(ValueError):
                await DjangoSession.get_sessions(self.alice, **bad)

    async def test_archived_sessions_are_listed_on_request(self):
        await DjangoSession.create_session(self.alice, session_id="a")
        archive = sync_to_async(store.update_session)
        await archive("a", user=self.alice, archived=True)
        assert await DjangoSession.get_sessions(self.alice) == []
        assert await DjangoSession.get_sessions_for_user(self.alice) == []
        found = await DjangoSession.get_sessions(self.alice, include_archived=True)
        assert [session.session_id for session in found] == ["a"]

    async def test_what_agents_know_of_a_user_lasts_across_sessions(self):
        first = DjangoSession("a", user=self.alice)
        assert await first.get_user_metadata() == {}
        await first.update_user_metadata({"name": "Ann", "likes": {"tea": True}})
        second = DjangoSession("b", user_id=self.alice.pk)
        merged = await second.update_user_metadata({"likes": {"milk": False}})
        assert merged == {"name": "Ann", "likes": {"tea": True, "milk": False}}
        assert await first.get_user_metadata() == merged
        assert await DjangoSession("c", user=self.bob).get_user_metadata() == {}
        with self.assertRaises(ValueError):
            await DjangoSession("d").get_user_metadata()

    def test_the_constructor_asks_nothing(self):
        class Untouchable:
            def __getattr__(self, name: str) -> Any:
                raise AssertionError(name)

        with self.assertNumQueries(0):
            DjangoSession("s", user=Untouchable())


class OutsideOfRequestsTests(TransactionTestCase):
    def setUp(self):
        self.alice = User.objects.create(username="alice")
        self.addCleanup(close_connections)

    def test_run_sync_from_a_plain_thread(self):
        session = DjangoSession("s", user=self.alice)
        result = Runner.run_sync(
            agent([say("hello")]), "hi", session=session, run_config=RUN_CONFIG
        )
        assert result.final_output == "hello"
        assert len(store.read_items("s", user=self.alice)) == 2

    def test_async_to_sync_from_a_plain_thread(self):
        session = DjangoSession("s", user=self.alice)
        async_to_sync(run)(agent([say("hello")]), "hi", session)
        assert len(store.read_items("s", user=self.alice)) == 2


class SignatureTests(TestCase):
    def test_nothing_is_named_as_the_sdk_names_its_own_hooks(self):
        # The runner would take it for a session that compacts itself.
        assert not hasattr(DjangoSession("s"), "run_compaction")
