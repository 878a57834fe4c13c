from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tests.benchmark.measuring import Results, Timing
from tests.benchmark.round_trips import CALLS, RoundTrips
from tests.benchmark.subjects.subject import Subject

_PACKAGES = (
    "Django",
    "openai-agents",
    "psycopg",
    "asyncpg",
    "SQLAlchemy",
    "mysqlclient",
    "aiosqlite",
)


def machine(servers: Iterable[str], *, rounds: int, load: float) -> str:
    """Return where and with what the figures were made."""
    packages = []
    for name in _PACKAGES:
        try:
            packages.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {_cpu()}, {os.cpu_count()} cores,"
        f" load {load:.1f} before the start. Python {platform.python_version()},"
        f" {', '.join(packages)}. {'. '.join(servers)}.\n\nMedians of {rounds} rounds"
        " that all subjects took in turns, with quartiles in brackets. Ratios say how"
        " many times as long the others take, and which part of our time the floor"
        " takes. Fresh: a new object for every turn, on one engine or file with default"
        " settings. Reused: one object for each session, and a pool of 15 connections"
        " where there is one. Portable: AGENT_SESSIONS_PORTABLE. Prepared: with"
        " prepare_threshold and server_side_binding in OPTIONS."
    )


def comparison(
    results: Results, subjects: Sequence[Subject], rates: Iterable[str]
) -> str:
    """Return the ratios, then the times that they come from."""
    rates = set(rates)
    ours, *peers = subjects
    ratios = [["workload", ours.name, *(_ratio_title(peer) for peer in peers)]]
    times = [["workload", *(subject.name for subject in subjects)]]
    for row, timings in results.items():
        base = timings[ours.key].median
        ratios.append(
            [
                row,
                _time(base, row in rates),
                *(_ratio(peer, timings[peer.key].median, base) for peer in peers),
            ]
        )
        times.append(
            [row, *(_spread(timings[each.key], row in rates) for each in subjects)]
        )
    return f"{_table(ratios)}\n\n{_table(times)}"


def round_trip_table(counts: RoundTrips, subjects: Sequence[Subject]) -> str:
    rows = [["round trips", *CALLS]]
    for subject in subjects:
        found = counts[subject.key]
        rows.append([subject.name, *(str(found[call]) for call in CALLS)])
    return _table(rows)


def _ratio_title(peer: Subject) -> str:
    return "of the floor" if peer.key == "floor" else peer.name


def _ratio(peer: Subject, seconds: float, base: float) -> str:
    return f"{seconds / base:.2f}" if peer.key == "floor" else f"{seconds / base:.2f}x"


def _time(seconds: float, as_rate: bool) -> str:
    return f"{1 / seconds:,.0f}/s" if as_rate else f"{seconds * 1000:.2f} ms"


def _spread(timing: Timing, as_rate: bool) -> str:
    low, high = timing.quartiles
    if as_rate:
        return f"{_time(timing.median, True)} ({1 / high:,.0f}..{1 / low:,.0f})"
    return f"{_time(timing.median, False)} ({low * 1000:.2f}..{high * 1000:.2f})"


def _table(rows: list[list[str]]) -> str:
    head, *body = rows
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.machine()
