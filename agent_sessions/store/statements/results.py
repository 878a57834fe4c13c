from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

from agent_sessions.shapes import Item

# A stored item: its position and its JSON text.
Row: TypeAlias = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Appended:
    """Where a batch went: its session, first position, count and last turn."""

    session: UUID
    first_position: int
    count: int
    turn: int
    created: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """
    What a read saw: the session's key and its rows, oldest first.

    Without a key nothing is open to the reader; ``exists`` says that something is
    there.
    """

    session: UUID | None
    rows: list[Row]
    exists: bool


@dataclass(frozen=True, slots=True)
class Popped:
    """What a pop removed: the item, and the positions of what did not decode."""

    session: UUID
    item: Item | None
    broken: list[int]
