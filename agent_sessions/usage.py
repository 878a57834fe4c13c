"""What runs use of a model, in requests and tokens."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from operator import add, attrgetter
from typing import Any


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """
    Requests to a model and the tokens that they took.

    ``cached_input_tokens`` are a part of ``input_tokens``, ``reasoning_tokens`` of
    ``output_tokens``. Source: agents.Usage. False if nothing was used.
    """

    requests: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    total_tokens: int = 0

    @property
    def counts(self) -> tuple[int, ...]:
        """The six numbers, in the order of USAGE_FIELDS."""
        counts: tuple[int, ...] = _counts(self)
        return counts

    def __add__(self, other: TokenUsage) -> TokenUsage:
        return TokenUsage(*map(add, self.counts, other.counts))

    def less(self, other: TokenUsage) -> TokenUsage:
        """Return what this has more than ``other``, of nothing less than zero."""
        pairs = zip(self.counts, other.counts, strict=True)
        return TokenUsage(*(max(0, a - b) for a, b in pairs))

    def __bool__(self) -> bool:
        return any(self.counts)


USAGE_FIELDS = [field.name for field in fields(TokenUsage)]
# dataclasses.astuple() copies, which takes longer than the rest of a count.
_counts = attrgetter(*USAGE_FIELDS)


def clean_usage(usage: Any) -> TokenUsage:
    """
    Return the SDK's totals as they are now; any object of that shape will do.

    What a provider leaves out counts as zero.
    """
    return TokenUsage(
        requests=_count(usage, "requests"),
        input_tokens=_count(usage, "input_tokens"),
        cached_input_tokens=_count(
            getattr(usage, "input_tokens_details", None), "cached_tokens"
        ),
        output_tokens=_count(usage, "output_tokens"),
        reasoning_tokens=_count(
            getattr(usage, "output_tokens_details", None), "reasoning_tokens"
        ),
        total_tokens=_count(usage, "total_tokens"),
    )


def usage_day(moment: datetime) -> date:
    """Return the day, in UTC, that what is used at this moment is counted on."""
    return moment.astimezone(UTC).date()


def _count(source: Any, name: str) -> int:
    value = getattr(source, name, None)
    return max(0, value) if isinstance(value, int) else 0
