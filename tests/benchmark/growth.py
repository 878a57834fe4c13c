"""
What sessions cost on PostgreSQL as they grow: `python -m tests.benchmark.growth`.

The rows are made in SQL, as the app would have made them: ten thousand items, then ten
times as many, up to --items. The other figures (disk, memory, a hot session, the
migration) do not depend on it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

ALIAS = "postgresql"
SESSION, ITEM = "agent_sessions_agentsession", "agent_sessions_sessionitem"
# Items of a session, and sessions of a user, in what is generated.
LENGTH, SESSIONS_OF_USER = 50, 20

_USERS = """
INSERT INTO auth_user (username, password, first_name, last_name, email, is_superuser,
    is_staff, is_active, date_joined)
SELECT 'user' || nr, '', '', '', '', false, false, true, now()
FROM generate_series(%s, %s) AS nr
"""
# Mixed in time, so that a user's sessions are not neighbours in the table.
_SESSIONS = """
INSERT INTO agent_sessions_agentsession (id, session_id, user_id, owned_at, title,
    preview, metadata, revision, item_count, turn_count, next_position, next_turn,
    created_at, updated_at)
SELECT gen_random_uuid(), 'grown-' || nr, u.id, now(), '',
    'What did I ask for in this session, and when was it?', '{}', 0,
    %s, %s / 4, %s, %s / 4 + 1, now() - nr * interval '7 seconds',
    now() - nr * interval '5 seconds'
FROM generate_series(%s, %s) AS nr
JOIN auth_user AS u ON u.username = 'user' || nr / %s
"""
_ITEMS = """
INSERT INTO agent_sessions_sessionitem (id, session_id, position, turn, type, role,
    data, created_at)
SELECT gen_random_uuid(), s.id, i.position - 1, (i.position + 3) / 4, i.type, i.role,
    i.data, s.created_at + i.position * interval '1 second'
FROM agent_sessions_agentsession AS s,
    unnest(%s::text[], %s::text[], %s::text[])
    WITH ORDINALITY AS i (type, role, data, position)
WHERE s.session_id IN (SELECT 'grown-' || nr FROM generate_series(%s, %s) AS nr)
"""


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.growth")
    parser.add_argument("--items", type=int, default=10_000_000)
    items = parser.parse_args(arguments).items
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmark.settings"
    import django

    django.setup()
    from tests.benchmark import databases

    with databases.made("postgresql"):
        for line in chain(migration(), hot_session(), memory(), growth(items)):
            print(line, flush=True)


def migration() -> Iterator[str]:
    """The one migration on an empty database; it only creates tables."""
    from django.core.management import call_command

    call_command("migrate", "agent_sessions", "zero", database=ALIAS, verbosity=0)
    start = time.perf_counter()
    call_command("migrate", "agent_sessions", database=ALIAS, verbosity=0)
    yield f"migration: {(time.perf_counter() - start) * 1000:.0f} ms"


def hot_session() -> Iterator[str]:
    """One session that is written all day, among others that rest."""
    from agent_sessions import store
    from tests.benchmark.items import question

    for fillfactor in (100, 50):
        _execute(f"TRUNCATE {SESSION} CASCADE")
        _execute(f"ALTER TABLE {SESSION} SET (fillfactor={fillfactor})")
        for number in range(1000):
            store.append_items(f"rest-{number}", [question(1)], using=ALIAS)
        _execute(f"VACUUM FULL {SESSION}")
        _execute(f"ALTER TABLE {SESSION} SET (autovacuum_enabled=off)")
        before = _bytes(SESSION)
        for number in range(10_000):
            store.append_items(f"rest-{number % 10}", [question(1)], using=ALIAS)
        _execute("SELECT pg_stat_force_next_flush()")
        hot, updates = _row(
            "SELECT n_tup_hot_upd, n_tup_upd FROM pg_stat_user_tables"
            f" WHERE relname = '{SESSION}'"
        )
        yield (
            f"10 hot sessions of 1000, 10,000 appends without vacuum, fillfactor"
            f" {fillfactor}: {before / 1e6:.2f} MB to"
            f" {_bytes(SESSION) / 1e6:.2f} MB;"
            f" {hot:,} of {updates:,} updates so far were HOT"
        )
        _execute(f"VACUUM {SESSION}")
        yield f"  and after VACUUM {_bytes(SESSION) / 1e6:.2f} MB"
    _execute(f"ALTER TABLE {SESSION} RESET (fillfactor)")
    _execute(f"ALTER TABLE {SESSION} RESET (autovacuum_enabled)")
    _execute(f"TRUNCATE {SESSION} CASCADE")


def memory() -> Iterator[str]:
    """Reading 14,000 items, in a process of its own."""
    from agent_sessions import store
    from tests.benchmark.items import history

    store.append_items("long", history(14_000), using=ALIAS)
    (size,) = _row(f"SELECT sum(length(data)) FROM {ITEM}")
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmark.growth", "read"],
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, peak = json.loads(done.stdout)
    yield (
        f"14,000 items ({size / 1e6:.1f} million characters): {seconds * 1000:.0f} ms,"
        f" {peak:.0f} MB more memory at the peak"
    )
    _execute(f"TRUNCATE {SESSION} CASCADE")


def read() -> None:
    """Print how long a first read of the long session takes, and its memory."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmark.settings"
    import django

    django.setup()
    from agent_sessions import store

    store.read_items("long", limit=1, using=ALIAS)
    before = _peak()
    start = time.perf_counter()
    items = store.read_items("long", using=ALIAS)
    seconds = time.perf_counter() - start
    peak = _peak() - before
    assert len(items) == 14_000
    print(json.dumps([seconds, peak / 1024]))


def _peak() -> int:
    """Return the most memory that this process had, in kB."""
    # Not ru_maxrss: a child starts with its parent's.
    (line,) = re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(line)


def growth(most: int) -> Iterator[str]:
    """Append, read and list at ten thousand items, and at ten times as many, ..."""
    done = 0
    size = 10_000
    yield "| items | on disk | an item | append | last 50 | newest 20 of a user |"
    yield "| ---: | ---: | ---: | ---: | ---: | ---: |"
    while size <= most:
        _generate(done, size // LENGTH)
        done = size // LENGTH
        _execute(f"VACUUM ANALYZE {SESSION}")
        _execute(f"VACUUM ANALYZE {ITEM}")
        total = _bytes(SESSION) + _bytes(ITEM)
        cells = [f"{size:,}", f"{total / 1e6:,.0f} MB", f"{total / size:,.0f} bytes"]
        cells += [f"{seconds * 1000:.2f} ms" for seconds in _times(done)]
        yield f"| {' | '.join(cells)} |"
        size *= 10


def _generate(start: int, end: int) -> None:
    from agent_sessions.store.batches import encode_batch
    from tests.benchmark.items import history

    batch = encode_batch(history(LENGTH))
    columns = [
        [getattr(item, name) for item in batch] for name in ("type", "role", "data")
    ]
    first_user = -(-start // SESSIONS_OF_USER)
    if start:
        first_user += 1
    _execute(_USERS, [first_user, end // SESSIONS_OF_USER])
    counts = [LENGTH] * 4
    step = 20_000
    for low in range(start + 1, end + 1, step):
        high = min(low + step - 1, end)
        _execute(_SESSIONS, [*counts, low, high, SESSIONS_OF_USER])
        _execute(_ITEMS, [*columns, low, high])


def _times(sessions: int) -> Iterator[float]:
    from django.contrib.auth import get_user_model

    from agent_sessions import store
    from agent_sessions.models import AgentSession
    from tests.benchmark.items import answer

    # Spread over all of them: what is not in memory is part of the price.
    chosen = [1 + number * sessions // 200 for number in range(200)]
    rows = {
        row.session_id: row
        for row in AgentSession.objects.using(ALIAS).filter(
            session_id__in=[f"grown-{number}" for number in chosen]
        )
    }
    users = {
        user.pk: user
        for user in get_user_model()
        ._default_manager.using(ALIAS)
        .filter(pk__in=[row.user_id for row in rows.values()])
    }
    owned = [(row.session_id, users[row.user_id]) for row in rows.values()]

    def median(call: Callable[[str, Any], object]) -> float:
        seconds = []
        for session_id, user in owned:
            start = time.perf_counter()
            call(session_id, user)
            seconds.append(time.perf_counter() - start)
        return statistics.median(seconds)

    def append(session_id: str, user: Any) -> None:
        store.append_items(session_id, [answer(1)], user=user, using=ALIAS)

    def read_tail(session_id: str, user: Any) -> None:
        store.read_items(session_id, user=user, limit=50, using=ALIAS)

    def list_newest(session_id: str, user: Any) -> None:
        store.get_sessions(user, limit=20, using=ALIAS)

    yield from map(median, (append, read_tail, list_newest))


def _execute(sql: str, values: list[Any] | None = None) -> None:
    from django.db import connections

    with connections[ALIAS].cursor() as cursor:
        cursor.execute(sql, values)


def _row(sql: str) -> tuple[Any, ...]:
    from django.db import connections

    with connections[ALIAS].cursor() as cursor:
        cursor.execute(sql)
        row: tuple[Any, ...] = cursor.fetchone()
        return row


def _bytes(table: str) -> int:
    return int(_row(f"SELECT pg_total_relation_size('{table}')")[0])


if __name__ == "__main__":
    if sys.argv[1:] == ["read"]:
        read()
    else:
        main(sys.argv[1:])
