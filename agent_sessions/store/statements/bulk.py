"""Inserting items that have their places already: many sessions in one statement."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from agent_sessions.store.batches import PlacedItem, split_batch
from agent_sessions.store.statements.phrases import (
    ITEM,
    ITEM_COLUMNS,
    adapt_id,
    adapt_time,
)

# Nine parameters an item; SQLite takes 32 766 in a statement.
_MAX_ITEMS = 1_000


def insert_placed(items: Iterable[PlacedItem], *, using: str) -> None:
    """Insert the items as they are, few at a time. Raise ItemTooLarge."""
    connection = connections[using]
    for batch in _batches(items):
        for part in split_batch(batch, using=using):
            _insert(part, connection)


def _batches(items: Iterable[PlacedItem]) -> Iterator[list[PlacedItem]]:
    remaining = iter(items)
    while batch := list(islice(remaining, _MAX_ITEMS)):
        yield batch


def _insert(batch: list[PlacedItem], connection: BaseDatabaseWrapper) -> None:
    values: list[Any] = []
    moment, time = None, None
    for item in batch:
        if item.created_at is not moment:
            moment = item.created_at
            time = adapt_time(moment, connection)
        values += (
            adapt_id(item.id, connection),
            adapt_id(item.session, connection),
            item.position,
            item.turn,
            item.type,
            item.role,
            item.data,
            time,
            None
            if item.replaced_at is None
            else adapt_time(item.replaced_at, connection),
        )
    rows = ", ".join(["(%s, %s, %s, %s, %s, %s, %s, %s, %s)"] * len(batch))
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {ITEM} ({ITEM_COLUMNS}, replaced_at) VALUES {rows}", values
        )
