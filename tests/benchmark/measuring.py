from __future__ import annotations

import gc
import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from tests.benchmark.subjects.subject import Subject
from tests.benchmark.workloads import Workload


@dataclass
class Timing:
    """The seconds per operation of each round."""

    rounds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def quartiles(self) -> tuple[float, float]:
        if len(self.rounds) < 2:
            return self.median, self.median
        low, _, high = statistics.quantiles(self.rounds, n=4, method="inclusive")
        return low, high


# By the name of the row, then by the subject's key.
Results = dict[str, dict[str, Timing]]


async def compare(
    workload: Workload,
    subjects: Sequence[Subject],
    *,
    rounds: int,
    settle: Callable[[], Awaitable[None]],
) -> Results:
    """
    Return every subject's timings of the workload, taken in turns.

    In each round all subjects do the same; another one is first each time, and the
    first round does not count. ``settle`` is called when all have seeded.
    """
    results: Results = {
        row: {subject.key: Timing() for subject in subjects} for row in workload.rows
    }
    for subject in subjects:
        with subject.conditions():
            await workload.prepare(subject)
            await subject.tidy()
    await settle()
    for number in range(rounds + 1):
        shift = number % len(subjects)
        for subject in [*subjects[shift:], *subjects[:shift]]:
            with subject.conditions():
                await workload.warm(subject)
                # The collector stays on, as in a worker, but nobody pays for the
                # garbage and the long-lived objects of the others.
                gc.collect()
                gc.freeze()
                figures = await workload.measure(subject)
            await subject.tidy()
            await workload.restore(subject)
            await subject.tidy()
            if number:
                for row, seconds in figures.items():
                    results[row][subject.key].rounds.append(seconds)
    gc.unfreeze()
    return results
