"""One call into the store: which thread it is for, and how its caller waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from asgiref.sync import AsyncToSync, SyncToAsync, sync_to_async

from agent_sessions.crossing.jobs import Job
from agent_sessions.crossing.pool import submit

T = TypeVar("T")

# A request's thread that is busy for longer may be waiting for this very call.
BUSY_SECONDS = 5.0


async def cross(work: Callable[[], T], *, using: str) -> T:
    """
    Return what ``work`` returns, run where it may talk to the database ``using``.

    A cancelled caller waits until the work is settled: it is either done, or will never
    begin. Then CancelledError goes on.
    """
    job = Job(work, using)
    thread = _whose_thread(job)
    if thread is None:
        # Before it is submitted: from then on a thread wants the interpreter.
        waiting = job.wait()
        submit(job)
        try:
            await waiting
        except asyncio.CancelledError as error:
            if job.begin():
                raise
            return await _settle(job, job.wait(), cancelled=error)
        return job.result()
    # A task, because asgiref lets go of the work when its caller is cancelled.
    carrier = asyncio.ensure_future(_run_at_caller(job))
    patience = BUSY_SECONDS if thread == "request" else None
    return await _settle(job, carrier, patience)


async def _settle(
    job: Job[T],
    waiting: asyncio.Future[None],
    patience: float | None = None,
    cancelled: asyncio.CancelledError | None = None,
) -> T:
    while True:
        try:
            await asyncio.wait({waiting}, timeout=patience)
        except asyncio.CancelledError as error:
            if job.begin():
                waiting.cancel()
                raise
            cancelled = cancelled or error
            continue
        if waiting.done() and not waiting.cancelled():
            waiting.exception()  # the job's result says the same
        if job.done:
            break
        # asgiref has refused (the thread's own work has ended), has let go, or had no
        # thread for too long.
        if not job.begun:
            waiting.cancel()
            submit(job)
        patience = None
        waiting = job.wait()
    if cancelled is None:
        return job.result()
    raise cancelled


def _whose_thread(job: Job[Any]) -> Literal["caller", "request"] | None:
    """
    Tell whose thread asgiref would use: that of a sync caller, or a request's.

    asgiref has no public question for this; these are the places where
    SyncToAsync.__call__() looks (3.9 to 3.13). If they move, asgiref decides alone.
    """
    try:
        loop = asyncio.get_running_loop()
        outer = getattr(SyncToAsync.threadlocal, "main_event_loop", None)
        if outer is not None and outer is not loop and outer.is_running():
            # asgiref runs sync code on this very thread, and that code started a loop
            # (Runner.run_sync): whoever waits for the thread waits for ever.
            return None
        if getattr(AsyncToSync.executors, "current", None) is not None:
            return "caller"
        if job.depth:
            return None
        context = SyncToAsync.thread_sensitive_context.get(None)
        if context is not None:
            # A task that outlives its request has the context, but no thread.
            threads = SyncToAsync.context_to_thread_executor
            return "request" if context in threads else None
        return "caller" if loop in AsyncToSync.loop_thread_executors else None
    except AttributeError:
        return "caller"


def _run(job: Job[Any]) -> None:
    if job.begin():
        job.run()
        job.tell()


_run_at_caller = sync_to_async(_run)
