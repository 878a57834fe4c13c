from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from django.db import connections

from agent_sessions import store
from agent_sessions.adapter import metering
from agent_sessions.adapter.calls import SessionCalls
from agent_sessions.exceptions import SessionFull, SessionGone, TurnGone
from agent_sessions.store.handles import SessionHandle
from agent_sessions.store.transactions import after_commit
from agent_sessions.usage import TokenUsage


class UsageCalls(SessionCalls):
    """What the runs of a session use of a model, counted once."""

    async def get_usage(self) -> TokenUsage:
        """Return what the session's runs have used so far."""
        return await self._cross(store.read_usage)

    async def store_run_usage(self, result: Any) -> TokenUsage:
        """
        Store what a run has used and no call has stored yet, and return it.

        ``result`` is what the Runner returned, or the ``run_data`` of what it raised.
        Needed where the run's last tokens were followed by no item (an output guardrail
        stopped it, the model failed), and behind a wrapper that keeps the run's totals
        to itself, as the SDK's compaction session does.
        """
        return await self._cross(
            partial(self._store_rest, result.context_wrapper.usage)
        )

    def _append_counted(
        self, totals: Any, handle: SessionHandle, items: list[Any]
    ) -> None:
        refused = None
        with self._counting(totals) as usage:
            try:
                store.append_items(handle, items, usage=usage)
            except (SessionFull, TurnGone) as error:
                # The tokens are spent all the same.
                refused = error
                try:
                    if usage:
                        store.record_usage(handle, usage)
                except SessionGone:
                    raise refused from None
        if refused is not None:
            raise refused

    def _store_rest(self, totals: Any, handle: SessionHandle) -> TokenUsage:
        with self._counting(totals, known=False) as usage:
            if usage:
                store.record_usage(handle, usage)
        return usage

    @contextmanager
    def _counting(self, totals: Any, *, known: bool = True) -> Iterator[TokenUsage]:
        usage = metering.take(totals, self._key, known=known)
        try:
            yield usage
        except BaseException:
            metering.give_back(totals, self._key, usage)
            raise
        if usage and connections[self._using].in_atomic_block:
            hook = metering.doubt(totals, self._key, usage)
            after_commit(hook, using=self._using)

    @property
    def _key(self) -> metering.Key:
        return self._using, self.session_id
