"""From what a source gives to what the store keeps, as its own append would have."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from enum import Enum, auto
from itertools import zip_longest
from typing import Any

from django.conf import settings
from django.utils import timezone

from agent_sessions import store
from agent_sessions.encoding import recode_item
from agent_sessions.identifiers import clean_session_id, uuid7
from agent_sessions.importers.records import Source, SourceItem, SourceSession
from agent_sessions.metadata import Metadata, clean_metadata
from agent_sessions.models import AgentSession
from agent_sessions.shapes import (
    item_role,
    item_type,
    preview_text,
    starts_turn,
)
from agent_sessions.store.batches import PlacedItem
from agent_sessions.store.sessions import clean_title


class Relation(Enum):
    """How a stored session stands to one of the source."""

    SAME = auto()
    CONTINUED_HERE = auto()
    CONTINUED_THERE = auto()
    OTHER = auto()


class Tally:
    """What is counted of a session's items while they pass."""

    def __init__(self) -> None:
        self.items = 0
        self.turns = 0
        self.last_turn = 0
        self.broken = 0
        self.encrypted = 0
        self.bytes = 0
        self.preview = ""
        self.latest: datetime | None = None
        self._hash = hashlib.sha256()

    def digest(self, position: int, text: str, created_at: datetime) -> None:
        """Take an item into the digest."""
        data = text.encode()
        if created_at.tzinfo is None:
            # Which of two like hours it was, at the end of summer, is not stored.
            created_at = created_at.replace(fold=0)
        self._hash.update(b"%d %r %d\n" % (position, created_at.timestamp(), len(data)))
        self._hash.update(data)
        self.items += 1
        self.bytes += len(data)

    @property
    def digested(self) -> tuple[int, str]:
        return self.items, self._hash.hexdigest()


class Planned:
    """
    A session of the source on its way: its row, and its items as often as asked.

    Raise InvalidSessionId, InvalidTitle or InvalidMetadata for what cannot be kept.
    """

    def __init__(
        self,
        source: Source,
        session: SourceSession,
        *,
        session_id: str,
        user_id: Any,
        notes: Metadata | None = None,
    ) -> None:
        self.session = session
        self.user_id = user_id
        self.notes = dict(notes or {})
        self.row = _make_row(session, session_id, user_id, notes)
        # A copy has keys of its own, as the original may be here as well.
        self.keeps_keys = session.columns is not None and (
            self.row.pk == session.columns["id"]
        )
        self.tally = Tally()
        # A fork of a session that is not here.
        self.is_unlinked = False
        self._source = source
        self._whole: list[PlacedItem] | None = None

    @property
    def is_renamed(self) -> bool:
        return bool(self.row.session_id != self.session.session_id)

    def read_ahead(self, most_items: int, most_bytes: int) -> bool:
        """Hold all items from now on; False if they are more than this."""
        whole: list[PlacedItem] = []
        size = 0
        with closing(self._place()) as items:
            for item in items:
                whole.append(item)
                size += len(item.data)
                if len(whole) > most_items or size > most_bytes:
                    return False
        self._whole = whole
        return True

    def items(self) -> Iterable[PlacedItem]:
        """
        Return the items as they are to be stored.

        Once they are through, ``tally`` and the row's counters are right.
        """
        return self._place() if self._whole is None else self._whole

    def items_from(self, position: int) -> Iterator[PlacedItem]:
        return (item for item in self.items() if item.position >= position)

    def continue_row(self, row: AgentSession) -> None:
        """Count on in a row that has the first of the items already."""
        self.row = row
        self._whole = None

    def _place(self) -> Generator[PlacedItem, None, None]:
        tally = Tally()
        exact = self.session.columns is not None
        with closing(self._source.items(self.session)) as items:
            for item in items:
                placed = self._exact(item) if exact else self._plain(item, tally)
                tally.digest(placed.position, placed.data, placed.created_at)
                tally.latest = placed.created_at
                yield placed
        self.tally = tally
        if not exact:
            self._count(tally)

    def _plain(self, item: SourceItem, tally: Tally) -> PlacedItem:
        text, decoded = recode_item(item.text)
        opens = decoded is not None and starts_turn(decoded)
        preview = preview_text(decoded) if opens and decoded is not None else ""
        turn = tally.last_turn + opens if item.turn is None else item.turn
        tally.turns += opens
        tally.last_turn = max(tally.last_turn, turn)
        tally.preview = tally.preview or preview
        tally.broken += decoded is None
        tally.encrypted += decoded is not None and decoded.get("__enc__") == 1
        return PlacedItem(
            session=self.row.pk,
            position=tally.items,
            turn=turn,
            data=text,
            type="" if decoded is None else item_type(decoded),
            role="" if decoded is None else item_role(decoded),
            starts_turn=opens,
            preview=preview,
            created_at=fit_time(item.created_at) or self.row.created_at,
        )

    def _exact(self, item: SourceItem) -> PlacedItem:
        return PlacedItem(
            id=item.id if self.keeps_keys and item.id else uuid7(),
            session=self.row.pk,
            position=item.position,
            turn=item.turn or 0,
            data=item.text,
            type=item.type,
            role=item.role,
            starts_turn=False,
            preview="",
            created_at=fit_time(item.created_at) or self.row.created_at,
            replaced_at=fit_time(item.replaced_at),
        )

    def _count(self, tally: Tally) -> None:
        row = self.row
        row.item_count = row.next_position = tally.items
        row.turn_count = tally.turns
        # What a turn that is gone has used stays its own.
        used = (use.turn for use in self.session.usage)
        row.next_turn = max([tally.last_turn, *used]) + 1
        row.preview = tally.preview
        row.updated_at = (
            fit_time(self.session.updated_at) or tally.latest or row.created_at
        )


def compare(planned: Planned, row: AgentSession) -> Relation:
    """Return how ``row``, which has the planned session's id, stands to it."""
    timed = fit_time(planned.session.created_at) is not None
    if timed and row.created_at != planned.row.created_at:
        return Relation.OTHER
    stored = store.read_stored([row.pk], using=row._state.db)
    relation = Relation.SAME
    count = 0
    for here, there in zip_longest(stored, planned.items()):
        if there is None:
            relation = Relation.CONTINUED_HERE
            break
        if here is None:
            relation = Relation.CONTINUED_THERE
        elif here.text != there.data or (timed and here.created_at != there.created_at):
            return Relation.OTHER
        else:
            count += 1
    if relation != Relation.SAME and not (timed or count):
        # Nothing says that an empty one is the same: it may be somebody's.
        return Relation.OTHER
    return relation


def fit_time(time: datetime | None) -> datetime | None:
    """
    Return the time with a zone, or without, as the project keeps times.

    None for what no database keeps: a time before the first year, or after the last.
    """
    if time is None:
        return None
    try:
        if settings.USE_TZ:
            aware = timezone.make_aware(time) if timezone.is_naive(time) else time
            return aware.astimezone(UTC)
        return timezone.make_naive(time) if timezone.is_aware(time) else time
    except OverflowError:
        return None


def _make_row(
    session: SourceSession, session_id: str, user_id: Any, notes: Metadata | None
) -> AgentSession:
    columns = dict(session.columns or {})
    for name in ("owned_at", "archived_at", "forked_at", "created_at", "updated_at"):
        columns[name] = fit_time(columns.get(name))
    created_at = fit_time(session.created_at) or timezone.now()
    columns["created_at"] = created_at
    columns["updated_at"] = fit_time(session.updated_at) or created_at
    if session.forked_from is not None:
        columns["forked_at"] = created_at
    if user_id is not None and columns["owned_at"] is None:
        columns["owned_at"] = created_at
    metadata = dict(session.metadata)
    if notes:
        metadata["imported"] = notes
    if session_id != session.session_id and "id" in columns:
        del columns["id"]
    return AgentSession(
        session_id=clean_session_id(session_id),
        user_id=user_id,
        title=clean_title(session.title),
        metadata=clean_metadata(metadata),
        **columns,
    )
