"""Holding a session for one run, for as long as that takes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from types import TracebackType
from typing import Any
from uuid import UUID

from django.db import DatabaseError

from agent_sessions import store
from agent_sessions.exceptions import (
    AgentSessionError,
    SessionBusy,
    SessionGone,
    SessionOwnershipError,
)
from agent_sessions.identifiers import uuid7

logger = logging.getLogger("agent_sessions")

_FIRST_WAIT = 0.05
_LONGEST_WAIT = 1.0


class Exclusive:
    """
    The block of ``async with session.exclusive()``.

    Renews its lease in a task beside the block. If the lease is lost all the same,
    because the database did not answer for as long as it lasts, the block is cancelled
    and SessionBusy is raised. For one use: two would hold the same lease.
    """

    def __init__(
        self,
        call: Callable[..., Awaitable[Any]],
        *,
        timeout: float,
        expires_in: timedelta,
        lease: UUID | None,
    ) -> None:
        self._call = call
        self._timeout = timeout
        self._expires_in = expires_in
        self._lease = uuid7() if lease is None else lease
        self._entered = False
        self._lost = False

    async def __aenter__(self) -> None:
        if self._entered:
            raise RuntimeError("A block is for one use: call exclusive() for another.")
        self._entered = True
        try:
            end = await self._acquire()
        except asyncio.CancelledError:
            # What was cancelled may have been done.
            await self._release()
            raise
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._renewal = asyncio.create_task(self._renew(end))

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._renewal.cancel()
        if not self._lost:
            try:
                await asyncio.wait({self._renewal})
            except asyncio.CancelledError:
                if not self._lost:
                    await self._release()
                    raise
                kind = asyncio.CancelledError
        if not self._lost:
            await self._release()
            return
        others = self._task.uncancel() > self._cancelling
        if not others and (kind is None or issubclass(kind, asyncio.CancelledError)):
            raise SessionBusy("The lease was lost: another run may have begun.")

    async def _acquire(self) -> float:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        wait = _FIRST_WAIT
        while True:
            began = loop.time()
            try:
                await self._call(
                    store.acquire_lease, lease=self._lease, expires_in=self._expires_in
                )
            except SessionBusy:
                left = deadline - loop.time()
                if left <= 0:
                    raise
                await asyncio.sleep(min(wait, left))
                wait = min(wait * 2, _LONGEST_WAIT)
            else:
                return began + self._expires_in.total_seconds()

    async def _renew(self, end: float) -> None:
        loop = asyncio.get_running_loop()
        seconds = self._expires_in.total_seconds()
        losing = None
        try:
            while not self._lost:
                await asyncio.sleep(seconds / 3)
                began = loop.time()
                # A loop that stood still for too long may ask whether anybody has come.
                losing = losing or loop.call_at(
                    max(end, began + seconds / 3), self._lose
                )
                try:
                    await self._call(
                        store.renew_lease, self._lease, expires_in=self._expires_in
                    )
                except DatabaseError:
                    logger.warning("A lease could not be renewed; it is tried again.")
                except AgentSessionError:
                    self._lose()
                else:
                    end = began + seconds
                    losing.cancel()
                    losing = None
        finally:
            if losing is not None:
                losing.cancel()

    def _lose(self) -> None:
        if not self._lost:
            self._lost = True
            self._task.cancel()

    async def _release(self) -> None:
        # To the end, whoever cancels: what waits for a thread would never begin.
        giving = asyncio.create_task(self._give_back())
        cancelled = None
        while not giving.done():
            try:
                await asyncio.wait({giving})
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    async def _give_back(self) -> None:
        try:
            await self._call(store.release_lease, self._lease)
        except (SessionGone, SessionOwnershipError):
            pass  # the lease went with the session
        except (AgentSessionError, DatabaseError):
            logger.warning("A lease could not be given back; it ends by itself.")
