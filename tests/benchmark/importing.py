"""
How fast an import is and what memory it takes: `python -m tests.benchmark.importing`.

On the database that TEST_DATABASE names, in an empty one that is dropped afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

TEXT = "Wo ist die Bestellung? 注文はどこですか。 " * 6


def write_source(path: Path, items: int, sessions: int) -> None:
    """Write so many items, in sessions of one length, as SQLiteSession does."""
    from agents import SQLiteSession

    SQLiteSession("x", path).close()
    each = items // sessions
    with closing(sqlite3.connect(path)) as file:
        for number in range(sessions):
            session_id = f"user-{number}-support"
            file.execute(
                "INSERT INTO agent_sessions (session_id) VALUES (?)", [session_id]
            )
            file.executemany(
                "INSERT INTO agent_messages (session_id, message_data) VALUES (?, ?)",
                ((session_id, json.dumps(make_item(turn))) for turn in range(each)),
            )
        file.commit()


def make_item(number: int) -> dict[str, object]:
    if number % 2 == 0:
        return {"role": "user", "content": f"{number} {TEXT}"}
    return {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": TEXT, "annotations": []}],
    }


def measure(path: str) -> None:
    """
    Import the file in this process; print items, seconds, those of this process's CPU,
    and megabytes at both ends.
    """
    from django.db import connection

    from agent_sessions.importers.opening import open_source
    from agent_sessions.imports import import_sessions
    from agent_sessions.outcomes import Report

    connection.ensure_connection()
    before = _megabytes()
    start, busy = time.perf_counter(), time.process_time()
    report = Report()
    with closing(open_source(path)) as source:
        for outcome in import_sessions(source):
            report.add(outcome)
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    assert not report.failures, str(report)
    print(json.dumps([report.items, seconds, busy, before, _megabytes()]))


def _megabytes() -> float:
    # The highest that it was. getrusage() would count the parent's as well.
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


def run(path: Path, database: str) -> list[float]:
    """Return what measure() prints, from a process of its own."""
    code = (
        "import sys, django; django.setup();"
        "from tests.benchmark.importing import measure; measure(sys.argv[1])"
    )
    output = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DATABASE_NAME": database,
        },
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout
    found: list[float] = json.loads(output)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--sessions", type=int, nargs="+", default=[2000, 1])
    options = parser.parse_args()
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import connection

    for sessions in options.sessions:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "source.db"
            write_source(path, options.items, sessions)
            name = connection.creation.create_test_db(verbosity=0)
            call_command("migrate", verbosity=0)
            try:
                for title in ("import", "again"):
                    items, seconds, busy, before, after = run(path, name)
                    print(
                        f"{connection.vendor}, {sessions} session(s), {title}: "
                        f"{items:.0f} items, {seconds:.1f} s ({busy:.1f} s of CPU), "
                        f"{options.items / seconds:.0f} items/s, "
                        f"{after - before:.0f} MB more than {before:.0f} MB",
                        flush=True,
                    )
            finally:
                connection.creation.destroy_test_db(name, verbosity=0)


if __name__ == "__main__":
    main()
