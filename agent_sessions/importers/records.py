"""What every importer yields, whatever its source looks like."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Protocol, TypeAlias
from uuid import UUID

from agent_sessions.store.imports import TurnUse

# Far more than anybody pays for, and sums of it still fit.
_MOST = 2**53


class SourceItem(NamedTuple):
    """
    An item's JSON text as it stands in the source, and its time if that is known.

    ``turn`` is its turn's number; without it turns are counted. The rest is what only
    our own export knows.
    """

    text: str
    created_at: datetime | None = None
    turn: int | None = None
    id: UUID | None = None
    position: int = 0
    type: str = ""
    role: str = ""
    replaced_at: datetime | None = None


# A generator, so that whoever stops in the middle can close it.
SourceItems: TypeAlias = Generator[SourceItem, None, None]


@dataclass(frozen=True, slots=True)
class SourceSession:
    """
    A session of a source; ``place`` is where the source finds its items again.

    ``user`` and ``username`` are the owner's, if the source knows owners. A branch has
    the owner of the session that ``branch_of`` names, and is a fork of the one that
    ``forked_from`` names, which comes before it and has ``has_forks``. ``columns``
    are all of the row's other columns, which only our own export has. ``usage`` is what
    its turns have used. ``notes`` go into the metadata, under "imported"; ``remark`` is
    what to tell who runs the import.
    """

    session_id: str
    place: Any
    created_at: datetime | None = None
    updated_at: datetime | None = None
    title: str = ""
    user: str | None = None
    username: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    branch_of: str | None = None
    forked_from: str | None = None
    has_forks: bool = False
    columns: Mapping[str, Any] | None = None
    usage: Sequence[TurnUse] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    remark: str = ""


class Source(Protocol):
    """
    A store to import from, which is only read.

    What it yields it reads a little at a time, as often as asked. Raise InvalidSource.
    """

    def sessions(self) -> Iterator[SourceSession]:
        """Yield all sessions."""
        ...

    def items(self, session: SourceSession) -> SourceItems:
        """Yield the session's items in the order in which its store reads them."""
        ...

    def close(self) -> None:
        """Let go of the file, or the connection."""
        ...


def is_count(value: object) -> bool:
    """Tell whether a turn may have used so many tokens, or requests."""
    return type(value) is int and 0 <= value <= _MOST
