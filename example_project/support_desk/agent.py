from __future__ import annotations

import json
import os

from agents import (
    Agent,
    AgentsException,
    RunConfig,
    RunContextWrapper,
    Runner,
    RunResult,
    function_tool,
)
from django.contrib.auth.models import User
from openai import OpenAIError

from agent_sessions import DjangoSession
from support_desk.offline_model import OfflineModel
from support_desk.orders import orders_of

INSTRUCTIONS = """
You are the support desk of a small lamp shop. Answer in one or two friendly sentences,
in the customer's language. What you say about an order comes from look_up_order.
"""

# What answer() raises if the model cannot be reached, refuses, or goes astray.
MODEL_ERRORS = (AgentsException, OpenAIError)


@function_tool
def look_up_order(context: RunContextWrapper[str], number: str) -> str:
    """Look up one of the customer's orders by its number, such as 1001."""
    # Who asks comes from the run, never from the model: it can be talked into anything.
    order = orders_of(context.context).get(number, {"status": "unknown"})
    return json.dumps({"order": number, **order})


def is_offline() -> bool:
    return not os.environ.get("OPENAI_API_KEY")


def support_agent() -> Agent[str]:
    # Without a model of its own an agent takes the SDK's default, or
    # OPENAI_DEFAULT_MODEL.
    return Agent(
        name="Support desk",
        instructions=INSTRUCTIONS,
        tools=[look_up_order],
        model=OfflineModel() if is_offline() else None,
    )


async def answer(text: str, *, user: User, session: DjangoSession) -> RunResult:
    """Have the agent answer the user, with ``session`` as its memory."""
    return await Runner.run(
        support_agent(),
        text,
        context=user.username,
        session=session,
        # Tracing would send another copy of all this to OpenAI.
        run_config=RunConfig(tracing_disabled=True),
    )
