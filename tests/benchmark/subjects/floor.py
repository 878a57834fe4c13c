"""
The floor on PostgreSQL: what asyncpg can do with one round trip a call.

No owner, no counters but the position, no turns, no healing, and prepared statements,
which asyncpg has by itself. What it leaves out is what a store costs.
"""

from __future__ import annotations

import json
from typing import Any

import asyncpg
from django.db import connections

from tests.benchmark.subjects.subject import Session, Subject

_TABLES = """
CREATE TABLE IF NOT EXISTS floor_session (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    session_id text NOT NULL UNIQUE,
    next_position integer NOT NULL
);
CREATE TABLE IF NOT EXISTS floor_item (
    session bigint NOT NULL REFERENCES floor_session (id),
    position integer NOT NULL,
    data text NOT NULL,
    PRIMARY KEY (session, position)
);
"""
_ADD = """
WITH s AS (
    INSERT INTO floor_session AS f (session_id, next_position) VALUES ($1, $2)
    ON CONFLICT (session_id) DO UPDATE SET next_position = f.next_position + $2
    RETURNING id, next_position - $2 AS base)
INSERT INTO floor_item (session, position, data)
SELECT s.id, s.base + i.nr, i.data
FROM s, unnest($3::text[]) WITH ORDINALITY AS i (data, nr)
"""
_ITEMS = """
SELECT data FROM floor_item
WHERE session = (SELECT id FROM floor_session WHERE session_id = $1) ORDER BY position
"""
_POP = """
DELETE FROM floor_item WHERE (session, position) = (
    SELECT session, position FROM floor_item
    WHERE session = (SELECT id FROM floor_session WHERE session_id = $1)
    ORDER BY position DESC LIMIT 1)
RETURNING data
"""
_CLEAR = """
DELETE FROM floor_item
WHERE session = (SELECT id FROM floor_session WHERE session_id = $1)
"""
_TRIM = """
WITH s AS (
    UPDATE floor_session SET next_position = $2 WHERE session_id = ANY ($1)
    RETURNING id)
DELETE FROM floor_item WHERE session IN (SELECT id FROM s) AND position > $2
"""


class Floor(Subject):
    name = "floor"
    key = "floor"

    def __init__(self, alias: str) -> None:
        self.alias = alias

    async def open(self) -> None:
        database = connections[self.alias].settings_dict
        self.pool = await asyncpg.create_pool(
            host=database["HOST"],
            port=int(database["PORT"]),
            user=database["USER"],
            password=database["PASSWORD"] or None,
            database=database["NAME"],
            min_size=15,
            max_size=15,
            # The pool's own reset would be a second round trip.
            reset=_keep,
        )
        await self.pool.execute(_TABLES)

    async def close(self) -> None:
        await self.pool.close()

    def session(self, session_id: str) -> Session:
        return FloorSession(session_id, self.pool)

    async def trim(self, session_ids: list[str], length: int) -> None:
        await self.pool.execute(_TRIM, session_ids, length)


class FloorSession:
    def __init__(self, session_id: str, pool: asyncpg.Pool) -> None:
        self.session_id = session_id
        self.session_settings = None
        self._pool = pool

    async def get_items(self, limit: int | None = None) -> list[Any]:
        if limit is None:
            rows = await self._pool.fetch(_ITEMS, self.session_id)
        else:
            rows = await self._pool.fetch(
                f"{_ITEMS} DESC LIMIT $2", self.session_id, limit
            )
            rows.reverse()
        return [json.loads(row[0]) for row in rows]

    async def add_items(self, items: list[Any]) -> None:
        data = [json.dumps(item, separators=(",", ":")) for item in items]
        await self._pool.execute(_ADD, self.session_id, len(data), data)

    async def pop_item(self) -> Any:
        data = await self._pool.fetchval(_POP, self.session_id)
        return None if data is None else json.loads(data)

    async def clear_session(self) -> None:
        await self._pool.execute(_CLEAR, self.session_id)


async def _keep(connection: Any) -> None:
    return None
