from __future__ import annotations

from pathlib import Path

from agents.extensions.memory import AsyncSQLiteSession

from tests.benchmark.subjects.subject import Session, Subject


class ReusedAsyncSQLite(Subject):
    """The SDK's AsyncSQLiteSession: one object, hence connection, for each session."""

    name = "AsyncSQLiteSession, reused"
    key = "async-sqlite"

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{self.key}.sqlite3"
        self.objects: dict[str, AsyncSQLiteSession] = {}

    async def close(self) -> None:
        for session in self.objects.values():
            await session.close()

    def session(self, session_id: str) -> Session:
        session = self.objects.get(session_id)
        if session is None:
            session = AsyncSQLiteSession(session_id, self.path)
            self.objects[session_id] = session
        return session
