"""Rows of the SDK's table turn_usage: what the turns of a branch have used."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from agent_sessions.importers.records import is_count
from agent_sessions.importers.sqlite import read_text, read_time
from agent_sessions.store.imports import TurnUse
from agent_sessions.usage import TokenUsage, usage_day

USAGE_TABLE = "turn_usage"
USAGE_COLUMNS = (
    "user_turn_number",
    "created_at",
    "requests",
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "input_tokens_details",
    "output_tokens_details",
)

LAST_TURN = 2**31 - 2


@dataclass(slots=True)
class BranchUsage:
    """
    What the turns of a branch have used.

    Rows that are no usage are ``refused``; of those with ``broken`` details the rest is
    taken, as the SDK does.
    """

    turns: list[TurnUse] = field(default_factory=list)
    times: list[datetime] = field(default_factory=list)
    refused: int = 0
    broken: int = 0

    def add(self, row: list[Any], day: date) -> None:
        """Take a row with USAGE_COLUMNS; ``day`` if it does not tell one."""
        turn, created_at, *numbers, inputs, outputs = row
        counts = [0 if number is None else number for number in numbers]
        if not all(map(is_count, counts)) or not is_turn(turn):
            self.refused += 1
            return
        cached = _read_detail(inputs, "cached_tokens")
        reasoning = _read_detail(outputs, "reasoning_tokens")
        self.broken += cached is None or reasoning is None
        time = read_time(created_at)
        if time is not None:
            self.times.append(time)
            with suppress(OverflowError):
                day = usage_day(time)
        requests, input_tokens, output_tokens, total_tokens = counts
        usage = TokenUsage(
            requests=requests,
            input_tokens=input_tokens,
            cached_input_tokens=cached or 0,
            output_tokens=output_tokens,
            reasoning_tokens=reasoning or 0,
            total_tokens=total_tokens,
        )
        self.turns.append(TurnUse(turn, day, usage))

    @property
    def remarks(self) -> list[str]:
        remarks = []
        if self.refused:
            remarks.append(f"the usage of {self.refused} turn(s) is none: left out")
        if self.broken:
            remarks.append(f"the usage of {self.broken} turn(s) has broken details")
        return remarks


def is_turn(value: object) -> bool:
    return type(value) is int and 0 <= value <= LAST_TURN


def _read_detail(text: object, name: str) -> int | None:
    """Return a number of the details, 0 if they lack it, None if they are broken."""
    try:
        details = None if text is None else json.loads(read_text(text))
    except (ValueError, RecursionError):
        return None
    if details is None:
        return 0
    if not isinstance(details, dict):
        return None
    value = details.get(name) or 0
    return value if is_count(value) else None
