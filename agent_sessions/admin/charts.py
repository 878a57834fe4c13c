from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

HEIGHT = 100
STEP = 12


@dataclass(frozen=True)
class Bar:
    """A bar of a chart, in the units of its SVG."""

    label: Any
    value: int
    x: int
    y: int
    height: int
    percent: int


@dataclass(frozen=True)
class Chart:
    bars: list[Bar]
    width: int
    most: int


def draw(values: Iterable[tuple[Any, int]]) -> Chart:
    """Return a bar for each label and value; the largest takes the whole height."""
    pairs = list(values)
    most = max((value for _, value in pairs), default=0)
    bars = []
    for number, (label, value) in enumerate(pairs):
        # What there is shows, however little beside the largest.
        height = max(1, round(HEIGHT * value / most)) if value else 0
        percent = max(1, round(100 * value / most)) if value else 0
        bars.append(Bar(label, value, number * STEP, HEIGHT - height, height, percent))
    return Chart(bars, max(1, len(bars)) * STEP, most)
