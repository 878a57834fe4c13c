"""
Where a session is cut, to be taken back to, or copied up to, before one of its turns.

Turns that runs wrote at the same time interleave, so it is the turn's number that says
on which side an item is. But no output of a tool is parted from its call, and what a
compaction after the cut has replaced is again what it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from operator import index

from django.db.models import Q

from agent_sessions.encoding import decode_item
from agent_sessions.exceptions import TurnCompacted, TurnGone
from agent_sessions.fields import RAW
from agent_sessions.models import SessionItemQuerySet
from agent_sessions.store.pairs import CALLS, OUTPUTS, Key, find_calls
from agent_sessions.transcript.calls import call_key, output_key

_CHUNK = 20


class InsideSummary(TurnCompacted):
    """The turn's message is a compaction's copy of an older one."""


@dataclass(frozen=True, slots=True)
class Cut:
    """
    ``moved`` are positions behind the cut that stay, by the turn that they belong to;
    ``stray`` are positions of earlier turns that go; ``restored`` is when the
    compactions that the cut undoes have replaced items.
    """

    turn: int
    first_position: int
    moved: dict[int, int]
    stray: set[int]
    restored: set[datetime]

    def behind(self) -> Q:
        """Return the condition of an item to go."""
        # The position too, for the index that leads to few rows.
        gone = Q(turn__gte=self.turn)
        if self.moved:
            gone &= ~Q(position__in=self.moved)
        return gone | Q(position__in=self.stray) if self.stray else gone

    def mend(self, items: SessionItemQuerySet) -> None:
        """Set right what stays: outputs in their calls' turns, undone compactions."""
        for position, turn in self.moved.items():
            items.filter(position=position).update(turn=turn)
        if self.restored:
            items.filter(replaced_at__in=self.restored).update(replaced_at=None)


def cut_before(turn: int) -> Callable[[SessionItemQuerySet], Cut]:
    """
    Return find_cut() for this turn.

    Raise ValueError unless it is 1 or higher, TypeError unless it is an integer.
    """
    if index(turn) < 1:
        raise ValueError("Turns are numbered from 1; clear_session() removes them all.")
    return partial(find_cut, turn=turn)


def find_cut(items: SessionItemQuerySet, turn: int) -> Cut:
    """
    Return the cut before this turn of a session that is locked.

    Raise TurnGone if there is no such turn, TurnCompacted if a summary that is on one
    side stands for what is on the other.
    """
    opening = items.filter(turn=turn).order_by("position")
    first = opening.values_list("position", "created_at").first()
    if first is None:
        raise TurnGone(f"The session has no turn {turn}.")
    position, moment = first
    later = items.filter(position__gte=position)
    # A compaction replaces the newest items, so each that came after the cut has
    # replaced some behind it: all that it replaced has the same time.
    replaced = later.replaced().order_by().values_list("replaced_at", flat=True)
    restored = {time for time in replaced if time is not None}
    if _is_summary(items, position, moment, restored):
        raise InsideSummary("A compaction wrote this turn, for all that it replaced.")
    between = later.filter(turn__lt=turn).values_list("pk")
    if restored and between.first() is not None:
        raise TurnCompacted("A compaction stands for this turn and for earlier ones.")
    moved, stray = _match_outputs(items, later, turn)
    return Cut(turn, position, moved, stray, restored)


def _is_summary(
    items: SessionItemQuerySet,
    position: int,
    moment: datetime,
    restored: set[datetime],
) -> bool:
    # What is written at once has one time. A summary comes right after what it has
    # replaced; older SDKs clear the session and write it anew.
    batch = items.filter(position__gte=position, created_at=moment)
    if batch.filter(type="compaction").values_list("pk").first() is not None:
        return True
    earlier = items.filter(position__lt=position).exclude(created_at=moment)
    before = earlier.order_by("-position").values_list("replaced_at", flat=True)
    replaced_at = before.first()
    return replaced_at is not None and replaced_at not in restored


def _match_outputs(
    items: SessionItemQuerySet, later: SessionItemQuerySet, turn: int
) -> tuple[dict[int, int], set[int]]:
    called: dict[bool, set[Key]] = {True: set(), False: set()}
    answered: list[tuple[int, bool, Key]] = []
    for position, goes, call, output in _read_pairs(later, turn):
        if call is not None:
            called[goes].add(call)
        elif output is not None and output not in called[goes]:
            answered.append((position, goes, output))
    if not answered:
        return {}, set()
    keys = {key for _, _, key in answered}
    turns = find_calls(items.filter(turn__lt=turn), keys)
    moved, stray = {}, set()
    for position, goes, key in answered:
        if goes and key in turns:
            moved[position] = turns[key]
        elif not goes and key not in turns and key in called[True]:
            stray.add(position)
    return moved, stray


def _read_pairs(
    later: SessionItemQuerySet, turn: int
) -> Iterator[tuple[int, bool, Key | None, Key | None]]:
    rows = later.filter(CALLS | OUTPUTS).order_by("position")
    columns = rows.values_list("position", "turn", RAW)
    for position, number, text in columns.iterator(chunk_size=_CHUNK):
        item = decode_item(text) or {}
        yield position, number >= turn, call_key(item), output_key(item)
