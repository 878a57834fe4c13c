"""Numbers for people to read, in their language."""

from __future__ import annotations

from typing import Any

from django.utils.formats import number_format
from django.utils.translation import pgettext_lazy

_SHORT: list[tuple[int, Any]] = [
    (10**9, pgettext_lazy("billions", "%(number)sB")),
    (10**6, pgettext_lazy("millions", "%(number)sM")),
    (10**3, pgettext_lazy("thousands", "%(number)sk")),
]
_LONGEST = 10_000


def spell_amount(count: int) -> str:
    """Return the number with its digits in groups: "1,234,567"."""
    return str(number_format(count, force_grouping=True))


def shorten_amount(count: int) -> str:
    """Return a number of five digits and more by its first three: "1.23M"."""
    if count < _LONGEST:
        return spell_amount(count)
    # Rounded first: 999,999 is a million.
    scale: int = 10 ** (len(str(count)) - 3)
    rounded = (count + scale // 2) // scale * scale
    unit, words = next(pair for pair in _SHORT if rounded >= pair[0])
    decimals = max(0, 3 - len(str(rounded // unit)))
    number = number_format(rounded / unit, decimals, force_grouping=True)
    return str(words % {"number": number})
