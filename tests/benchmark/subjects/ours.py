from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.db import connections
from django.test import override_settings

from agent_sessions import DjangoSession
from agent_sessions.crossing import close_connections, cross
from agent_sessions.models import AgentSession, SessionItem
from tests.benchmark.subjects.subject import Session, Subject


class Ours(Subject):
    """DjangoSession as a worker uses it: a new object for every turn, with its user."""

    name = "DjangoSession"
    key = "ours"

    def __init__(self, alias: str) -> None:
        self.alias = alias

    async def open(self) -> None:
        self.user = await sync_to_async(self._user)()

    async def close(self) -> None:
        close_connections()

    def session(self, session_id: str) -> Session:
        return DjangoSession(session_id, user=self.user, using=self.alias)

    async def trim(self, session_ids: list[str], length: int) -> None:
        await cross(partial(self._trim, session_ids, length), using=self.alias)

    def _trim(self, session_ids: list[str], length: int) -> None:
        sessions = AgentSession.objects.using(self.alias)
        mine = sessions.filter(session_id__in=session_ids)
        items = SessionItem.objects.using(self.alias)
        items.filter(session__in=mine, position__gte=length).delete()
        opened = items.filter(session=mine[0], role="user").count()
        mine.update(
            item_count=length,
            next_position=length,
            turn_count=opened,
            next_turn=opened + 1,
        )

    def _user(self) -> Any:
        users = get_user_model()._default_manager.using(self.alias)
        user, _ = users.get_or_create(username="bench")
        connections[self.alias].close()
        return user


class OursPortable(Ours):
    name = "DjangoSession, portable"
    key = "portable"

    def conditions(self) -> AbstractContextManager[Any]:
        return override_settings(AGENT_SESSIONS_PORTABLE=True)


class OursWal(Ours):
    name = "DjangoSession, WAL and IMMEDIATE"
    key = "ours-wal"


class OursPrepared(Ours):
    """With psycopg's prepared statements, which Django leaves off."""

    name = "DjangoSession, prepared"
    key = "ours-prepared"
