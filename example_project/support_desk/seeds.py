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

# An item with its position, its turn and its time.
Placed = tuple[int, int, datetime, dict[str, Any]]

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
    number = count = 0
    for day in range(DAYS, 0, -1):
        for _ in range(chance.choice(SESSIONS_A_DAY)):
            # Most people write by day.
            hour = chance.triangular(0, 24, 14)
            began = midnight - timedelta(days=day) + timedelta(hours=hour)
            number += 1
            for line in _write_session(number, began, now, chance):
                count += line.startswith('{"session":')
                yield line
    yield _line({"end": {"sessions": count}})


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
    items: list[Placed] = []

    def add_turn(count: int, turn: int, moment: datetime) -> datetime:
        for item in _turn(said[:count], username, language, chance):
            position = items[-1][0] + 1 if items else 0
            items.append((position, turn, moment, item))
            seconds = 40 if item.get("role") == "assistant" else 2
            moment += timedelta(seconds=chance.uniform(0.5, seconds))
        return moment

    moment = began
    for turn in range(1, len(said) + 1):
        moment = add_turn(turn, turn, moment)
    if chance.random() < 0.06:  # unanswered
        while items[-1][3].get("role") != "user":
            items.pop()
    older: list[Placed] = []
    often = 0.25 if username in ("alice", "bob") else 0.05
    if len(said) > 1 and chance.random() < often:  # asked again, and the older kept
        older, items = items, [*items]
        add_turn(len(said), len(said) + 1, moment + timedelta(seconds=50))
        items = [placed for placed in items if placed[1] != len(said)]
    updated_at = items[-1][2]
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
        "turn_count": len(said),
        "next_position": items[-1][0] + 1,
        "next_turn": items[-1][1] + 1,
        "created_at": began.isoformat(),
        "updated_at": updated_at.isoformat(),
        # What was taken back was paid for as well.
        "usage": list((_use(older) | _use(items)).values()),
    }
    yield from _lines(row, items, chance)
    if older:
        fork = {
            "id": _key(moment, chance),
            "session_id": f"{PREFIX}{number}:older",
            "item_count": len(older),
            "next_position": len(older),
            "next_turn": len(said) + 1,
            "archived_at": moment.isoformat(),
            "forked_from": row["id"],
            "forked_at": moment.isoformat(),
            "created_at": moment.isoformat(),
            "updated_at": moment.isoformat(),
            "usage": [],
        }
        yield from _lines(row | fork, older, chance)


def _lines(row: dict[str, Any], items: list[Placed], chance: Random) -> Iterator[str]:
    yield _line({"session": row})
    for position, turn, created_at, item in items:
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


def _use(items: list[Placed]) -> dict[int, list[Any]]:
    """Return for each turn the day, and what its requests have read and written."""
    used = {}
    for turn in {turn: None for _, turn, _, _ in items}:
        calls = read = written = 0
        for number, (_, of_turn, moment, item) in enumerate(items):
            if of_turn == turn and item.get("type") in ("function_call", "message"):
                calls += 1
                read += sum(len(str(one)) // 4 for _, _, _, one in items[:number])
                written += len(str(item)) // 4
                day = moment.date().isoformat()
        if calls:
            used[turn] = [turn, day, calls, read, 0, written, 0, read + written]
    return used


def _key(moment: datetime, chance: Random) -> str:
    """Return a UUIDv7: the time comes first in it, as in all keys of the package."""
    time = int(moment.timestamp() * 1000) << 80
    return str(UUID(int=time | 0x7 << 76 | 0x2 << 62 | chance.getrandbits(62)))


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"
