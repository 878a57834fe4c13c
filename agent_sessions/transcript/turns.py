from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import groupby

from agent_sessions.transcript.blocks import Block, ToolCall
from agent_sessions.transcript.words import usage_words
from agent_sessions.usage import TokenUsage

NOTABLE_GAP = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Turn:
    """
    Blocks of one turn that follow each other.

    ``idle`` is the time since the item before, None where there is none or another
    part of the same turn. ``continued`` says that the turn began before. ``usage`` is
    the whole turn's, and stands with the first of its parts.
    """

    number: int
    started_at: datetime
    idle: timedelta | None
    continued: bool
    blocks: tuple[Block, ...]
    usage: TokenUsage = field(default_factory=TokenUsage)

    @property
    def used(self) -> str:
        """Return what the turn has used in words; "" for nothing."""
        return usage_words(self.usage)

    @property
    def idle_since(self) -> datetime | None:
        """Return when the gap before the turn began, None if it is not worth a word."""
        if self.idle is None or self.idle < NOTABLE_GAP:
            return None
        return self.started_at - self.idle


@dataclass(frozen=True, slots=True)
class Section:
    """
    Turns that the agent reads or, with ``replaced_at``, that compaction has replaced.
    """

    replaced_at: datetime | None
    turns: tuple[Turn, ...]
    item_count: int


@dataclass(frozen=True, slots=True)
class Previous:
    """The item before the first one that is shown."""

    turn: int
    created_at: datetime


def group_blocks(
    blocks: Iterable[Block],
    *,
    previous: Previous | None = None,
    usage: Mapping[int, TokenUsage] | None = None,
) -> list[Section]:
    """
    Return the blocks by turns, and those by what compaction has replaced.

    ``usage`` is what turns have used, by number.
    """
    sections, unsaid = [], dict(usage or {})
    for replaced_at, together in groupby(blocks, key=lambda block: block.replaced_at):
        turns = []
        for number, of_turn in groupby(together, key=lambda block: block.turn):
            turn = _turn(number, tuple(of_turn), previous)
            turn = replace(turn, usage=unsaid.pop(number, turn.usage))
            turns.append(turn)
            previous = Previous(number, _last_moment(turn.blocks))
        count = sum(_item_count(block) for turn in turns for block in turn.blocks)
        sections.append(Section(replaced_at, tuple(turns), count))
    return sections


def select_blocks(blocks: Iterable[Block], first: int, last: int) -> list[Block]:
    """
    Return the blocks of the items at positions ``first`` to ``last``.

    The output of a call before them is a block of its own, which names that call.
    """
    chosen: list[Block] = []
    for block in blocks:
        if first <= block.position <= last:
            chosen.append(block)
        elif isinstance(block, ToolCall) and block.output is not None:
            output = block.output
            if first <= output.position <= last:
                chosen.append(
                    replace(
                        output,
                        call_position=block.position,
                        name=output.name or block.name,
                    )
                )
    return sorted(chosen, key=lambda block: block.position)


def _turn(number: int, blocks: tuple[Block, ...], previous: Previous | None) -> Turn:
    started_at = blocks[0].created_at
    continued = previous is not None and previous.turn == number
    idle = None
    if previous is not None and not continued:
        # Imported items may have any times.
        idle = max(started_at - previous.created_at, timedelta(0))
    return Turn(number, started_at, idle, continued, blocks)


def _last_moment(blocks: tuple[Block, ...]) -> datetime:
    block = blocks[-1]
    if isinstance(block, ToolCall) and block.output is not None:
        return max(block.created_at, block.output.created_at)
    return block.created_at


def _item_count(block: Block) -> int:
    return 2 if isinstance(block, ToolCall) and block.output is not None else 1
