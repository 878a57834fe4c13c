"""Runs of all sorts in any order: what is stored is what they reported, once."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from agents import AgentsException, RunContextWrapper, Runner, RunState
from asgiref.sync import async_to_sync
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TransactionTestCase

from agent_sessions import DjangoSession, store
from agent_sessions.exceptions import TurnGone
from agent_sessions.usage import TokenUsage, clean_usage
from tests.fakes import RUN_CONFIG, call, say
from tests.test_metering import agent, look_up, refund

# What a run does before its answer, one by one.
STEPS = st.lists(
    st.sampled_from(["tool", "approval", "ask", "handoff"]), max_size=3, unique=True
)


@dataclass(frozen=True)
class Plan:
    steps: list[str]
    ending: str
    streamed: bool
    again: bool


PLANS = st.builds(
    Plan,
    steps=STEPS,
    ending=st.sampled_from(["answer", "answer", "error", "turns"]),
    streamed=st.booleans(),
    again=st.booleans(),
)


def build(plan: Plan) -> Any:
    """Return an agent that does what the plan says."""
    calls = {
        "tool": [call("look_up", call_id="tool")],
        "approval": [call("refund", call_id="approval")],
        "ask": [call("ask", '{"input": "q"}', call_id="ask")],
    }
    inner = agent([call("look_up", call_id="inner")], [say("in")], tools=[look_up])
    ask = inner.as_tool("ask", "Ask.", session=DjangoSession("inner"))
    end: list[Any] = {
        "answer": [[say("bye")]],
        "error": [RuntimeError("model")],
        "turns": [[call("look_up", call_id=f"end{nr}")] for nr in range(9)],
    }[plan.ending]
    tools = [look_up, refund, ask]
    steps = list(plan.steps)
    if "handoff" not in steps:
        return agent(*(calls[it] for it in steps), *end, tools=tools)
    at = steps.index("handoff")
    rest = agent(*(calls[it] for it in steps[at + 1 :]), *end, tools=tools)
    rest.name = "other"
    first = [calls[it] for it in steps[:at]]
    moved = [call("transfer_to_other", call_id="handoff")]
    return agent(*first, moved, tools=tools, handoffs=[rest])


async def run(plan: Plan, session: DjangoSession, given: Any = "hello") -> TokenUsage:
    """
    Run to the end, through approvals; return what the SDK says was used.

    If the plan says so, take the last turn back, whosever it is, and run again.
    """
    options: dict[str, Any] = {
        "session": session,
        "run_config": RUN_CONFIG,
        "max_turns": 7,
    }
    support = build(plan)
    options["context"] = context = RunContextWrapper(None)
    # The model's own error tells of nothing, but was not paid for either. Another run
    # may take the turn back.
    with suppress(RuntimeError, TurnGone):
        while True:
            try:
                if plan.streamed:
                    result: Any = Runner.run_streamed(support, given, **options)
                    async for _ in result.stream_events():
                        pass
                else:
                    result = await Runner.run(support, given, **options)
            except AgentsException as error:
                assert error.run_data is not None
                await session.store_run_usage(error.run_data)
                break
            if not result.interruptions:
                break
            given = result.to_state()
            if plan.streamed:
                given = await RunState.from_json(support, given.to_json())
            given.approve(given.get_interruptions()[0])
            options.pop("context", None)
            context = given._context
    used = clean_usage(context.usage)
    if plan.again:
        with suppress(TurnGone):
            plan, given = replace(plan, again=False), await session.retry()
            used += await run(plan, session, given)
    return used


class RandomRunTests(TransactionTestCase):
    @settings(
        max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    @given(st.lists(st.lists(PLANS, min_size=1, max_size=3), min_size=1, max_size=3))
    def test_usage_is_what_runs_reported(self, rounds: list[list[Plan]]):
        async def go() -> TokenUsage:
            reported = TokenUsage()
            for number, plans in enumerate(rounds):
                # Those of a round go on at once, and share their sessions.
                name = f"s{number % 2}"
                runs = (run(plan, DjangoSession(name)) for plan in plans)
                reported = sum(await asyncio.gather(*runs), reported)
            return reported

        reported = async_to_sync(go)()
        names = ["s0", "s1", "inner"]
        stored = sum((store.read_usage(name) for name in names), TokenUsage())
        by_turn = [store.get_usage_by_turn(name).values() for name in names]
        assert stored == reported
        assert sum((it for one in by_turn for it in one), TokenUsage()) == reported
