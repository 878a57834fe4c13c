"""A store as the SDK's AdvancedSQLiteSession writes it, and what that class answers."""

from __future__ import annotations

from typing import Any

from agents import Agent, ModelResponse, Runner, Usage, function_tool
from agents.extensions.memory import AdvancedSQLiteSession

from tests.fakes import RUN_CONFIG, FakeModel, call, say, think

NAME = "shop"
BRANCHES = ("main", "refund", "apology")
PLAIN_TERMS = ("order 7", "ORDER", "sent", "nowhere")
TERMS = (*PLAIN_TERMS, "größe", "100 %_\\")


@function_tool
def find_order(number: str) -> str:
    """Find an order."""
    return f"Order {number} is sent"


@function_tool
def refund(number: str) -> str:
    """Give the money back."""
    return "done"


class PricedModel(FakeModel):
    """Each answer has another price, its details included."""

    answers = 0

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        response = await super().get_response(*args, **kwargs)
        PricedModel.answers += 1
        nr = PricedModel.answers
        usage = Usage()
        response.usage = Usage(
            requests=1,
            input_tokens=100 + nr,
            input_tokens_details=usage.input_tokens_details.model_copy(
                update={"cached_tokens": nr}
            ),
            output_tokens=10 + nr,
            output_tokens_details=usage.output_tokens_details.model_copy(
                update={"reasoning_tokens": nr % 7}
            ),
            total_tokens=110 + 2 * nr,
        )
        return response


async def talk(session: Any, words: str, turns: int) -> None:
    """Hold as many runs, some with calls of tools, and store what they used."""
    for nr in range(turns):
        steps: list[Any] = [[say(f"Answer {nr} to {words}")]]
        if nr % 3 == 1:
            steps.insert(0, [think("?"), call("find_order", '{"number":"1"}')])
        if nr % 3 == 2:
            calls = [
                call("find_order", f'{{"number":"{it}"}}', call_id=f"call_{nr}_{it}")
                for it in range(2)
            ]
            steps.insert(0, calls)
            last = call("refund", '{"number":"1"}', call_id=f"call_{nr}_r")
            steps.insert(1, [last])
        bot = Agent(name="bot", model=PricedModel(*steps), tools=[find_order, refund])
        asked: Any = f"{words} {nr}: Größe, 100 %_\\ sure?"
        if nr % 5 == 4:
            asked = [
                {"role": "user", "content": [{"type": "input_text", "text": asked}]}
            ]
        result = await Runner.run(bot, asked, session=session, run_config=RUN_CONFIG)
        await session.store_run_usage(result)


async def write_branches(path: Any) -> None:
    """Leave three branches, one of them taken from another, with 40 runs."""
    session = AdvancedSQLiteSession(session_id=NAME, db_path=path, create_tables=True)
    await session.add_items([{"role": "assistant", "content": "Welcome!"}])
    await talk(session, "Order", 20)
    await session.create_branch_from_turn(11, "refund")
    await talk(session, "Refund of order", 11)
    # Two messages at once, and calls of tools that are not ours.
    await session.add_items(
        [
            {"role": "user", "content": "Wait"},
            {"role": "user", "content": "Look it up"},
            {"type": "web_search_call", "id": "ws_1", "status": "completed"},
            {"type": "mcp_call", "id": "m_1", "server_label": "shop", "name": "find"},
            _call("post", "send"),
            _call("send", "send"),
            {"role": "assistant", "content": "Order 7 was sent"},
        ]
    )
    await session.create_branch_from_turn(18, "apology")
    await talk(session, "Apology for order", 8)
    await session.switch_to_branch("main")
    await talk(session, "Last order", 1)
    session.close()


async def ask_branches(path: Any) -> dict[str, Any]:
    """Return what each public query of the class answers, by branch where it can."""
    session = AdvancedSQLiteSession(session_id=NAME, db_path=path)
    answers: dict[str, Any] = {
        "branches": await session.list_branches(),
        "usage": await session.get_session_usage(),
    }
    for branch in BRANCHES:
        answers[branch] = {
            "items": await session.get_items(branch_id=branch),
            "newest": await session.get_items(5, branch_id=branch),
            "turns": await session.get_conversation_turns(branch),
            "found": {
                term: await session.find_turns_by_content(term, branch)
                for term in TERMS
            },
            "by_turns": await session.get_conversation_by_turns(branch),
            "tools": await session.get_tool_usage(branch),
            "usage": await session.get_session_usage(branch),
            "turn_usage": await session.get_turn_usage(branch_id=branch),
            "usage_of_12": await session.get_turn_usage(12, branch),
        }
    session.close()
    return answers


def _call(namespace: str, name: str) -> Any:
    return {
        "type": "function_call",
        "namespace": namespace,
        "name": name,
        "arguments": "{}",
        "call_id": f"{namespace}.{name}",
    }
