"""Stores of others to import from, written by their own code."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

from agents import Agent, RunConfig, Runner, SQLiteSession, function_tool, handoff
from asgiref.sync import async_to_sync

from tests.fakes import RUN_CONFIG, FakeModel, call, say, think

PIXEL = "data:image/png;base64,iVBORw0KGgo="
ASKED: list[Any] = [
    {
        "role": "user",
        "content": [
            {
                "type": "input_text",
                "text": "Wo ist das? 這是哪裡？ \u05e9\u05dc\u05d5\u05dd",
            },
            {"type": "input_image", "image_url": PIXEL, "detail": "auto"},
        ],
    }
]


@function_tool
def find_order(number: str) -> str:
    """Find an order."""
    return f"Bestellung {number} ist unterwegs 🚚"


async def converse(session: Any, *, config: RunConfig = RUN_CONFIG) -> None:
    """Run real agents on the session: a tool call, an image, a handoff."""
    expert = Agent(name="expert", model=FakeModel([say("Am Hafen. 港にあります。")]))
    front = Agent(
        name="front",
        model=FakeModel(
            [think("an order"), call("find_order", '{"number":"1001"}')],
            [say("Sie ist unterwegs.")],
            [call("transfer_to_expert", call_id="call_2")],
        ),
        tools=[find_order],
        handoffs=[handoff(expert)],
    )
    await Runner.run(
        front, "Wo ist Bestellung 1001?", session=session, run_config=config
    )
    await Runner.run(front, list(ASKED), session=session, run_config=config)


def write_sqlite(path: Any, *session_ids: str, **options: Any) -> dict[str, list[Any]]:
    """Hold a conversation in each session of the file; return their items."""
    found = {}
    for session_id in session_ids:
        session = SQLiteSession(session_id, path, **options)
        async_to_sync(converse)(session)
        found[session_id] = async_to_sync(session.get_items)()
        session.close()
    return found


def write_rows(
    path: Any,
    sessions: dict[str, list[Any]],
    *,
    mode: str = "WAL",
    created_at: str = "2025-01-01 00:00:00",
    updated_at: str = "2025-01-01 00:00:00",
) -> None:
    """Write what stands in the SDK's tables; an item is a text, or that and a time."""
    SQLiteSession("x", path).close()
    with closing(sqlite3.connect(path)) as file:
        file.execute(f"PRAGMA journal_mode = {mode}")
        file.executemany(
            "INSERT INTO agent_sessions VALUES (?, ?, ?)",
            [(name, created_at, updated_at) for name in sessions],
        )
        file.executemany(
            "INSERT INTO agent_messages (session_id, message_data, created_at)"
            " VALUES (?, ?, ?)",
            [
                (name, *((item, created_at) if isinstance(item, str) else item))
                for name, items in sessions.items()
                for item in items
            ],
        )
        file.commit()
