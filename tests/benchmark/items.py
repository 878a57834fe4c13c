from __future__ import annotations

import json
from typing import Any

Item = dict[str, Any]

# About 300 characters of what people and models write; a third of it is not Latin.
_TEXTS = [
    "The parcel with the two blue chairs should have arrived on Tuesday, but the"
    " tracking page still says that it is waiting in the depot. Could you find out"
    " where it is, whether somebody has to be at home when it comes, and what happens"
    " with the invoice if I send one of the chairs back? Thank you!",
    "Добрый день! Заказ номер 48213 до сих пор не пришёл, хотя на странице указано,"
    " что посылка передана в службу доставки ещё в понедельник. Подскажите,"
    " пожалуйста, когда её ждать, и можно ли изменить адрес, потому что на следующей"
    " неделе меня не будет дома. Заранее большое спасибо за помощь!",
    "I have looked it up: the parcel left the depot this morning and is on its way."
    " Expect it tomorrow between 9:00 and 12:00. Nobody has to be at home, the driver"
    " leaves it with a neighbour. If you return one chair within 30 days, we correct"
    ' the invoice and refund 89.50 € — simply reply with "return".',
]


def history(length: int) -> list[Item]:
    """Return ``length`` items: questions, tool calls, their outputs, answers."""
    items: list[Item] = []
    while len(items) < length:
        number = len(items) // 4
        items += [
            question(number),
            {
                "id": f"fc_{number:024x}",
                "type": "function_call",
                "name": "find_order",
                "call_id": f"call_{number:024x}",
                "arguments": json.dumps({"order": 48213 + number, "language": "en"}),
                "status": "completed",
            },
            {
                "type": "function_call_output",
                "call_id": f"call_{number:024x}",
                "output": json.dumps(
                    {"order": 48213 + number, "state": "sent", "note": _TEXTS[0][:150]}
                ),
            },
            answer(number),
        ]
    return items[:length]


def question(number: int) -> Item:
    return {"role": "user", "content": f"{number}: {_TEXTS[number % 3]}"}


def answer(number: int) -> Item:
    text = f"{number}: {_TEXTS[(number + 2) % 3]}"
    return {
        "id": f"msg_{number:024x}",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [
            {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        ],
    }
