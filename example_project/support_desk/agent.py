from __future__ import annotations

import asyncio
import json
import os

from agents import (
    Agent,
    AgentsException,
    Model,
    OpenAIChatCompletionsModel,
    RunConfig,
    RunContextWrapper,
    Runner,
    RunResult,
    RunResultStreaming,
    TResponseInputItem,
    function_tool,
)
from openai import AsyncOpenAI, OpenAIError

from agent_sessions import DjangoSession
from support_desk.offline_model import OfflineModel, pause
from support_desk.orders import orders_of

INSTRUCTIONS = """
You are the support desk of a small lamp shop. Answer in one or two friendly sentences,
in the customer's language. What you say about an order comes from look_up_order.
"""

# What answer() raises if the model cannot be reached, refuses, or goes astray.
MODEL_ERRORS = (AgentsException, OpenAIError)

# Tracing would send another copy of all this to OpenAI.
RUN_CONFIG = RunConfig(tracing_disabled=True)


@function_tool
async def look_up_order(context: RunContextWrapper[str], number: str) -> str:
    """Look up one of the customer's orders by its number, such as 1001."""
    await asyncio.sleep(pause() * 15)  # a real one asks another system
    # Who asks comes from the run, never from the model: it can be talked into anything.
    customer = context.context
    status = "unknown" if customer else "not logged in"
    order = orders_of(customer).get(number, {"status": status})
    return json.dumps({"order": number, **order})


def is_offline() -> bool:
    return not (os.environ.get("OPENAI_API_KEY") or os.environ.get("OPENAI_BASE_URL"))


def choose_model() -> Model | None:
    """Return what answers; None is the SDK's default, or OPENAI_DEFAULT_MODEL."""
    if is_offline():
        return OfflineModel()
    url = os.environ.get("OPENAI_BASE_URL")
    if not url:
        return None
    # Compatible servers know the older of OpenAI's two APIs, and may need no key.
    key = os.environ.get("OPENAI_API_KEY") or "none"
    name = os.environ.get("OPENAI_DEFAULT_MODEL") or "gpt-4.1-mini"
    client = AsyncOpenAI(base_url=url, api_key=key)
    return OpenAIChatCompletionsModel(model=name, openai_client=client)


def support_agent() -> Agent[str]:
    return Agent(
        name="Support desk",
        instructions=INSTRUCTIONS,
        tools=[look_up_order],
        model=choose_model(),
    )


async def answer(
    input: str | list[TResponseInputItem], *, customer: str, session: DjangoSession
) -> RunResult:
    """Have the agent answer the customer, with ``session`` as its memory."""
    return await Runner.run(
        support_agent(), input, context=customer, session=session, run_config=RUN_CONFIG
    )


def stream_answer(
    input: str | list[TResponseInputItem], *, customer: str, session: DjangoSession
) -> RunResultStreaming:
    """Begin an answer and return it as it comes; see result.stream_events()."""
    return Runner.run_streamed(
        support_agent(), input, context=customer, session=session, run_config=RUN_CONFIG
    )
