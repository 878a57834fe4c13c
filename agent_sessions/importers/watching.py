from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

from agent_sessions.importers.records import Source, SourceItems, SourceSession

_STEP = 1000


class WatchedSource:
    """
    A source that tells, in words, how far it was read.

    "" when it is through. Items that are read twice count twice.
    """

    def __init__(self, source: Source, tell: Callable[[str], None]) -> None:
        self._source = source
        self._tell = tell
        self._sessions = self._items = 0

    def sessions(self) -> Iterator[SourceSession]:
        for session in self._source.sessions():
            self._sessions += 1
            yield session
        self._tell("")

    def items(self, session: SourceSession) -> SourceItems:
        with closing(self._source.items(session)) as items:
            for item in items:
                if self._items % _STEP == 0:
                    read = f"{self._sessions} session(s), {self._items} item(s) read"
                    self._tell(read)
                self._items += 1
                yield item

    def close(self) -> None:
        self._source.close()
