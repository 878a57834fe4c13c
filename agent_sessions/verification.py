"""Whether what came in is what the source gave."""

from __future__ import annotations

from uuid import UUID

from agent_sessions import store
from agent_sessions.arrivals import Planned, Tally
from agent_sessions.models import AgentSession
from agent_sessions.store.completion import Used
from agent_sessions.store.imports import StoredItem, TurnUse


def find_differences(written: list[Planned], *, using: str) -> list[str]:
    """Return for each session how what is stored differs; "" where it does not."""
    rows = [planned.row for planned in written]
    digests = _digest(rows, using)
    keys = [row.pk for row in rows]
    stored = {row.pk: row for row in store.find_taken([], keys, using=using)}
    used = store.read_used(keys, using=using)
    notes = []
    for planned in written:
        key, note = planned.row.pk, ""
        if digests[key] != planned.tally.digested:
            note = "what is stored differs from the source"
        elif key not in stored or not _agree(stored[key], planned.row):
            note = "its row differs from the source"
        elif not all(_is_counted(key, use, used) for use in planned.session.usage):
            note = "what its turns have used differs from the source"
        notes.append(note)
    return notes


def _digest(rows: list[AgentSession], using: str) -> dict[UUID, tuple[int, str]]:
    """Return counts and digests of what is stored, up to where the rows count."""
    tallies = {row.pk: Tally() for row in rows}
    ends = {row.pk: row.next_position for row in rows}
    item: StoredItem
    for item in store.read_stored(list(tallies), using=using):
        if item.position < ends[item.session]:
            tallies[item.session].digest(item.position, item.text, item.created_at)
    return {key: tally.digested for key, tally in tallies.items()}


def _agree(stored: AgentSession, row: AgentSession) -> bool:
    names = [field.attname for field in AgentSession._meta.concrete_fields]
    if (stored.updated_at, stored.revision) != (row.updated_at, row.revision):
        # Somebody goes on with it already.
        names = ["session_id", "created_at"]
    return all(getattr(stored, name) == getattr(row, name) for name in names)


def _is_counted(key: UUID, use: TurnUse, used: Used) -> bool:
    # More is right: somebody goes on with it already.
    stored = used.get((key, use.turn))
    return stored is not None and not use.usage.less(stored)
