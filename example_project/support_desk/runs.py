"""
Runs of the agent that outlive the request that began them.

A message is stored together with the run that is to answer it, so the run's own input
is empty: it answers what stands at the session's end. That makes "again" the same as
"send": after a failure nothing has to be taken back, and nothing is stored twice.
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
from django.utils import timezone

from agent_sessions import store
from agent_sessions.exceptions import SessionGone, SessionOwnershipError
from agent_sessions.models import AgentSession
from support_desk.agent import stream_answer
from support_desk.models import ChatRun
from support_desk.talking import Talk

logger = logging.getLogger(__name__)
T = TypeVar("T")

BEAT_SECONDS = 1.0
KEEP_SECONDS = 30.0
# A run that was not seen for so long died with its process.
DEAD_AFTER = timedelta(seconds=10)

RUNNING = ChatRun.State.RUNNING

# The runs of this process. asyncio alone would let go of a task that nobody awaits.
talks: dict[UUID, Talk] = {}
_tasks: set[asyncio.Task[None]] = set()


class Busy(Exception):
    """Another run is answering in this session."""


class NothingToAnswer(Exception):
    """The session ends with an answer."""


def begin_run(
    session: AgentSession, run_id: UUID, text: str | None
) -> tuple[ChatRun, bool]:
    """
    Store the message and its run, both or neither; return it and whether it is new.

    Without a text the run answers what is there. Raise Busy, NothingToAnswer, or
    SessionGone if the session was deleted.
    """
    end_dead_runs(session)
    try:
        with transaction.atomic():
            # Each takes the session's lock first: of two tabs one comes second here,
            # and then finds the other's run.
            if text is None:
                _forget_half_answer(session)
            else:
                store.append_items(session, [{"role": "user", "content": text}])
            return ChatRun.objects.create(pk=run_id, session=session), True
    except IntegrityError:
        same = ChatRun.objects.filter(pk=run_id, session=session).first()
        if same is None:
            raise Busy from None
        return same, False


def end_dead_runs(session: AgentSession) -> None:
    dead = ChatRun.objects.filter(
        session=session, state=RUNNING, seen_at__lt=timezone.now() - DEAD_AFTER
    )
    dead.update(state=ChatRun.State.FAILED, reason="The answer was interrupted.")


def stop_run(session: AgentSession) -> None:
    """Ask the session's run to stop, whichever process it is in."""
    for pk in ChatRun.objects.filter(session=session, state=RUNNING).values_list(
        "pk", flat=True
    ):
        ChatRun.objects.filter(pk=pk).update(stopping=True)
        if talk := talks.get(pk):
            talk.stop()


def carry_out(run: ChatRun, session: AgentSession, customer: str) -> None:
    """Let the run go on in this event loop, whatever becomes of the request."""
    talk = talks[run.pk] = Talk()
    # An empty context: the request's own thread and connection end with the request.
    task = asyncio.create_task(
        _answer(run, session, customer, talk), context=contextvars.Context()
    )
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


async def _answer(
    run: ChatRun, session: AgentSession, customer: str, talk: Talk
) -> None:
    beat = asyncio.create_task(_beat(run, talk))
    state, reason = ChatRun.State.FINISHED, ""
    try:
        await talk.follow(
            stream_answer([], customer=customer, session=session.as_sdk_session())
        )
        if talk.is_stopped:
            state = ChatRun.State.STOPPED
            await apart(lambda: _keep_half_answer(session, talk.half_answer))
    except SessionGone:
        state, reason = ChatRun.State.FAILED, "This session was deleted."
    except SessionOwnershipError:
        state, reason = ChatRun.State.FAILED, "This session moved into an account."
    except Exception as error:  # whatever it is, who waits must hear of it
        # The class alone: the message may repeat what the user wrote.
        logger.error("The agent did not answer: %s", type(error).__name__)
        state, reason = ChatRun.State.FAILED, "The model did not answer."
    finally:
        beat.cancel()
    try:
        await apart(
            lambda: ChatRun.objects.filter(pk=run.pk).update(state=state, reason=reason)
        )
    finally:
        talk.end(state)
        # Who comes a little late still hears it.
        asyncio.get_running_loop().call_later(KEEP_SECONDS, talks.pop, run.pk, None)


async def _beat(run: ChatRun, talk: Talk) -> None:
    """Say that the run is alive, and hear from other processes that it should stop."""

    def touch() -> bool:
        mine = ChatRun.objects.filter(pk=run.pk)
        mine.update(seen_at=timezone.now())
        return not mine.filter(stopping=False).exists()

    while True:
        await asyncio.sleep(BEAT_SECONDS)
        try:
            if await apart(touch):
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


def _keep_half_answer(session: AgentSession, text: str) -> None:
    # The agent will know what its reader has seen. Nothing, if all was said already.
    if not text or _answer_at_end(session) is not None:
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


def _forget_half_answer(session: AgentSession) -> None:
    if not AgentSession.objects.select_for_update().filter(pk=session.pk).exists():
        raise SessionGone("There is no such session.")
    answer = _answer_at_end(session)
    if answer is not None and answer.get("status") == "incomplete":
        store.pop_item(session)
    elif answer is not None or not store.read_items(session, limit=1):
        raise NothingToAnswer


def _answer_at_end(session: AgentSession) -> dict[str, Any] | None:
    for item in store.read_items(session, limit=1):
        if item.get("role") == "assistant":
            return item
    return None
