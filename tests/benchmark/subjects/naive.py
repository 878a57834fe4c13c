"""What people write first for Django: its async ORM, a query for each thought."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.db import connections

from tests.benchmark.models import NaiveItem, NaiveSession
from tests.benchmark.subjects.subject import Session, Subject


class Naive(Subject):
    name = "naive async ORM"
    key = "naive"

    def __init__(self, alias: str) -> None:
        self.alias = alias

    async def close(self) -> None:
        await sync_to_async(connections.close_all)()

    def session(self, session_id: str) -> Session:
        return AsyncORMSession(session_id, self.alias)


class AsyncORMSession:
    def __init__(self, session_id: str, using: str) -> None:
        self.session_id = session_id
        self.session_settings = None
        self._using = using

    async def get_items(self, limit: int | None = None) -> list[Any]:
        items = self._items().values_list("data", flat=True)
        if limit is None:
            return [data async for data in items]
        newest = [data async for data in items.reverse()[:limit]]
        return newest[::-1]

    async def add_items(self, items: list[Any]) -> None:
        sessions = NaiveSession.objects.using(self._using)
        session, _ = await sessions.aget_or_create(session_id=self.session_id)
        await NaiveItem.objects.using(self._using).abulk_create(
            [NaiveItem(session=session, data=item) for item in items]
        )

    async def pop_item(self) -> Any:
        last = await self._items().alast()
        if last is None:
            return None
        await last.adelete()
        return last.data

    async def clear_session(self) -> None:
        await self._items().adelete()

    def _items(self) -> Any:
        return NaiveItem.objects.using(self._using).filter(
            session__session_id=self.session_id
        )
