"""
Pages of a transcript, by position: each costs the same, however long the session is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agent_sessions.fields import RAW
from agent_sessions.models import AgentSession, SessionItem, SessionItemQuerySet
from agent_sessions.store.handles import row_handle
from agent_sessions.store.pairs import CALLS, OUTPUTS
from agent_sessions.store.usage import read_turn_usage
from agent_sessions.transcript.blocks import Block, ToolCall, ToolOutput, shorten
from agent_sessions.transcript.reading import (
    PAIRING_WINDOW,
    pair_blocks,
    read_block,
)
from agent_sessions.transcript.turns import (
    Previous,
    Section,
    group_blocks,
    select_blocks,
)

# An item may hold an image of megabytes, so few are held at once.
_CHUNK = 5
# As many as one cursor goes through: a download may take minutes.
_STRETCH = 100


@dataclass(frozen=True, slots=True)
class TranscriptPage:
    """``first`` and ``last`` are positions, None on an empty page."""

    sections: list[Section]
    first: int | None
    last: int | None
    has_older: bool
    has_newer: bool


def read_transcript_page(
    session: AgentSession,
    *,
    before: int | None = None,
    after: int | None = None,
    turn: int | None = None,
    size: int = 100,
    text_limit: int | None = None,
    with_usage: bool = False,
) -> TranscriptPage:
    """
    Return up to ``size`` items of the session, replaced ones too, as a transcript.

    The newest, or those just before or after a position; with ``turn`` only those of
    that turn. A call is shown with its output also if that is on another page, up to
    200 positions away. Texts longer than ``text_limit`` characters are cut. With
    ``with_usage`` the page's turns say what they have used.
    """
    items = _items(session)
    if turn is not None:
        items = items.filter(turn=turn)
    if after is not None:
        rows = items.filter(position__gt=after).order_by("position")
    else:
        rows = items.order_by("-position")
        if before is not None:
            rows = rows.filter(position__lt=before)
    blocks: list[Block] = []
    previous = None
    has_more = False
    for row in rows[: size + 1].iterator(chunk_size=_CHUNK):
        if len(blocks) == size:
            has_more = True
            previous = Previous(row.turn, row.created_at)
        else:
            blocks.append(_read(row, text_limit))
    has_older = has_newer = has_more
    if after is None:
        blocks.reverse()
        has_newer = before is not None and _reaches(items, before)
    else:
        previous = _find_previous(items, after)
        has_older = previous is not None
    if not blocks:
        return TranscriptPage([], None, None, has_older, has_newer)
    first, last = blocks[0].position, blocks[-1].position
    paired = list(pair_blocks(blocks, window=size + 1))
    around = [
        *(_calls_before(items, first, text_limit, paired) if has_older else ()),
        *blocks,
        *(_outputs_after(items, last, text_limit, paired) if has_newer else ()),
    ]
    if len(around) > len(blocks):
        paired = list(pair_blocks(around, window=len(around) + 1))
    shown = select_blocks(paired, first, last)
    usage = None
    if with_usage:
        numbers = {block.turn for block in shown}
        usage = read_turn_usage(session.pk, numbers, using=items.db)
    sections = group_blocks(shown, previous=previous, usage=usage)
    return TranscriptPage(sections, first, last, has_older, has_newer)


def read_blocks(session: AgentSession) -> Iterator[Block]:
    """Yield the whole session as blocks, holding few of its items at a time."""
    return pair_blocks(read_block(row) for row in iterate_rows(session))


def iterate_rows(session: AgentSession) -> Iterator[SessionItem]:
    """Yield the session's items in order, replaced ones too, a few at a time."""
    items, position = _items(session).order_by("position"), -1
    while True:
        count = 0
        stretch = items.filter(position__gt=position)[:_STRETCH]
        for row in stretch.iterator(chunk_size=_CHUNK * 4):
            count, position = count + 1, row.position
            yield row
        if count < _STRETCH:
            return


def find_row(session: AgentSession, position: int) -> SessionItem | None:
    """Return the session's item at this position."""
    return _items(session).filter(position=position).first()


def read_raw(row: SessionItem) -> str:
    """Return the item's JSON text as it stands in the database."""
    items = SessionItem.objects.using(row._state.db).filter(pk=row.pk)
    return str(items.values_list(RAW, flat=True).get())


def _items(session: AgentSession) -> SessionItemQuerySet:
    items = SessionItem.objects.using(row_handle(session).using)
    columns = ("position", "turn", "created_at", "replaced_at", "data")
    return items.filter(session=session.pk).only(*columns)


def _read(row: SessionItem, text_limit: int | None) -> Block:
    block = read_block(row)
    return block if text_limit is None else shorten(block, text_limit)


def _reaches(items: SessionItemQuerySet, position: int) -> bool:
    return items.filter(position__gte=position).exists()


def _find_previous(items: SessionItemQuerySet, after: int) -> Previous | None:
    older = items.filter(position__lte=after).order_by("-position")
    found = older.values_list("turn", "created_at").first()
    return None if found is None else Previous(*found)


def _calls_before(
    items: SessionItemQuerySet, first: int, limit: int | None, paired: list[Block]
) -> list[Block]:
    if not any(isinstance(block, ToolOutput) for block in paired):
        return []
    rows = items.filter(position__range=(first - PAIRING_WINDOW, first - 1))
    return _halves(rows.filter(CALLS | OUTPUTS), limit)


def _outputs_after(
    items: SessionItemQuerySet, last: int, limit: int | None, paired: list[Block]
) -> list[Block]:
    if all(block.is_answered for block in paired if isinstance(block, ToolCall)):
        return []
    rows = items.filter(position__range=(last + 1, last + PAIRING_WINDOW))
    return _halves(rows.filter(CALLS | OUTPUTS), limit)


def _halves(rows: SessionItemQuerySet, limit: int | None) -> list[Block]:
    # Calls and outputs alike: an id that is used twice goes to its nearest half.
    chunks = rows.order_by("position").iterator(chunk_size=_CHUNK)
    return [_read(row, limit) for row in chunks]
