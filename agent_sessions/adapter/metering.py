"""
How much of a run's running totals is counted already.

The SDK hands its sessions one object that adds up what a run has used, and shares it
with the agents that the run uses as tools. So what is counted is kept beside that
object, not beside a session: between two sessions nothing is counted twice.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

from agent_sessions.usage import TokenUsage, clean_usage

# A database and a session id.
Key: TypeAlias = tuple[str, str]

_NOTHING = TokenUsage()


@dataclass(slots=True)
class _Meter:
    root: Key
    # Who was seen with the totals last, and what they were.
    latest: Key
    counted: TokenUsage
    # What other sessions' runs had used before they were seen to count it.
    owed: dict[Key, TokenUsage] = field(default_factory=dict)
    # What was stored in transactions that may yet be rolled back, and the hooks that
    # their commits will call: Django drops the hooks of what is rolled back.
    doubts: list[tuple[weakref.ref[Any], Key, TokenUsage]] = field(default_factory=list)

    def settle(self, key: Key, totals: TokenUsage) -> None:
        if totals != self.counted:
            self.owe(key, totals.less(self.counted))
            self.counted = totals

    def owe(self, key: Key, usage: TokenUsage) -> None:
        if usage:
            self.owed[key] = self.owed.get(key, _NOTHING) + usage

    def collect(self, key: Key) -> TokenUsage:
        if self.doubts:
            self._take_back()
        if not self.owed:
            return _NOTHING
        # The run that the others are tools of comes last.
        keys = list(self.owed) if key == self.root else [key]
        return sum((self.owed.pop(it, _NOTHING) for it in keys), _NOTHING)

    def _take_back(self) -> None:
        doubts, self.doubts = self.doubts, []
        for doubt in doubts:
            hook, key, usage = doubt
            if hook() is None:
                self.owe(key, usage)
            else:
                self.doubts.append(doubt)


def notice(totals: Any, key: Key) -> None:
    """
    See a run begin to use the session: what was used before is not the session's.

    A resumed run starts from the totals that it was interrupted with.
    """
    now = clean_usage(totals)
    with _lock:
        meter = _find(totals)
        if meter is None:
            _keep(totals, _Meter(key, key, now))
        elif meter.latest != key:
            meter.settle(meter.latest, now)
            meter.latest = key


def take(totals: Any, key: Key, *, known: bool = True) -> TokenUsage:
    """
    Return what the run has used since it was last counted, and count it.

    Totals that were never noticed count as counted if they are ``known`` to be older
    than the session's part in the run, else from zero.
    """
    now = clean_usage(totals)
    with _lock:
        meter = _find(totals)
        if meter is None:
            meter = _Meter(key, key, now if known else _NOTHING)
            _keep(totals, meter)
        meter.settle(key, now)
        meter.latest = key
        return meter.collect(key)


def give_back(totals: Any, key: Key, usage: TokenUsage) -> None:
    """Count the usage another time: it was not stored."""
    with _lock:
        meter = _find(totals)
        if meter is not None:
            meter.owe(key, usage)


def doubt(totals: Any, key: Key, usage: TokenUsage) -> Callable[[], None]:
    """
    Count the usage another time unless it is committed.

    The commit calls what is returned; a rollback forgets it.
    """
    hook = partial(_confirm, totals, usage)
    with _lock:
        meter = _find(totals)
        if meter is not None:
            meter.doubts.append((weakref.ref(hook), key, usage))
    return hook


def _confirm(totals: Any, usage: TokenUsage) -> None:
    with _lock:
        meter = _find(totals)
        if meter is not None:
            meter.doubts = [doubt for doubt in meter.doubts if doubt[2] is not usage]


_lock = threading.Lock()
# By id, because the SDK's totals compare by value and have no hash.
_meters: dict[int, tuple[weakref.ref[Any], _Meter]] = {}


def _find(totals: Any) -> _Meter | None:
    found = _meters.get(id(totals))
    return found[1] if found is not None and found[0]() is totals else None


def _keep(totals: Any, meter: _Meter) -> None:
    key = id(totals)
    # Not under the lock: the collector may call it at any moment.
    _meters[key] = weakref.ref(totals, lambda ref: _forget(key, ref)), meter


def _forget(key: int, ref: weakref.ref[Any]) -> None:
    found = _meters.get(key)
    if found is not None and found[0] is ref:
        _meters.pop(key, None)
