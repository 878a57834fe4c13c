"""
Sessions of other stores, brought into this one with their ids, order and times.

A session is written whole, in one transaction, then read back and compared with what
the source gave. One that is there already, with the same times and items, is left
alone: so an import may be killed, and repeated, as often as one likes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal
from uuid import UUID

from agent_sessions import store
from agent_sessions.arrivals import Planned, Relation, compare
from agent_sessions.exceptions import (
    InvalidMetadata,
    InvalidSessionId,
    InvalidSource,
    InvalidTitle,
    InvalidUser,
    ItemTooLarge,
    SessionChanged,
    SessionExists,
    SessionGone,
    SessionOwnershipError,
)
from agent_sessions.identifiers import SESSION_ID_MAX_LENGTH, clean_session_id
from agent_sessions.importers.naming import legible_session_id, mend_session_id
from agent_sessions.importers.owners import OwnerRule, Owners
from agent_sessions.importers.records import Source, SourceSession
from agent_sessions.models import AgentSession
from agent_sessions.outcomes import Kind, Outcome
from agent_sessions.store.handles import session_alias
from agent_sessions.store.imports import Arrival
from agent_sessions.verification import find_differences

# Of one transaction: an item may hold an image of megabytes.
_BATCH_BYTES = 4 * 1024 * 1024
_BATCH_SESSIONS = 500
_NAMES = 100

_REFUSED = (InvalidMetadata, InvalidSource, InvalidTitle, InvalidUser, ItemTooLarge)


def import_sessions(
    source: Source,
    *,
    map_user: OwnerRule | None = None,
    user_field: str = "pk",
    on_conflict: Literal["error", "skip", "rename"] = "error",
    on_bad_id: Literal["error", "rename"] = "error",
    dry_run: bool = False,
    batch_size: int = 1000,
    using: str | None = None,
) -> Iterator[Outcome]:
    """
    Import the source's sessions, and yield what became of each.

    ``map_user`` tells a session's owner: a user, or the value of their ``user_field``;
    without it a source that knows owners is asked for their user name. One failure does
    not end the import. ``batch_size`` items are held, and written in one transaction; a
    longer session is one transaction for itself. With ``dry_run`` nothing is written.
    Raise InvalidSource if the source cannot be read on.
    """
    run = _Import(
        source,
        find_owner=Owners(map_user, user_field, session_alias(using)),
        on_conflict=on_conflict,
        on_bad_id=on_bad_id,
        dry_run=dry_run,
        batch_size=batch_size,
        alias=session_alias(using),
    )
    yield from run.all()


class _Import:
    def __init__(
        self,
        source: Source,
        *,
        find_owner: Owners,
        on_conflict: str,
        on_bad_id: str,
        dry_run: bool,
        batch_size: int,
        alias: str,
    ) -> None:
        self._source = source
        self._find_owner = find_owner
        self._on_conflict = on_conflict
        self._on_bad_id = on_bad_id
        self._dry_run = dry_run
        self._batch_size = batch_size
        self._alias = alias
        # Of sessions that have forks: their keys here, by their ids there.
        self._keys: dict[str, UUID] = {}

    def all(self) -> Iterator[Outcome]:
        batch: list[Planned] = []
        items = size = 0
        sessions = self._source.sessions()
        while True:
            try:
                session = next(sessions, None)
            except InvalidSource:
                yield from self._settle(batch)
                raise
            if session is None:
                break
            planned = self._plan(session)
            if isinstance(planned, Outcome):
                yield planned
                continue
            try:
                small = planned.read_ahead(self._batch_size, _BATCH_BYTES)
            except InvalidSource as error:
                yield _outcome(Kind.REFUSED, planned, str(error))
                continue
            if not small:
                yield from self._settle([planned])
                continue
            batch.append(planned)
            items += planned.tally.items
            size += planned.tally.bytes
            full = items >= self._batch_size or len(batch) >= _BATCH_SESSIONS
            if full or size >= _BATCH_BYTES:
                yield from self._settle(batch)
                batch, items, size = [], 0, 0
        yield from self._settle(batch)

    def _plan(self, session: SourceSession) -> Planned | Outcome:
        name, notes = session.session_id, dict(session.notes)
        try:
            clean_session_id(name)
        except InvalidSessionId as error:
            if self._on_bad_id == "error":
                return Outcome(Kind.REFUSED, name, str(error))
            notes["session_id"] = legible_session_id(name)
            name = mend_session_id(name)
        try:
            user_id = self._find_owner(session)
            return Planned(
                self._source, session, session_id=name, user_id=user_id, notes=notes
            )
        except _REFUSED as error:
            return Outcome(Kind.REFUSED, session.session_id, str(error))

    def _settle(self, batch: list[Planned]) -> Iterator[Outcome]:
        """Bring these in, together what is new: in order, forks after their origins."""
        taken = self._find_taken(batch)
        new: list[Planned] = []
        for planned in batch:
            row = taken.get(planned.row.session_id) or taken.get(planned.row.pk)
            if row is None:
                new.append(planned)
                continue
            yield from self._insert(new)
            yield from self._meet(planned, row)
            new = []
        yield from self._insert(new)

    def _find_taken(self, batch: list[Planned]) -> dict[Any, AgentSession]:
        names = [planned.row.session_id for planned in batch]
        keys = [planned.row.pk for planned in batch if planned.keeps_keys]
        rows = store.find_taken(names, keys, using=self._alias)
        return {key: row for row in rows for key in (row.session_id, row.pk)}

    def _insert(self, new: list[Planned]) -> Iterator[Outcome]:
        if self._dry_run:
            for planned in new:
                yield self._rehearse(planned, Kind.IMPORTED)
            return
        if not new:
            return
        keys = self._link(new)
        arrivals = [
            Arrival(planned.row, planned.items, planned.session.usage)
            for planned in new
        ]
        try:
            store.insert_sessions(arrivals, using=self._alias)
        except (SessionExists, *_REFUSED) as error:
            if len(new) > 1:
                # One of them; the others are to come in all the same.
                for planned in new:
                    yield from self._settle([planned])
            elif taken := self._find_taken(new):
                yield from self._meet(new[0], next(iter(taken.values())))
            else:
                yield _outcome(Kind.REFUSED, new[0], str(error))
            return
        self._keys |= keys
        yield from self._verify(new, Kind.IMPORTED)

    def _link(self, new: list[Planned]) -> dict[str, UUID]:
        """Tell forks whose they are; return the keys of those that have forks."""
        keys = {it.session.session_id: it.row.pk for it in new if it.session.has_forks}
        known = self._keys | keys
        for planned in new:
            origin = planned.session.forked_from
            if origin is not None:
                planned.row.forked_from = known.get(origin)
                planned.is_unlinked = origin not in known
        return keys

    def _meet(self, planned: Planned, row: AgentSession) -> Iterator[Outcome]:
        """Tell what becomes of a session whose id or key is taken by ``row``."""
        found = self._recognise(planned, row)
        if found is not None:
            yield found
        elif self._on_conflict == "rename":
            yield from self._rename(planned)
        else:
            skips = self._on_conflict == "skip"
            kind = Kind.SKIPPED if skips else Kind.CONFLICT
            yield _outcome(kind, planned, "its id is taken by another session")

    def _recognise(self, planned: Planned, row: AgentSession) -> Outcome | None:
        """Return what becomes of it if ``row`` is this very session, else None."""
        if row.session_id != planned.row.session_id:
            return None
        if planned.user_id not in (None, row.user_id):
            return None
        try:
            relation = compare(planned, row)
            if relation == Relation.OTHER:
                return None
            if relation == Relation.CONTINUED_THERE:
                return self._continue(planned, row)
        except _REFUSED as error:
            return _outcome(Kind.REFUSED, planned, str(error))
        completed = self._complete(planned, row, relation == Relation.SAME)
        return _outcome(Kind.CONTINUED if completed else Kind.PRESENT, planned)

    def _complete(self, planned: Planned, row: AgentSession, is_same: bool) -> bool:
        """Bring what the source did not tell before; return whether there was any."""
        session = planned.session
        if session.has_forks:
            self._keys[session.session_id] = row.pk
        # Of a session that went on here the source no longer knows what was used.
        usage = session.usage if is_same and session.columns is None else ()
        origin = self._keys.get(session.forked_from or "")
        lacks = store.is_incomplete(row, usage=usage, forked_from=origin)
        if lacks and not self._dry_run:
            store.complete_session(row, usage=usage, forked_from=origin)
        return lacks

    def _continue(self, planned: Planned, row: AgentSession) -> Outcome | None:
        start = row.next_position
        if planned.session.columns is not None or row.item_count != start:
            return None
        planned.continue_row(row)
        if self._dry_run:
            return self._rehearse(planned, Kind.CONTINUED, start)
        try:
            store.extend_session(row, lambda: planned.items_from(start))
        except (SessionChanged, SessionGone, SessionOwnershipError):
            return None
        self._complete(planned, row, True)
        return next(self._verify([planned], Kind.CONTINUED, start))

    def _rename(self, planned: Planned) -> Iterator[Outcome]:
        original = planned.row.session_id
        notes = {"session_id": original, **planned.notes}
        for number in range(1, _NAMES + 1):
            copy = Planned(
                self._source,
                planned.session,
                session_id=f"{original[: SESSION_ID_MAX_LENGTH - 5]}~{number}",
                user_id=planned.user_id,
                notes=notes,
            )
            taken = self._find_taken([copy])
            if not taken:
                yield from self._insert([copy])
                return
            found = self._recognise(copy, next(iter(taken.values())))
            if found is not None:
                yield found
                return
        yield _outcome(Kind.CONFLICT, planned, "its id is taken, and others like it")

    def _rehearse(self, planned: Planned, kind: Kind, start: int = 0) -> Outcome:
        try:
            for _ in planned.items():
                pass
        except _REFUSED as error:
            return _outcome(Kind.REFUSED, planned, str(error))
        return _outcome(kind, planned, written=planned.tally.items - start)

    def _verify(
        self, written: list[Planned], kind: Kind, start: int = 0
    ) -> Iterator[Outcome]:
        notes = find_differences(written, using=self._alias)
        for planned, note in zip(written, notes, strict=True):
            count = planned.tally.items - start
            yield _outcome(
                Kind.DIFFERENT if note else kind, planned, note, written=count
            )


def _outcome(
    kind: Kind, planned: Planned, note: str = "", *, written: int = 0
) -> Outcome:
    renamed = planned.is_renamed and kind not in (Kind.CONFLICT, Kind.REFUSED)
    tally = planned.tally
    notes = [note] if note else [planned.session.remark]
    if not note and planned.is_unlinked:
        notes.append("what it is a fork of did not come in")
    if not note and renamed and tally.encrypted:
        # EncryptedSession derives its keys from the id.
        notes.append("its encrypted items can only be read under the old id")
    return Outcome(
        kind,
        planned.session.session_id,
        "; ".join(filter(None, notes)),
        stored_as=planned.row.session_id if renamed else None,
        items=written,
        broken=tally.broken if written else 0,
        encrypted=tally.encrypted if written else 0,
        owned=planned.row.owned_at is not None,
    )
