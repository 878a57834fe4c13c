from __future__ import annotations

from pathlib import Path

from agents import SQLiteSession

from tests.benchmark.subjects.subject import Session, Subject


class ReusedSQLite(Subject):
    """The SDK's SQLiteSession: one object for each session, used for all its turns."""

    name = "SQLiteSession, reused"
    key = "sqlite-reused"

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{self.key}.sqlite3"
        self.objects: dict[str, SQLiteSession] = {}

    async def close(self) -> None:
        for session in self.objects.values():
            session.close()

    def session(self, session_id: str) -> Session:
        session = self.objects.get(session_id)
        if session is None:
            session = self.objects[session_id] = SQLiteSession(session_id, self.path)
        return session


class FreshSQLite(Subject):
    """The SDK's SQLiteSession: a new object for every turn."""

    name = "SQLiteSession, fresh"
    key = "sqlite-fresh"

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{self.key}.sqlite3"
        self.used: list[SQLiteSession] = []

    def session(self, session_id: str) -> Session:
        session = SQLiteSession(session_id, self.path)
        self.used.append(session)
        return session

    async def tidy(self) -> None:
        while self.used:
            self.used.pop().close()

    close = tidy
