"""
A month of sessions that could have been, as the package's export would write them.

The answers are the offline model's, the rest is chance that is the same each time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from agent_sessions.jsonlines import FORMAT, VERSION
from support_desk import offline_phrases as phrases
from support_desk.orders import ORDERS, orders_of

PREFIX = "seed:"
DAYS = 30
SESSIONS_A_DAY = range(5, 12)

# What customers say, turn by turn.
STORIES = {
    "en": [
        [
            "Hi, I'm {name}. Where is my order #{order}?",
            "When does it arrive?",
            "Thanks!",
        ],
        ["Where is #{order}?"],
        ["Tell me about your lamps", "Thank you, that helps."],
        ["Hello", "Which orders did I ask about?", "Where is #{order}?"],
        ["I am {name}. What is my name?", "Which order?", "#{order}", "Thanks!"],
        ["Do you ship to Iceland?", "A pity. Where is my parcel #{order}?"],
    ],
    "de": [
        ["Hallo, ich heiße {name}. Wo ist meine Bestellung #{order}?", "Danke!"],
        ["Guten Tag, wann kommt #{order}?", "Und wie heiße ich?"],
        ["Welche Lampen haben Sie?", "Danke, und wo ist #{order}?"],
    ],
    "fr": [
        ["Bonjour, je m'appelle {name}. Où est ma commande #{order} ?", "Merci !"],
        ["Quelles lampes faites-vous ?", "Merci, bonsoir !"],
    ],
    "es": [
        ["Hola, me llamo {name}. ¿Dónde está mi pedido #{order}?", "¡Gracias!"],
        ["¿Cuándo llega el pedido #{order}?", "¿Cómo me llamo?"],
    ],
}
CUSTOMERS = {
    "alice": "en",
    "bob": "de",
    "carla": "es",
    "chloe": "fr",
    "emre": "en",
    "finn": "de",
    "grace": "en",
    "hugo": "fr",
    "ines": "es",
    "jonas": "de",
    "kim": "en",
    "lea": "fr",
}
NUMBERS = [number for orders in ORDERS.values() for number in orders]


def write_month(now: datetime) -> Iterator[str]:
    """Yield the lines of an export of the sessions of the month before ``now``."""
    chance = Random(20)
    yield _line({"format": FORMAT, "version": VERSION})
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    number = 0
    for day in range(DAYS, 0, -1):
        for _ in range(chance.choice(SESSIONS_A_DAY)):
            # Most people write by day.
            hour = chance.triangular(0, 24, 14)
            began = midnight - timedelta(days=day) + timedelta(hours=hour)
            number += 1
            yield from _write_session(number, began, now, chance)
    yield _line({"end": {"sessions": number}})


def _write_session(
    number: int, began: datetime, now: datetime, chance: Random
) -> Iterator[str]:
    # The two of the demo write more, and some say nothing of who they are.
    username = chance.choice(["alice", "bob", *CUSTOMERS, *CUSTOMERS, "", "", ""])
    language = CUSTOMERS.get(username) or chance.choice(list(STORIES))
    mine = list(orders_of(username)) or NUMBERS
    name = username.capitalize() or "Sam"
    values = {"name": name, "order": chance.choice(mine)}
    said = [text.format(**values) for text in chance.choice(STORIES[language])]
    items, moment = [], began
    for turn in range(1, len(said) + 1):
        for item in _turn(said[:turn], username, language, chance):
            items.append((turn, moment, item))
            seconds = 40 if item.get("role") == "assistant" else 2
            moment += timedelta(seconds=chance.uniform(0.5, seconds))
    if chance.random() < 0.06:  # unanswered
        while items[-1][2].get("role") != "user":
            items.pop()
    updated_at = items[-1][1]
    archived = chance.random() < 0.15 and now - updated_at > timedelta(days=7)
    row = {
        "id": _key(began, chance),
        "session_id": f"{PREFIX}{number}",
        "user": None,
        "username": username or None,
        "owned_at": began.isoformat() if username else None,
        "title": f"Order {values['order']}" if chance.random() < 0.3 else "",
        "preview": said[0][:200],
        "metadata": {"channel": chance.choice(["web", "web", "mobile"])},
        "archived_at": (updated_at + timedelta(days=3)).isoformat()
        if archived
        else None,
        "revision": 0,
        "item_count": len(items),
        "turn_count": items[-1][0],
        "next_position": len(items),
        "next_turn": items[-1][0] + 1,
        "created_at": began.isoformat(),
        "updated_at": updated_at.isoformat(),
        "usage": list(_use(items)),
    }
    yield _line({"session": row})
    for position, (turn, created_at, item) in enumerate(items):
        place = {
            "id": _key(created_at, chance),
            "position": position,
            "turn": turn,
            "type": item.get("type", ""),
            "role": item.get("role", ""),
            "created_at": created_at.isoformat(),
            "replaced_at": None,
        }
        yield _line({"item": {**place, "data": item}})


def _turn(
    said: list[str], username: str, language: str, chance: Random
) -> Iterator[dict[str, Any]]:
    yield {"role": "user", "content": said[-1]}
    outputs = []
    for number in phrases.wanted_orders(said):
        call_id = f"call_{chance.getrandbits(64):x}"
        unknown = {"status": "unknown" if username else "not logged in"}
        found = orders_of(username).get(number, unknown)
        outputs.append(json.dumps({"order": number, **found}))
        yield {
            "type": "function_call",
            "name": "look_up_order",
            "arguments": json.dumps({"number": number}),
            "call_id": call_id,
            "status": "completed",
        }
        yield {
            "type": "function_call_output",
            "call_id": call_id,
            "output": outputs[-1],
        }
    language = phrases.find_language(said) or language
    text = (
        phrases.describe_orders(outputs, said, language)
        if outputs
        else phrases.converse(said, language)
    )
    yield {
        "id": f"msg_{chance.getrandbits(64):x}",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": text, "annotations": []}],
    }


def _use(items: list[tuple[int, datetime, dict[str, Any]]]) -> Iterator[list[Any]]:
    """Yield for each turn the day, and what its requests have read and written."""
    for turn in {turn: None for turn, _, _ in items}:
        calls = read = written = 0
        for number, (of_turn, moment, item) in enumerate(items):
            if of_turn == turn and item.get("type") in ("function_call", "message"):
                calls += 1
                read += sum(len(str(one)) // 4 for _, _, one in items[:number])
                written += len(str(item)) // 4
                day = moment.date().isoformat()
        if calls:
            yield [turn, day, calls, read, 0, written, 0, read + written]


def _key(moment: datetime, chance: Random) -> str:
    """Return a UUIDv7: the time comes first in it, as in all keys of the package."""
    time = int(moment.timestamp() * 1000) << 80
    return str(UUID(int=time | 0x7 << 76 | 0x2 << 62 | chance.getrandbits(62)))


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"
