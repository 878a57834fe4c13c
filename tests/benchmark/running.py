from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import time
from pathlib import Path

from asgiref.sync import sync_to_async
from django.db import connections

from tests.benchmark import databases, report
from tests.benchmark.measuring import Results, compare
from tests.benchmark.network import Link
from tests.benchmark.plan import Stage, stages
from tests.benchmark.round_trips import RoundTrips, count_round_trips
from tests.benchmark.subjects.subject import Subject


def list_all(folder: Path) -> str:
    """Return the names that --workload and --subject take."""
    lines = []
    for stage in stages(folder, rounds=1, quick=False):
        lines.append(stage.title)
        lines += [f"  workload {workload.name!r}" for workload in stage.workloads]
        lines += [f"  subject  {each.key} ({each.name})" for each in stage.subjects()]
    return "\n".join(lines)


def run_all(options: argparse.Namespace, folder: Path) -> str:
    """Return the report on everything that the options ask for."""
    load = os.getloadavg()[0]
    parts: list[str] = []
    servers: list[str] = []
    for vendor in options.database:
        mine = [
            stage
            for stage in stages(folder, rounds=options.rounds, quick=options.quick)
            if stage.vendor == vendor
            and (options.scale or not stage.is_large)
            and _wanted(stage, options.workload)
        ]
        if not mine:
            continue
        with databases.made(vendor):
            servers.append(", ".join(databases.versions(vendor)))
            parts += [_run(stage, options) for stage in mine]
    machine = report.machine(servers, rounds=options.rounds, load=load)
    return "\n\n".join([machine, *parts])


def _wanted(stage: Stage, names: list[str] | None) -> bool:
    """Leave the workloads that the names ask for; tell whether there is any."""
    if not names:
        return True
    stage.workloads = [
        workload
        for workload in stage.workloads
        if any(name in workload.name for name in names)
    ]
    stage.counts_round_trips &= "round trips" in names
    return bool(stage.workloads) or stage.counts_round_trips


def _run(stage: Stage, options: argparse.Namespace) -> str:
    if stage.round_trip is None:
        return asyncio.run(_perform(stage, options, None))
    server = connections.settings[stage.vendor]
    host, port = server["HOST"], int(server["PORT"])
    with Link(host, port, round_trip=stage.round_trip) as link:
        return asyncio.run(_perform(stage, options, link))


async def _perform(stage: Stage, options: argparse.Namespace, link: Link | None) -> str:
    note = ""
    if link is not None:
        connections.settings[stage.alias].update(HOST="127.0.0.1", PORT=str(link.port))
        if stage.round_trip:
            note = await _measure_network(stage)
    subjects = [
        subject
        for subject in stage.subjects()
        if not options.subject or subject.key in options.subject
    ]
    for subject in subjects:
        await subject.open()
    try:
        tables = []
        if stage.workloads:
            tables.append(await _compare(stage, subjects, options.rounds))
        if stage.counts_round_trips and link is not None:
            tables.append(await _count(subjects, link))
    finally:
        for subject in subjects:
            await subject.close()
    return "\n\n".join([f"### {stage.title}", *([note] if note else []), *tables])


async def _compare(stage: Stage, subjects: list[Subject], rounds: int) -> str:
    results: Results = {}
    rates: list[str] = []

    def settle() -> None:
        if stage.vendor != "sqlite":
            databases.vacuum(stage.vendor)

    for workload in stage.workloads:
        start = time.monotonic()
        results |= await compare(
            workload, subjects, rounds=rounds, settle=sync_to_async(settle)
        )
        rates += workload.rows if workload.as_rate else ()
        seconds = time.monotonic() - start
        print(f"{stage.title}: {workload.name} ({seconds:.0f} s)", file=sys.stderr)
    return report.comparison(results, subjects, rates)


async def _count(subjects: list[Subject], link: Link) -> str:
    counts: RoundTrips = {}
    for subject in subjects:
        with subject.conditions():
            counts[subject.key] = await count_round_trips(subject, link)
    return report.round_trip_table(counts, subjects)


async def _measure_network(stage: Stage) -> str:
    """Return how much longer the smallest statement takes through the proxy."""
    import asyncpg

    medians = []
    for alias in (stage.vendor, stage.alias):
        database = connections.settings[alias]
        connection = await asyncpg.connect(
            host=database["HOST"],
            port=int(database["PORT"]),
            user=database["USER"],
            password=database["PASSWORD"] or None,
            database=database["NAME"],
        )
        seconds = []
        for _ in range(300):
            start = time.perf_counter()
            await connection.fetchval("SELECT 1")
            seconds.append(time.perf_counter() - start)
        await connection.close()
        medians.append(statistics.median(seconds) * 1000)
    direct, delayed = medians
    return (
        f"`SELECT 1` takes {direct:.2f} ms to the server itself and {delayed:.2f} ms"
        f" through the delaying proxy: {delayed - direct:.2f} ms of network."
    )
