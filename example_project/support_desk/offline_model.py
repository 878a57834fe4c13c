"""
A model without a network: a few rules in four languages (see offline_phrases.py).

It gets what every model gets, the session's items and the new message, and has no other
memory. What it remembers, the session has kept.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

from agents import ModelResponse, Usage
from agents.models.interface import Model
from openai import OpenAIError
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseTextDeltaEvent,
    ResponseUsage,
)

from agent_sessions.shapes import item_role, item_text, item_type
from support_desk import offline_phrases as phrases

TOOL = "look_up_order"
REFUND = "refund_order"
# Who writes this sees the model fail, once for each text.
FAIL = "/fail"
_failed: set[str] = set()


class OfflineModel(Model):
    """The same question on the same history always gets the same answer."""

    async def get_response(
        self,
        system_instructions: Any,
        input: Any,
        model_settings: Any,
        tools: list[Any],
        *args: Any,
        **options: Any,
    ) -> ModelResponse:
        output = reply(input, tools)
        read, written = count_tokens(input), count_tokens(output)
        usage = Usage(
            requests=1,
            input_tokens=read,
            output_tokens=written,
            total_tokens=read + written,
        )
        return ModelResponse(output=output, usage=usage, response_id=None)

    async def stream_response(
        self,
        system_instructions: Any,
        input: Any,
        model_settings: Any,
        tools: list[Any],
        *args: Any,
        **options: Any,
    ) -> AsyncIterator[Any]:
        output = reply(input, tools)
        await asyncio.sleep(pause() * 8)
        number = 0
        for index, item in enumerate(output):
            for piece in _pieces(item):
                yield ResponseTextDeltaEvent(
                    type="response.output_text.delta",
                    sequence_number=number,
                    item_id=item.id,
                    output_index=index,
                    content_index=0,
                    delta=piece,
                    logprobs=[],
                )
                number += 1
                await asyncio.sleep(pause())
        yield ResponseCompletedEvent(
            type="response.completed",
            sequence_number=number,
            response=Response(
                id=f"resp_{uuid4().hex}",
                created_at=0,
                model="offline",
                object="response",
                output=output,
                parallel_tool_calls=True,
                tool_choice="auto",
                tools=[],
                usage=_response_usage(count_tokens(input), count_tokens(output)),
            ),
        )


def pause() -> float:
    """Return the seconds between two words of a stream, so that people see it come."""
    return float(os.environ.get("OFFLINE_PAUSE", "0.04"))


def reply(input: Any, tools: list[Any]) -> list[Any]:
    """Return what a model would: calls of the tool, or a message."""
    items = [{"role": "user", "content": input}] if isinstance(input, str) else input
    said = [item_text(item) for item in items if item_role(item) == "user"]
    _fail_if_asked(said)
    language = phrases.find_language(said)
    found = _tool_results(items)
    if found:
        return [_message(phrases.describe_orders(found, said, language))]
    names = {tool.name for tool in tools}
    tool = REFUND if REFUND in names and phrases.wants_refund(said) else TOOL
    numbers = phrases.wanted_orders(said)
    if numbers and tool in names:
        return [_call(tool, number) for number in numbers]
    return [_message(phrases.converse(said, language))]


def count_tokens(items: Any) -> int:
    """Return about as many as other models would count: one for four characters."""
    return len(str(items)) // 4


def _response_usage(read: int, written: int) -> ResponseUsage:
    return ResponseUsage.model_validate(
        {
            "input_tokens": read,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": written,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": read + written,
        }
    )


def _fail_if_asked(said: list[str]) -> None:
    text = said[-1] if said else ""
    if text.startswith(FAIL) and text not in _failed:
        _failed.add(text)
        raise OpenAIError("The offline model was asked to fail.")


def _tool_results(items: list[Any]) -> list[str]:
    results: list[str] = []
    for item in reversed(items):
        if item_role(item) == "user":
            break
        if item_type(item) == "function_call_output":
            results.insert(0, str(item["output"]))
    return results


def _pieces(item: Any) -> list[str]:
    if not isinstance(item, ResponseOutputMessage):
        return []
    return re.findall(r"\S+\s*", item.content[0].text)


def _message(text: str) -> ResponseOutputMessage:
    part = ResponseOutputText(
        text=text, type="output_text", annotations=[], logprobs=[]
    )
    return ResponseOutputMessage(
        id=f"msg_{uuid4().hex}",
        type="message",
        role="assistant",
        status="completed",
        content=[part],
    )


def _call(tool: str, number: str) -> ResponseFunctionToolCall:
    return ResponseFunctionToolCall(
        id=f"fc_{uuid4().hex}",
        type="function_call",
        name=tool,
        arguments=json.dumps({"number": number}),
        call_id=f"call_{uuid4().hex}",
    )
