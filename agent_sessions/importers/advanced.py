"""The SDK's AdvancedSQLiteSession: a file whose sessions have branches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent_sessions.exceptions import InvalidTitle
from agent_sessions.importers.naming import legible_session_id
from agent_sessions.importers.records import SourceItem, SourceItems, SourceSession
from agent_sessions.importers.sqlite import (
    MESSAGES_TABLE,
    SESSIONS_TABLE,
    SQLiteSource,
    find_table,
    look_for_table,
    read_text,
    read_time,
    reading,
)
from agent_sessions.importers.turn_usage import (
    USAGE_COLUMNS,
    USAGE_TABLE,
    BranchUsage,
    is_turn,
)
from agent_sessions.store.sessions import clean_title
from agent_sessions.usage import usage_day

MAIN = "main"
STRUCTURE_TABLE = "message_structure"


class AdvancedSQLiteSource(SQLiteSource):
    """
    Sessions of such a file, and each of their other branches as a fork.

    A branch is read as the SDK reads it: with what it shares with the one that it was
    taken from, which is the one where the last item that they share was said. Its id is
    the session's with ``~`` and its own. Items have the turns that the SDK gave them,
    and what turns have used is of the branch in which they used it. Which branch
    somebody is on stands in no file; everybody begins on "main".
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
        self._usage = look_for_table(self._file, USAGE_TABLE)

    def sessions(self) -> Iterator[SourceSession]:
        for session in super().sessions():
            yield from self._split(session)
        # Older SDKs left them behind when they cleared a session.
        if self._usage is not None:
            for session in self.read_sessions(
                f"{self._usage} WHERE NOT EXISTS (SELECT 1 FROM {self._sessions} AS s"
                f" WHERE s.session_id = {self._usage}.session_id)"
                f" AND NOT EXISTS (SELECT 1 FROM {self._messages} AS m"
                f" WHERE m.session_id = {self._usage}.session_id)"
            ):
                yield from self._split(session)

    def items(self, session: SourceSession) -> SourceItems:
        session_id, branch = session.place
        if branch is None:
            yield from super().items(replace(session, place=session_id))
            return
        sql = (
            "SELECT m.message_data, m.created_at, s.user_turn_number"
            f" FROM {self._messages} AS m"
            f" JOIN {self._structure} AS s ON m.id = s.message_id"
            # Both sessions, so that SQLite does not look at those of all others.
            " WHERE m.session_id = ?1 AND s.session_id = ?1 AND s.branch_id = ?2"
            " ORDER BY s.sequence_number"
        )
        with reading(), closing(self._file.execute(sql, [session_id, branch])) as rows:
            for data, created_at, turn in rows:
                number = turn if is_turn(turn) else None
                yield SourceItem(read_text(data), read_time(created_at), number)

    def _split(self, session: SourceSession) -> Iterator[SourceSession]:
        """Yield the session, which is "main", and each other branch as a fork."""
        times = {
            branch: (read_time(first), read_time(last))
            for branch, first, last in self._fetch(
                "SELECT branch_id, min(created_at), max(created_at)"
                f" FROM {self._structure} WHERE session_id = ?"
                " GROUP BY branch_id ORDER BY min(id)",
                session.place,
            )
        }
        used = self._read_usage(session)
        main = used.pop(MAIN, BranchUsage())
        others = [it for it in dict.fromkeys([*times, *used]) if it != MAIN]
        remarks = main.remarks + (self._count_strays(session) if times else [])
        ids = {MAIN: session.session_id}
        yield replace(
            session,
            # Without a structure it was written by SQLiteSession.
            place=(session.place, MAIN if times else None),
            has_forks=bool(others),
            usage=main.turns,
            remark="; ".join(remarks),
        )
        origins = self._find_origins(session) if others else {}
        for branch in others:
            usage = used.get(branch, BranchUsage())
            name = read_text(branch)
            origin = ids.get(origins.get(branch, MAIN), session.session_id)
            ids[branch] = f"{session.session_id}~{name}"
            first, last = times.get(branch, _ends(usage.times))
            yield replace(
                session,
                session_id=ids[branch],
                place=(session.place, branch),
                created_at=first,
                updated_at=last,
                title=_title(name),
                branch_of=session.session_id,
                forked_from=origin,
                has_forks=branch in origins.values(),
                usage=usage.turns,
                notes={
                    "session_id": legible_session_id(session.session_id),
                    "branch": legible_session_id(name),
                },
                remark="; ".join(usage.remarks),
            )

    def _read_usage(self, session: SourceSession) -> dict[Any, BranchUsage]:
        used: dict[Any, BranchUsage] = {}
        if self._usage is None:
            return used
        day = usage_day(session.updated_at or session.created_at or datetime.now(UTC))
        for branch, *row in self._fetch(
            f"SELECT branch_id, {', '.join(USAGE_COLUMNS)} FROM {self._usage}"
            " WHERE session_id = ? ORDER BY id",
            session.place,
        ):
            used.setdefault(branch, BranchUsage()).add(row, day)
        return used

    def _find_origins(self, session: SourceSession) -> dict[Any, Any]:
        """Return from which branch each was taken, of those that share an item."""
        # SQLite takes the other columns of a group from the row of min() and max().
        rows = self._fetch(
            "SELECT s.branch_id, first.branch_id, max(s.sequence_number)"
            f" FROM {self._structure} AS s JOIN (SELECT message_id, branch_id, min(id)"
            f" FROM {self._structure} WHERE session_id = ? GROUP BY message_id)"
            " AS first ON first.message_id = s.message_id"
            " WHERE s.session_id = ? AND s.branch_id != first.branch_id"
            " GROUP BY s.branch_id",
            session.place,
            session.place,
        )
        return {branch: origin for branch, origin, _ in rows}

    def _count_strays(self, session: SourceSession) -> list[str]:
        # No branch shows them, and the SDK deletes them when it deletes something else.
        ((count,),) = self._fetch(
            f"SELECT count(*) FROM {self._messages} WHERE session_id = ? AND id NOT IN"
            f" (SELECT message_id FROM {self._structure} WHERE session_id = ?)",
            session.place,
            session.place,
        )
        return [f"{count} item(s) of no branch: left out"] if count else []


def _ends(times: list[datetime]) -> tuple[datetime | None, datetime | None]:
    return (min(times), max(times)) if times else (None, None)


def _title(branch: str) -> str:
    with suppress(InvalidTitle):
        return clean_title(branch)
    return ""
