from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from agents.extensions.memory import SQLAlchemySession
from django.db import connections
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.benchmark.items import Item
from tests.benchmark.subjects.subject import Session, Subject

# What SQLAlchemySession's own add_items() leaves behind when items come one by one, a
# second apart: it orders by created_at.
_SESSION = "INSERT INTO agent_sessions (session_id) VALUES (:id)"
_ITEMS = """
INSERT INTO agent_messages (session_id, message_data, created_at)
SELECT :id, data, CURRENT_TIMESTAMP::timestamp - (:length - nr) * interval '1 second'
FROM unnest(CAST(:items AS text[])) WITH ORDINALITY AS i (data, nr) ORDER BY nr
"""
_TRIM = """
DELETE FROM agent_messages WHERE id IN (
    SELECT id FROM (
        SELECT id, row_number() OVER (PARTITION BY session_id ORDER BY created_at, id)
            AS nr
        FROM agent_messages WHERE session_id = ANY (:ids)) AS i
    WHERE nr > :length)
"""
_FORGET = "DELETE FROM agent_sessions WHERE session_id = ANY (:ids)"


def postgresql_url(alias: str) -> str:
    """Return the URL of a Django database for SQLAlchemy on asyncpg."""
    database = connections[alias].settings_dict
    login = quote(database["USER"], safe="")
    if database["PASSWORD"]:
        login += ":" + quote(database["PASSWORD"], safe="")
    server = f"{database['HOST']}:{database['PORT']}"
    return f"postgresql+asyncpg://{login}@{server}/{database['NAME']}"


class FreshSQLAlchemy(Subject):
    """A new object for every turn, on one engine with SQLAlchemy's default settings."""

    name = "SQLAlchemySession, fresh"
    key = "sqlalchemy-fresh"
    options: dict[str, Any] = {}

    def __init__(self, url: str) -> None:
        self.url = url

    async def open(self) -> None:
        self.engine = create_async_engine(self.url, **self.options)
        # Its own, so that setting up leaves nothing in the engine's statement cache.
        self.spare_engine = create_async_engine(self.url)
        self.spares: dict[str, Session] = {}
        first = SQLAlchemySession("first", engine=self.spare_engine, create_tables=True)
        await first.get_items()

    async def close(self) -> None:
        await self.engine.dispose()
        await self.spare_engine.dispose()

    def session(self, session_id: str) -> Session:
        return self._new(session_id, self.engine)

    def spare(self, session_id: str) -> Session:
        session = self.spares.get(session_id)
        if session is None:
            session = self._new(session_id, self.spare_engine)
            self.spares[session_id] = session
        return session

    async def seed(self, session_id: str, items: list[Item]) -> None:
        if self.engine.dialect.name != "postgresql":
            await super().seed(session_id, items)
            return
        data = [json.dumps(item, separators=(",", ":")) for item in items]
        async with self.spare_engine.begin() as connection:
            await connection.execute(text(_SESSION), {"id": session_id})
            values = {"id": session_id, "length": len(data), "items": data}
            await connection.execute(text(_ITEMS), values)

    async def trim(self, session_ids: list[str], length: int) -> None:
        if self.engine.dialect.name != "postgresql":
            await super().trim(session_ids, length)
            return
        async with self.spare_engine.begin() as connection:
            values = {"ids": session_ids, "length": length}
            await connection.execute(text(_TRIM), values)

    def _new(self, session_id: str, engine: AsyncEngine) -> SQLAlchemySession:
        return SQLAlchemySession(session_id, engine=engine)


class ReusedSQLAlchemy(FreshSQLAlchemy):
    """
    One object for each session, used for all its turns, and 15 connections kept.

    SQLAlchemy compiles a statement anew for every object, so a warm one saves much.
    """

    name = "SQLAlchemySession, reused"
    key = "sqlalchemy-reused"
    # No overflow: connections above the pool's size are closed after each use.
    options = {"pool_size": 15, "max_overflow": 0}

    async def open(self) -> None:
        await super().open()
        self.objects: dict[str, Session] = {}

    def session(self, session_id: str) -> Session:
        session = self.objects.get(session_id)
        if session is None:
            session = self.objects[session_id] = self._new(session_id, self.engine)
        return session

    async def seed(self, session_id: str, items: list[Item]) -> None:
        await super().seed(session_id, items)
        session = self.session(session_id)
        await session.add_items([items[-1]])
        await session.get_items()
        await self.spare(session_id).pop_item()

    async def new_ids(self, count: int) -> list[str]:
        # The same ones again, forgotten as clear_session() does it: a warm object meets
        # an unknown session.
        ids = [f"{self.key}-new-{number}" for number in range(count)]
        async with self.spare_engine.begin() as connection:
            await connection.execute(text(_FORGET), {"ids": ids})
        return ids
