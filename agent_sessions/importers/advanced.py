"""The SDK's AdvancedSQLiteSession: a file whose sessions have branches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from agent_sessions.importers.records import SourceItems, SourceSession
from agent_sessions.importers.sqlite import (
    MESSAGES_TABLE,
    SESSIONS_TABLE,
    SQLiteSource,
    find_table,
    read_text,
    read_time,
)

MAIN = "main"
STRUCTURE_TABLE = "message_structure"


class AdvancedSQLiteSource(SQLiteSource):
    """
    Sessions of such a file, and each of their other branches as one more.

    A branch is read as the SDK reads it: with what it shares with the one that it comes
    from. Its id is the session's with ``~`` and its own. Which branch somebody is on
    stands in no file; everybody begins on "main".
    """

    def __init__(
        self,
        path: Path,
        *,
        sessions_table: str = SESSIONS_TABLE,
        messages_table: str = MESSAGES_TABLE,
    ) -> None:
        super().__init__(
            path, sessions_table=sessions_table, messages_table=messages_table
        )
        self._structure = find_table(self._file, STRUCTURE_TABLE)

    def sessions(self) -> Iterator[SourceSession]:
        for session in super().sessions():
            branches = self._fetch(
                "SELECT branch_id, min(created_at), max(created_at)"
                f" FROM {self._structure} WHERE session_id = ?"
                " GROUP BY branch_id ORDER BY min(id)",
                session.place,
            )
            # Without a structure it was written by SQLiteSession.
            place = (session.place, MAIN if branches else None)
            yield replace(session, place=place)
            for branch, created_at, updated_at in branches:
                if branch != MAIN:
                    name = read_text(branch)
                    yield replace(
                        session,
                        session_id=f"{session.session_id}~{name}",
                        place=(session.place, branch),
                        created_at=read_time(created_at),
                        updated_at=read_time(updated_at),
                        branch_of=session.session_id,
                        notes={"session_id": session.session_id, "branch": name},
                    )

    def items(self, session: SourceSession) -> SourceItems:
        session_id, branch = session.place
        if branch is None:
            return super().items(replace(session, place=session_id))
        return self.read_items(
            f"SELECT m.message_data, m.created_at FROM {self._messages} AS m"
            f" JOIN {self._structure} AS s ON m.id = s.message_id"
            " WHERE m.session_id = ? AND s.branch_id = ? ORDER BY s.sequence_number",
            session_id,
            branch,
        )
