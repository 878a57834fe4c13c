"""The newest sessions of a user who has many, among very many: --scale."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.db import connections

from agent_sessions import DjangoSession
from tests.benchmark.subjects.ours import Ours
from tests.benchmark.subjects.subject import Subject
from tests.benchmark.workloads import Figures, Workload

if TYPE_CHECKING:
    from tests.benchmark.subjects.floor import Floor

_LIMIT = 20
# Every user but one has the same number of sessions, and all are mixed in time.
_USERS = """
INSERT INTO auth_user (username, password, first_name, last_name, email, is_superuser,
    is_staff, is_active, date_joined)
SELECT 'user' || nr, '', '', '', '', false, false, true, now()
FROM generate_series(1, 990) AS nr
"""
_SESSIONS = """
INSERT INTO agent_sessions_agentsession (id, session_id, user_id, owned_at, title,
    preview, metadata, revision, item_count, turn_count, next_position, next_turn,
    created_at, updated_at)
SELECT gen_random_uuid(), 'listing-' || nr, CASE nr %% 100 WHEN 0 THEN %s ELSE
    (SELECT min(id) FROM auth_user WHERE username LIKE 'user%%') + nr %% 990 END,
    now(), '', 'What did I ask for in this session, and when was it?', '{}', 0,
    20, 5, 20, 6, now() - nr * interval '7 seconds', now() - nr * interval '5 seconds'
FROM generate_series(1, %s) AS nr
"""
_NEWEST = """
SELECT * FROM agent_sessions_agentsession
WHERE user_id = $1 AND archived_at IS NULL
ORDER BY updated_at DESC, id DESC LIMIT $2
"""


class Listing(Workload):
    def __init__(self, *, sessions: int, reads: int) -> None:
        self.name = f"newest {_LIMIT} of {sessions // 100:_}, {sessions:_} sessions"
        self.rows = (self.name,)
        self.sessions = sessions
        self.reads = reads

    async def prepare(self, subject: Subject) -> None:
        await sync_to_async(self._seed)()
        found = await self.newest(subject)
        expected = [f"listing-{nr * 100}" for nr in range(1, _LIMIT + 1)]
        assert found == expected, (subject.key, found)

    async def measure(self, subject: Subject) -> Figures:
        start = time.perf_counter()
        for _ in range(self.reads):
            await self.newest(subject)
        return {self.name: (time.perf_counter() - start) / self.reads}

    async def newest(self, subject: Subject) -> list[str]:
        """Return the ids of the user's newest sessions, from whole rows."""
        if isinstance(subject, Ours):
            rows: list[Any] = await DjangoSession.get_sessions(
                self.user, limit=_LIMIT, using=subject.alias
            )
        else:
            rows = await cast("Floor", subject).pool.fetch(
                _NEWEST, self.user.pk, _LIMIT
            )
        return [_session_id(row) for row in rows]

    def _seed(self) -> None:
        users = get_user_model()._default_manager.using("postgresql")
        self.user, new = users.get_or_create(username="lister")
        connection = connections["postgresql"]
        if new:
            with connection.cursor() as cursor:
                cursor.execute(_USERS)
                cursor.execute(_SESSIONS, [self.user.pk, self.sessions])
        connection.close()


def _session_id(row: Any) -> str:
    return str(row.session_id if isinstance(row, DjangoSession) else row["session_id"])
