"""An agent that calls its tool once a run; its model answers from memory at once."""

from __future__ import annotations

from typing import Any

from agents import Agent, function_tool

from tests.fakes import FakeModel, call, say


class ToolCallingModel(FakeModel):
    def _next(self, input: Any) -> list[Any]:
        last = input[-1]
        if isinstance(last, dict) and last.get("type") == "function_call_output":
            return [say("It left the depot this morning; expect it tomorrow by noon.")]
        return [call("find_order", '{"order": 48213}')]


@function_tool
def find_order(order: int) -> str:
    """Say where an order is."""
    return f"Order {order} left the depot this morning."


AGENT: Agent[Any] = Agent(name="support", model=ToolCallingModel(), tools=[find_order])
