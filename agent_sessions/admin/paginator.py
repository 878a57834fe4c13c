from __future__ import annotations

from typing import Any

from django.core.paginator import Paginator
from django.utils.functional import cached_property

# Beyond these nobody turns pages: the table is not counted for them.
COUNT_LIMIT = 10_000


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Pages of the first 10,000 rows, found without counting the others."""

    @cached_property
    def count(self) -> int:
        return min(self._seen, COUNT_LIMIT)

    @property
    def is_cut(self) -> bool:
        """There are more rows than pages for them."""
        return self._seen > COUNT_LIMIT

    @cached_property
    def _seen(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by()[: COUNT_LIMIT + 1].count())
