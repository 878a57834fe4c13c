"""Inserting items that have their places already: many sessions in one statement."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
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
# To hold few of those that are images.
_MAX_BYTES = 4 * 1024 * 1024
_COLUMNS = f"{ITEM_COLUMNS}, replaced_at"
_MARKS = "(%s, %s, %s, %s, %s, %s, %s, %s, %s)"
_INSERT = f"INSERT INTO {ITEM} ({_COLUMNS}) VALUES"
_COPY = f"COPY {ITEM} ({_COLUMNS}) FROM STDIN"


def insert_placed(items: Iterable[PlacedItem], *, using: str) -> None:
    """Insert the items as they are, few at a time. Raise ItemTooLarge."""
    connection = connections[using]
    for batch in _batches(items):
        for part in split_batch(batch, using=using):
            with connection.cursor() as cursor:
                # psycopg parses the text of a statement in Python: for this many
                # parameters that takes longer than all the rest.
                copy = getattr(cursor, "copy", None)
                if connection.vendor == "postgresql" and copy is not None:
                    with connection.wrap_database_errors, copy(_COPY) as rows:
                        for row in _rows(part, connection):
                            rows.write_row(row)
                else:
                    values = list(chain.from_iterable(_rows(part, connection)))
                    marks = ", ".join([_MARKS] * len(part))
                    cursor.execute(f"{_INSERT} {marks}", values)


def _batches(items: Iterable[PlacedItem]) -> Iterator[list[PlacedItem]]:
    batch: list[PlacedItem] = []
    size = 0
    for item in items:
        batch.append(item)
        size += len(item.data)
        if len(batch) >= _MAX_ITEMS or size >= _MAX_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _rows(
    batch: list[PlacedItem], connection: BaseDatabaseWrapper
) -> Iterator[tuple[Any, ...]]:
    moment = session = time = key = None
    for item in batch:
        # Neighbours have them in common.
        if item.created_at is not moment:
            moment = item.created_at
            time = adapt_time(moment, connection)
        if item.session is not session:
            session = item.session
            key = adapt_id(session, connection)
        replaced_at = item.replaced_at
        yield (
            adapt_id(item.id, connection),
            key,
            item.position,
            item.turn,
            item.type,
            item.role,
            item.data,
            time,
            None if replaced_at is None else adapt_time(replaced_at, connection),
        )
