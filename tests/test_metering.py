"""Real runs; the SDK hands over what they use, and it is counted once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    MaxTurnsExceeded,
    OutputGuardrail,
    OutputGuardrailTripwireTriggered,
    Runner,
    RunState,
    Usage,
    function_tool,
)
from asgiref.sync import async_to_sync
from django.db import DatabaseError, transaction
from django.test import override_settings
from openai.types.responses.response_usage import (
    InputTokensDetails,
    OutputTokensDetails,
    ResponseUsage,
)

from agent_sessions import DjangoSession, store
from agent_sessions.exceptions import SessionFull
from agent_sessions.usage import TokenUsage
from tests.fakes import RUN_CONFIG, FakeModel, call, say
from tests.usage_cases import ONE, ONE_OF_THE_SDK, UsageCase, times


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


class CountingModel(FakeModel):
    """Each answer costs ONE."""

    async def get_response(self, *args: Any, **kwargs: Any) -> Any:
        response = await super().get_response(*args, **kwargs)
        response.usage = replace(ONE_OF_THE_SDK)
        return response

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        async for event in super().stream_response(*args, **kwargs):
            event.response.usage = ResponseUsage(
                input_tokens=10,
                input_tokens_details=InputTokensDetails(
                    cached_tokens=4, cache_write_tokens=0
                ),
                output_tokens=5,
                output_tokens_details=OutputTokensDetails(reasoning_tokens=2),
                total_tokens=15,
            )
            yield event


@function_tool
def look_up() -> str:
    return "found"


@function_tool(needs_approval=True)
def refund() -> str:
    return "done"


def agent(*steps: Any, **options: Any) -> Agent[Any]:
    return Agent(name="support", model=CountingModel(*steps), **options)


class RunTests(UsageCase):
    def run_agent(self, agent: Any, text: Any, name: str = "s", **options: Any) -> Any:
        options.setdefault("session", DjangoSession(name))
        options.setdefault("run_config", RUN_CONFIG)
        return async_to_sync(Runner.run)(agent, text, **options)

    def test_a_run_is_counted_by_itself(self):
        support = agent([call("look_up")], [say("hi")], [say("bye")], tools=[look_up])
        self.run_agent(support, "hello")
        self.assert_used(2, t1=2)
        self.run_agent(support, "thanks")
        self.assert_used(3, t1=2, t2=1)

    def test_one_adapter_counts_many_runs(self):
        session = DjangoSession("s")
        for _ in range(3):
            self.run_agent(agent([say("hi")]), "hello", session=session)
        self.assert_used(3, t1=1, t2=1, t3=1)
        assert async_to_sync(session.get_usage)() == times(3)

    def test_a_streamed_run_is_counted_by_itself(self):
        async def run() -> None:
            support = agent([call("look_up")], [say("hi")], tools=[look_up])
            options = {"session": DjangoSession("s"), "run_config": RUN_CONFIG}
            result = Runner.run_streamed(support, "hello", **options)
            async for _ in result.stream_events():
                pass

        async_to_sync(run)()
        self.assert_used(2, t1=2)

    def test_an_interrupted_run_is_counted_once(self):
        for through_json in [False, True]:
            name = f"s{through_json}"
            support = agent([call("refund")], [say("done")], tools=[refund])
            result = self.run_agent(support, "refund me", name)
            state = result.to_state()
            if through_json:
                state = async_to_sync(RunState.from_json)(support, state.to_json())
            state.approve(state.get_interruptions()[0])
            self.run_agent(support, state, name)
            self.assert_used(2, name, t1=2)

    def test_agents_as_tools_with_sessions_count_once(self):
        inner = agent([call("look_up")], [say("in")], tools=[look_up])
        ask = inner.as_tool("ask", "Ask.", session=DjangoSession("inner"))
        outer = agent([call("ask", '{"input": "q"}')], [say("out")], tools=[ask])
        self.run_agent(outer, "hello")
        self.assert_used(2, t1=2)
        self.assert_used(2, "inner", t1=2)

    def test_agents_as_tools_without_sessions_count_for_the_run(self):
        inner = agent([call("look_up")], [say("in")], tools=[look_up])
        ask = inner.as_tool("ask", "Ask.")
        outer = agent([call("ask", '{"input": "q"}')], [say("out")], tools=[ask])
        self.run_agent(outer, "hello")
        self.assert_used(4, t1=4)

    def test_handoffs_count(self):
        other = agent([say("here")])
        first = agent([call("transfer_to_other")], handoffs=[other])
        other.name = "other"
        self.run_agent(first, "hello")
        self.assert_used(2, t1=2)

    def test_what_a_failed_run_used_last_is_stored_on_request(self):
        async def trip(*args: Any) -> GuardrailFunctionOutput:
            return GuardrailFunctionOutput(None, tripwire_triggered=True)

        guard = OutputGuardrail(trip)
        steps = [[call("look_up")], [say("bad")]]
        support = agent(*steps, tools=[look_up], output_guardrails=[guard])
        session = DjangoSession("s")
        with pytest.raises(OutputGuardrailTripwireTriggered) as caught:
            self.run_agent(support, "hello", session=session)
        self.assert_used(1)
        rest = async_to_sync(session.store_run_usage)(caught.value.run_data)
        assert rest == ONE
        assert not async_to_sync(session.store_run_usage)(caught.value.run_data)
        self.assert_used(2, t1=2)

    def test_runs_that_end_in_an_error_count(self):
        calls = [[call("look_up", call_id=str(nr))] for nr in range(4)]
        with pytest.raises(MaxTurnsExceeded):
            self.run_agent(agent(*calls, tools=[look_up]), "hello", max_turns=2)
        self.assert_used(2, t1=2)
        steps = [[call("look_up")], RuntimeError("model")]
        with pytest.raises(RuntimeError):
            self.run_agent(agent(*steps, tools=[look_up]), "again")
        self.assert_used(3, t1=2, t2=1)

    def test_a_wrapper_that_keeps_its_totals_is_stored_on_request(self):
        class Plain:
            session_id, session_settings = "s", None

            def __init__(self, session: DjangoSession) -> None:
                self.get_items = lambda limit=None: session.get_items(limit)
                self.add_items = lambda items: session.add_items(items)
                self.pop_item = lambda: session.pop_item()
                self.clear_session = lambda: session.clear_session()

        session = DjangoSession("s")
        support = agent([call("look_up")], [say("hi")], tools=[look_up])
        result = self.run_agent(support, "hello", session=Plain(session))
        self.assert_used(0)
        assert async_to_sync(session.store_run_usage)(result) == times(2)
        assert not async_to_sync(session.store_run_usage)(result)
        self.assert_used(2, t1=2)

    def test_two_runs_at_once_count_each_on_its_turn(self):
        async def run() -> None:
            runs = [
                Runner.run(
                    agent([call("look_up")], [say(str(nr))], tools=[look_up]),
                    str(nr),
                    session=DjangoSession("s"),
                    run_config=RUN_CONFIG,
                )
                for nr in range(4)
            ]
            await asyncio.gather(*runs)

        async_to_sync(run)()
        self.assert_used(8, t1=2, t2=2, t3=2, t4=2)

    def test_usage_that_could_not_be_stored_is_stored_later(self):
        session = DjangoSession("s")
        wrapper = mock.Mock(usage=Usage())

        async def run() -> None:
            await session.get_items(wrapper=wrapper)
            await session.add_items([user("a")], wrapper=wrapper)
            wrapper.usage.add(Usage(requests=1, input_tokens=3, total_tokens=3))
            with (
                mock.patch.object(store, "append_items", side_effect=DatabaseError),
                pytest.raises(DatabaseError),
            ):
                await session.add_items([assistant("b")], wrapper=wrapper)
            await session.add_items([], wrapper=wrapper)
            await session.add_items([assistant("b")], wrapper=wrapper)

        async_to_sync(run)()
        assert store.read_usage("s") == TokenUsage(1, 3, 0, 0, 0, 3)

    def test_what_was_rolled_back_is_stored_later(self):
        session = DjangoSession("s")
        support = agent([call("look_up")], [say("hi")], tools=[look_up])
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            result = self.run_agent(support, "hello", session=session)
            raise ZeroDivisionError
        self.assert_used(0)
        again = agent([say("hi")])
        with transaction.atomic():
            self.run_agent(again, "hello", session=session)
            with suppress(ZeroDivisionError), transaction.atomic():
                async_to_sync(session.store_run_usage)(result)
                raise ZeroDivisionError
        self.assert_used(1, t1=1)
        assert async_to_sync(session.store_run_usage)(result) == times(2)
        assert not async_to_sync(session.store_run_usage)(result)
        self.assert_used(3, t1=3)

    @override_settings(AGENT_SESSIONS_MAX_ITEMS=2)
    def test_what_came_with_items_too_many_is_spent(self):
        support = agent([call("look_up")], [say("hi")], tools=[look_up])
        with pytest.raises(SessionFull):
            self.run_agent(support, "hello")
        self.assert_used(1, t1=1)

        async def run() -> TokenUsage:
            wrapper = mock.Mock(usage=Usage())
            session = DjangoSession("new")
            await session.get_items(wrapper=wrapper)
            wrapper.usage.add(Usage(requests=1, total_tokens=3))
            with pytest.raises(SessionFull):
                await session.add_items([user("a")] * 3, wrapper=wrapper)
            # There was no session to keep them; there is one now.
            await session.add_items([user("a")], wrapper=wrapper)
            return await session.get_usage()

        assert async_to_sync(run)() == TokenUsage(requests=1, total_tokens=3)

    def test_totals_from_before_are_not_the_sessions(self):
        wrapper = mock.Mock(usage=Usage(requests=9, input_tokens=9, total_tokens=9))
        session = DjangoSession("s")

        async def run() -> None:
            await session.get_items(wrapper=wrapper)
            await session.add_items([user("a")], wrapper=wrapper)

        async_to_sync(run)()
        self.assert_used(0)
