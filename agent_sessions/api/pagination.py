"""
Pages that begin behind a row, not at a number: page 400 costs what the first one does.

DRF's own cursors know one column, and lose their place among rows that share its value,
as those of an import do.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Model, Q
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

PAGE_SIZE = 20
MAX_PAGE_SIZE = 100

EARLIEST = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
LATEST = datetime.fromisoformat("9000-01-01T00:00:00+00:00")


@dataclass(frozen=True, slots=True)
class Key:
    """A column of the order, and how its value is read back from a cursor."""

    column: str
    read: Callable[[Any], Any]


def read_moment(value: Any) -> datetime:
    """Return a time that every database takes. Raise ValueError for others."""
    moment = datetime.fromisoformat(value)
    if not EARLIEST <= moment <= LATEST:
        raise ValueError("The time is out of range.")
    return moment


def read_position(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**31:
        raise ValueError("The position is out of range.")
    return value


UPDATED_AT = Key("updated_at", read_moment)
CREATED_AT = Key("created_at", read_moment)
ID = Key("id", UUID)
POSITION = Key("position", read_position)
TURN = Key("turn", read_position)

ORDERINGS: dict[str, tuple[Key, ...]] = {
    "updated_at": (UPDATED_AT, ID),
    "created_at": (CREATED_AT, ID),
    "position": (POSITION,),
    "turn": (TURN,),
}


class KeysetPagination(BasePagination):
    """
    Pages in the order that the view's query asks for.

    The cursor holds the row at the page's edge and the order, and is of use only with
    that order. It holds no secret: it can point only into rows that the caller sees.
    """

    def paginate_queryset(
        self, queryset: Any, request: Request, view: Any = None
    ) -> list[Any]:
        query: dict[str, Any] = view.query
        self.request = request
        self.ordering: str = query["ordering"]
        self.keys = ORDERINGS[self.ordering.removeprefix("-")]
        limit: int = query["limit"]
        backwards, edge = False, None
        if cursor := query.get("cursor"):
            backwards, edge = self._read_cursor(cursor)
        descending = self.ordering.startswith("-") is not backwards
        sign = "-" if descending else ""
        rows = queryset.order_by(*(sign + key.column for key in self.keys))
        if edge is not None:
            rows = rows.filter(self._behind(edge, "lt" if descending else "gt"))
        found = list(rows[: limit + 1])
        page, has_more = found[:limit], len(found) > limit
        if backwards:
            page.reverse()
        self.has_next = has_more if not backwards else bool(page)
        self.has_previous = has_more if backwards else edge is not None and bool(page)
        self.page = page
        return page

    def get_paginated_response(self, data: Any) -> Response:
        return Response(
            {
                "next": self._link(self.page[-1], False) if self.has_next else None,
                "previous": self._link(self.page[0], True)
                if self.has_previous
                else None,
                "results": data,
            }
        )

    def get_paginated_response_schema(self, schema: Any) -> Any:
        link = {"type": "string", "nullable": True, "format": "uri"}
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {"next": link, "previous": link, "results": schema},
        }

    def _behind(self, edge: list[Any], beyond: str) -> Q:
        first, *others = zip(self.keys, edge, strict=True)
        key, value = first
        condition = Q(**{f"{key.column}__{beyond}": value})
        if not others:
            return condition
        (tie, tie_value), *_ = others
        condition |= Q(**{f"{tie.column}__{beyond}": tie_value})
        # Said twice, because an index takes this and not the alternative.
        return Q(**{f"{key.column}__{beyond}e": value}) & condition

    def _link(self, row: Model, backwards: bool) -> str:
        edge = [_spell(getattr(row, key.column)) for key in self.keys]
        text = json.dumps([self.ordering, int(backwards), *edge], separators=(",", ":"))
        cursor = urlsafe_b64encode(text.encode()).decode().rstrip("=")
        url = self.request.build_absolute_uri()
        return str(replace_query_param(url, "cursor", cursor))

    def _read_cursor(self, cursor: str) -> tuple[bool, list[Any]]:
        try:
            padded = cursor + "=" * (-len(cursor) % 4)
            ordering, backwards, *edge = json.loads(urlsafe_b64decode(padded))
            pairs = zip(self.keys, edge, strict=True)
            values = [key.read(value) for key, value in pairs]
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise _refusal() from None
        if ordering != self.ordering or backwards not in (0, 1):
            raise _refusal()
        return bool(backwards), values


def _spell(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return value.hex if isinstance(value, UUID) else value


def _refusal() -> ValidationError:
    return ValidationError({"cursor": [_("This cursor is not one of this list.")]})
