"""
Runs of the agent that outlive the request that began them.

The question is stored together with the run that is to answer it, so the run's own
input is empty: it answers what stands at the session's end. That makes "again" the same
as "send": after a failure nothing has to be taken back, and nothing is stored twice.

One run at a time has the session, by a lease: the request takes it, or refuses with
SessionBusy, and the run goes on with it.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

from asgiref.sync import sync_to_async
from django.db import Error, IntegrityError, close_old_connections, transaction

from agent_sessions import DjangoSession, store
from agent_sessions.exceptions import (
    SessionBusy,
    SessionFull,
    SessionGone,
    SessionOwnershipError,
)
from agent_sessions.models import AgentSession
from support_desk.agent import stream_answer
from support_desk.models import ChatRun
from support_desk.questions import answer_at_end
from support_desk.talking import Talk

logger = logging.getLogger(__name__)
T = TypeVar("T")

WATCH_SECONDS = 1.0
KEEP_SECONDS = 30.0
# A run whose process is killed keeps the session for so long.
LEASE_TIME = timedelta(seconds=10)

INTERRUPTED = "The answer was interrupted."
FULL = "This session is full. Please start another one."
# What ends a run because the session is not its own any more.
LOST = (SessionBusy, SessionGone, SessionOwnershipError)

# The runs of this process. asyncio alone would let go of a task that nobody awaits.
talks: dict[UUID, Talk] = {}
_tasks: set[asyncio.Task[None]] = set()


def begin_run(
    session: AgentSession, run_id: UUID, ask: Callable[[AgentSession], None]
) -> tuple[ChatRun, bool]:
    """
    Ask, and store the run that is to answer, both or neither; tell whether it is new.

    Raise SessionBusy while another run answers, SessionGone if the session was deleted,
    or what ``ask`` raises.
    """
    end_abandoned_runs(session)
    try:
        with transaction.atomic():
            # It locks the session: of two tabs one comes second here.
            store.acquire_lease(session, lease=run_id, expires_in=LEASE_TIME)
            run = ChatRun.objects.create(pk=run_id, session=session)
            ask(session)
            return run, True
    except (IntegrityError, SessionBusy):
        same = ChatRun.objects.filter(pk=run_id, session=session).first()
        if same is None:
            raise SessionBusy("Another run answers in this session.") from None
        return same, False


def end_abandoned_runs(session: AgentSession) -> None:
    ChatRun.objects.filter(session=session).abandoned().update(
        state=ChatRun.State.FAILED, reason=INTERRUPTED
    )


def stop_run(session: AgentSession) -> None:
    """Ask the session's run to stop, whichever process it is in."""
    running = ChatRun.objects.filter(session=session).running()
    for pk in running.values_list("pk", flat=True):
        ChatRun.objects.filter(pk=pk).update(stopping=True)
        if talk := talks.get(pk):
            talk.stop()


def carry_out(run: ChatRun, session: AgentSession, customer: str) -> None:
    """Let the run go on in this event loop, whatever becomes of the request."""
    talk = talks[run.pk] = Talk()
    # An empty context: the request's own thread and connection end with the request.
    task = asyncio.create_task(
        _carry_out(run, session, customer, talk), context=contextvars.Context()
    )
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


async def _carry_out(
    run: ChatRun, session: AgentSession, customer: str, talk: Talk
) -> None:
    watch = asyncio.create_task(_watch(run, talk))
    state = ChatRun.State.FAILED
    try:
        memory = session.as_sdk_session()
        async with memory.exclusive(lease=run.pk, expires_in=LEASE_TIME):
            ending, reason = await _answer(session, memory, customer, talk)
            # Before the lease ends: a run without one has been abandoned.
            await apart(lambda: _end(run, ending, reason))
        state = ending
    except LOST as error:
        reason = _reason(error)
        await apart(lambda: _end(run, ChatRun.State.FAILED, reason))
    finally:
        watch.cancel()
        talk.end(state)
        # Who comes a little late still hears it.
        asyncio.get_running_loop().call_later(KEEP_SECONDS, talks.pop, run.pk, None)


async def _answer(
    session: AgentSession, memory: DjangoSession, customer: str, talk: Talk
) -> tuple[ChatRun.State, str]:
    try:
        await talk.follow(stream_answer([], customer=customer, session=memory))
        if not talk.is_stopped:
            return ChatRun.State.FINISHED, ""
        await apart(lambda: _keep_half_answer(session, talk.half_answer))
        return ChatRun.State.STOPPED, ""
    except Exception as error:  # whatever it is, who waits must hear of it
        return ChatRun.State.FAILED, _reason(error)


def _reason(error: Exception) -> str:
    match error:
        case SessionBusy():
            return INTERRUPTED
        case SessionFull():
            return FULL
        case SessionGone():
            return "This session was deleted."
        case SessionOwnershipError():
            return "This session moved into an account."
    # The class alone: the message may repeat what the user wrote.
    logger.error("The agent did not answer: %s", type(error).__name__)
    return "The model did not answer."


async def _watch(run: ChatRun, talk: Talk) -> None:
    """Hear from other processes that the run should stop."""
    stopping = ChatRun.objects.filter(pk=run.pk, stopping=True)
    while True:
        await asyncio.sleep(WATCH_SECONDS)
        try:
            if await apart(stopping.exists):
                talk.stop()
        except Error:
            continue  # the database is away for a moment


async def apart(work: Callable[[], T]) -> T:
    """Return what ``work`` returns, with a database connection of its own."""

    def run() -> T:
        close_old_connections()
        try:
            return work()
        finally:
            close_old_connections()

    return await sync_to_async(run, thread_sensitive=False)()


def _end(run: ChatRun, state: ChatRun.State, reason: str = "") -> None:
    ChatRun.objects.filter(pk=run.pk).update(state=state, reason=reason)


def _keep_half_answer(session: AgentSession, text: str) -> None:
    # The agent will know what its reader has seen. Nothing, if all was said already.
    if not text or answer_at_end(session) is not None:
        return
    part = {"type": "output_text", "text": text, "annotations": []}
    item: dict[str, Any] = {
        "id": f"msg_{uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "status": "incomplete",
        "content": [part],
    }
    store.append_items(session, [item])
