"""A model that answers from a script, on every SDK that we support."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from agents import Agent, ModelResponse, RunConfig, Usage, set_tracing_disabled
from agents.models.interface import Model
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseReasoningItem,
)
from openai.types.responses.response_reasoning_item import Summary

Step = list[Any] | Exception | Callable[[list[Any]], list[Any]]

# Tracing talks to the network.
set_tracing_disabled(True)
RUN_CONFIG = RunConfig(tracing_disabled=True)


def say(text: str) -> ResponseOutputMessage:
    return ResponseOutputMessage(
        id="msg_1",
        type="message",
        role="assistant",
        status="completed",
        content=[
            ResponseOutputText(
                text=text, type="output_text", annotations=[], logprobs=[]
            )
        ],
    )


def call(name: str, arguments: str = "{}", *, call_id: str = "call_1") -> Any:
    return ResponseFunctionToolCall(
        id="fc_1",
        type="function_call",
        name=name,
        arguments=arguments,
        call_id=call_id,
    )


def think(text: str) -> ResponseReasoningItem:
    return ResponseReasoningItem(
        id="rs_1",
        type="reasoning",
        summary=[Summary(text=text, type="summary_text")],
    )


class FakeModel(Model):
    """Give out ``steps`` one by one and keep what it was asked in ``inputs``."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.inputs: list[list[Any]] = []

    def _next(self, input: Any) -> list[Any]:
        self.inputs.append(list(input) if isinstance(input, list) else [input])
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step(self.inputs[-1]) if callable(step) else step

    async def get_response(
        self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any
    ) -> ModelResponse:
        return ModelResponse(
            output=self._next(input), usage=Usage(requests=1), response_id="resp_1"
        )

    async def stream_response(
        self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any
    ) -> AsyncIterator[Any]:
        output = self._next(input)
        yield ResponseCompletedEvent(
            type="response.completed",
            sequence_number=0,
            response=Response(
                id="resp_1",
                created_at=0,
                model="fake",
                object="response",
                output=output,
                tool_choice="none",
                tools=[],
                parallel_tool_calls=False,
            ),
        )


def agent(*steps: Step, **options: Any) -> Agent[Any]:
    return Agent(name="support", model=FakeModel(*steps), **options)
