"""Which subjects do which workloads, on which database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.benchmark.listing import Listing
from tests.benchmark.subjects.subject import Subject
from tests.benchmark.workloads import (
    FirstWrite,
    Pops,
    RunCalls,
    Runs,
    Tail,
    Turns,
    Workload,
)


@dataclass
class Stage:
    """One connection to one database, with all that is compared on it."""

    vendor: str
    title: str
    alias: str
    subjects: Callable[[], list[Subject]]
    workloads: list[Workload]
    # Seconds that the network takes there and back; None is the server itself.
    round_trip: float | None = None
    counts_round_trips: bool = False
    # Whether it takes minutes to set up.
    is_large: bool = False


def stages(folder: Path, *, rounds: int, quick: bool) -> list[Stage]:
    """Return all there is to do; ``quick`` is for seeing that it works."""

    def some(number: int) -> int:
        return max(1, number // 4) if quick else number

    def turns(suffix: str = "") -> Turns:
        return Turns(f"turn, 20 items{suffix}", length=20, turns=some(16))

    def at_once(lanes: int, each: int, suffix: str = "") -> Turns:
        name = f"{lanes} at once{suffix}"
        return Turns(name, length=20, lanes=lanes, turns=some(each))

    long = 10_000 if quick else 100_000

    def common() -> list[Workload]:
        return [
            FirstWrite("first write", sessions=some(16)),
            Pops("pop", length=20, rounds=rounds, sessions=some(16)),
        ]

    return [
        Stage(
            "postgresql",
            "PostgreSQL",
            "postgresql",
            lambda: _on_postgresql("postgresql"),
            [
                turns(),
                Turns("turn, 200 items", length=200, turns=some(16)),
                Turns("turn, 2000 items", length=2000, turns=some(4)),
                Runs("Runner.run, one tool call", length=20, turns=some(16)),
                RunCalls("the calls of such a run", length=20, turns=some(16)),
                at_once(16, 3),
                at_once(64, 1),
                *common(),
                Tail(f"last 50 of {long:_}", length=long, limit=50, reads=some(12)),
            ],
        ),
        Stage(
            "postgresql",
            "PostgreSQL, 1 ms of network",
            "postgresql_delayed",
            lambda: _on_postgresql("postgresql_delayed"),
            [turns(", 1 ms"), at_once(16, 3, ", 1 ms")],
            round_trip=0.001,
        ),
        Stage(
            "postgresql",
            "PostgreSQL, round trips per call",
            "postgresql_counted",
            lambda: _on_postgresql("postgresql_counted"),
            [],
            round_trip=0.0,
            counts_round_trips=True,
        ),
        Stage(
            "postgresql",
            "PostgreSQL, many sessions",
            "postgresql",
            lambda: _for_listing("postgresql"),
            [Listing(sessions=100_000 if quick else 1_000_000, reads=some(20))],
            is_large=True,
        ),
        Stage(
            "sqlite",
            "SQLite",
            "default",
            lambda: _on_sqlite(folder),
            [turns(), at_once(16, 3), *common()],
        ),
        Stage(
            "mariadb",
            "MariaDB",
            "mariadb",
            lambda: _on_mariadb("mariadb"),
            [turns(), at_once(16, 3), *common()],
        ),
        Stage(
            "mariadb",
            "MariaDB, round trips per call",
            "mariadb_counted",
            lambda: _on_mariadb("mariadb_counted"),
            [],
            round_trip=0.0,
            counts_round_trips=True,
        ),
    ]


# Imported where they are used: nobody needs all the drivers for one database.


def _on_postgresql(alias: str) -> list[Subject]:
    from tests.benchmark.subjects.floor import Floor
    from tests.benchmark.subjects.ours import Ours, OursPortable, OursPrepared
    from tests.benchmark.subjects.sqlalchemy import (
        FreshSQLAlchemy,
        ReusedSQLAlchemy,
        postgresql_url,
    )

    url = postgresql_url(alias)
    subjects: list[Subject] = [
        Ours(alias),
        FreshSQLAlchemy(url),
        ReusedSQLAlchemy(url),
        Floor(alias),
        OursPortable(alias),
    ]
    if alias == "postgresql":
        subjects.append(OursPrepared("postgresql_prepared"))
    return subjects


def _for_listing(alias: str) -> list[Subject]:
    from tests.benchmark.subjects.floor import Floor
    from tests.benchmark.subjects.ours import Ours

    return [Ours(alias), Floor(alias)]


def _on_sqlite(folder: Path) -> list[Subject]:
    from tests.benchmark.subjects.ours import Ours, OursPortable, OursWal
    from tests.benchmark.subjects.sqlite import FreshSQLite, ReusedSQLite

    subjects: list[Subject] = [
        Ours("default"),
        OursWal("sqlite_wal"),
        ReusedSQLite(folder),
        FreshSQLite(folder),
        OursPortable("default"),
    ]
    try:
        from tests.benchmark.subjects.aiosqlite import ReusedAsyncSQLite
        from tests.benchmark.subjects.sqlalchemy import FreshSQLAlchemy
    except ImportError:
        return subjects  # the group `bench` is not installed
    url = f"sqlite+aiosqlite:///{folder / 'sqlalchemy.sqlite3'}"
    return [
        *subjects[:-1],
        ReusedAsyncSQLite(folder),
        FreshSQLAlchemy(url),
        subjects[-1],
    ]


def _on_mariadb(alias: str) -> list[Subject]:
    from tests.benchmark.subjects.naive import Naive
    from tests.benchmark.subjects.ours import Ours, OursPortable

    return [Ours(alias), Naive(alias), OursPortable(alias)]
