"""How many items to hold at once: one may be a word, or an image of megabytes."""

from __future__ import annotations

from collections.abc import Collection

# Of the first page, of which nothing is known.
FIRST_PAGE = 20

_BYTES = 4 * 1024 * 1024
_MOST = 1000


def next_page(texts: Collection[str | bytes]) -> int:
    """Return how many items to read next, by the size of those that were last."""
    size = sum(map(len, texts))
    return max(1, min(_MOST, _BYTES * len(texts) // max(1, size)))
