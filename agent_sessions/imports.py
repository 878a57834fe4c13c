"""
Sessions of other stores, brought into this one with their ids, order and times.

A session is written whole, in one transaction, then read back and compared with what
the source gave. One that is there already, with the same times and items, is left
alone: so an import may be killed, and repeated, as often as one likes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from agent_sessions import store
from agent_sessions.arrivals import Planned, Relation, compare, digest_stored
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
        """Bring these sessions in, those together that are not there yet."""
        if not batch:
            return
        taken = self._find_taken(batch)
        new = [it for it in batch if it.row.session_id not in taken]
        new = [it for it in new if it.row.pk not in taken]
        if new:
            yield from self._insert(new)
        for planned in batch:
            row = taken.get(planned.row.session_id) or taken.get(planned.row.pk)
            if row is not None:
                yield from self._meet(planned, row)

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
        yield from self._verify(new, Kind.IMPORTED)

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
        return _outcome(Kind.PRESENT, planned)

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
        rows = [planned.row for planned in written]
        digests = digest_stored(rows, self._alias)
        keys = [row.pk for row in rows]
        stored = {row.pk: row for row in store.find_taken([], keys, using=self._alias)}
        for planned in written:
            key, count = planned.row.pk, planned.tally.items - start
            if digests[key] != planned.tally.digested:
                note = "what is stored differs from the source"
            elif key not in stored or not _agree(stored[key], planned.row):
                note = "its row differs from the source"
            else:
                yield _outcome(kind, planned, written=count)
                continue
            yield _outcome(Kind.DIFFERENT, planned, note, written=count)


def _outcome(
    kind: Kind, planned: Planned, note: str = "", *, written: int = 0
) -> Outcome:
    renamed = planned.is_renamed and kind not in (Kind.CONFLICT, Kind.REFUSED)
    tally = planned.tally
    if renamed and tally.encrypted and not note:
        # EncryptedSession derives its keys from the id.
        note = "its encrypted items can only be read under the old id"
    return Outcome(
        kind,
        planned.session.session_id,
        note,
        stored_as=planned.row.session_id if renamed else None,
        items=written,
        broken=tally.broken if written else 0,
        encrypted=tally.encrypted if written else 0,
        owned=planned.row.owned_at is not None,
    )


def _agree(stored: AgentSession, row: AgentSession) -> bool:
    names = [field.attname for field in AgentSession._meta.concrete_fields]
    if (stored.updated_at, stored.revision) != (row.updated_at, row.revision):
        # Somebody goes on with it already.
        names = ["session_id", "created_at"]
    return all(getattr(stored, name) == getattr(row, name) for name in names)
