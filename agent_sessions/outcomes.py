"""What became of the sessions of an import: for people to read, never with content."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

_SPELLED = 80


class Kind(StrEnum):
    IMPORTED = "imported"
    CONTINUED = "continued"
    PRESENT = "already there"
    SKIPPED = "skipped"
    CONFLICT = "conflict"
    REFUSED = "refused"
    DIFFERENT = "different"


FAILURES = frozenset({Kind.CONFLICT, Kind.REFUSED, Kind.DIFFERENT})


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What became of one session of the source.

    ``stored_as`` is its id here, if it has another one. ``items`` were written,
    ``broken`` and ``encrypted`` are among them. ``note`` says why.
    """

    kind: Kind
    session_id: str
    note: str = ""
    stored_as: str | None = None
    items: int = 0
    broken: int = 0
    encrypted: int = 0
    owned: bool = True

    @property
    def is_failure(self) -> bool:
        return self.kind in FAILURES

    def __str__(self) -> str:
        words = f"{_spell(self.session_id)}: {self.kind}"
        if self.stored_as is not None:
            words += f" as {_spell(self.stored_as)}"
        return f"{words}; {self.note}" if self.note else words


@dataclass(slots=True)
class Report:
    """The sum of outcomes; as text it is one line."""

    kinds: Counter[Kind] = field(default_factory=Counter)
    renamed: int = 0
    anonymous: int = 0
    items: int = 0
    broken: int = 0
    encrypted: int = 0

    def add(self, outcome: Outcome) -> None:
        self.kinds[outcome.kind] += 1
        self.renamed += outcome.stored_as is not None
        self.items += outcome.items
        self.broken += outcome.broken
        self.encrypted += outcome.encrypted
        if outcome.kind == Kind.IMPORTED:
            self.anonymous += not outcome.owned

    @property
    def failures(self) -> int:
        return sum(self.kinds[kind] for kind in FAILURES)

    def __str__(self) -> str:
        sessions = {str(kind): self.kinds[kind] for kind in Kind}
        sessions |= {"renamed": self.renamed, "without an owner": self.anonymous}
        items = {"broken": self.broken, "encrypted": self.encrypted}
        return f"Sessions: {_sum(sessions)}. Items written: {self.items}{_of(items)}."


def _sum(counts: Mapping[str, int]) -> str:
    return (
        ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "0"
    )


def _of(counts: Mapping[str, int]) -> str:
    return f" ({_sum(counts)})" if any(counts.values()) else ""


def _spell(session_id: str) -> str:
    if len(session_id) <= _SPELLED:
        return repr(session_id)
    return f"{session_id[:_SPELLED]!r}..."
