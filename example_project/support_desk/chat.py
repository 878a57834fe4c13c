"""Talking: async views, so that no thread waits for the model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

from asgiref.sync import sync_to_async
from django.db import connections, transaction
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    JsonResponse,
    StreamingHttpResponse,
)
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from agent_sessions import store
from agent_sessions.exceptions import SessionGone
from agent_sessions.models import AgentSession
from support_desk.models import ChatRun
from support_desk.runs import (
    RUNNING,
    Busy,
    NothingToAnswer,
    apart,
    begin_run,
    carry_out,
    end_dead_runs,
    stop_run,
    talks,
)
from support_desk.talking import sse
from support_desk.visitors import own_session, remember, sessions_of

MAX_LENGTH = 2000


@require_POST
async def start(request: HttpRequest) -> HttpResponse:
    """Send the first words of a session that does not exist yet."""
    return await _go(request, None)


@require_POST
async def send(request: HttpRequest, pk: UUID) -> HttpResponse:
    return await _go(request, pk)


@require_POST
async def retry(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Have the agent answer what it has not answered."""
    return await _go(request, pk, again=True)


@require_POST
async def stop(request: HttpRequest, pk: UUID) -> HttpResponse:
    row = await sync_to_async(own_session)(request, pk)
    await sync_to_async(stop_run)(row)
    return (
        HttpResponse(status=204) if _is_script(request) else redirect("session", pk=pk)
    )


@require_safe
async def events(request: HttpRequest, pk: UUID, run: UUID) -> HttpResponseBase:
    """What the run says, as server-sent events: EventSource in the browser."""
    row = await sync_to_async(own_session)(request, pk)
    if not await row.chat_runs.filter(pk=run).aexists():
        raise Http404
    # Streams are long and many: none may keep a connection of the pool.
    await sync_to_async(connections.close_all)()
    last = request.headers.get("Last-Event-ID", "")
    talk = talks.get(run)
    return StreamingHttpResponse(
        talk.listen(int(last) if last.isdecimal() else 0) if talk else _wait(row, run),
        content_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


async def _wait(session: AgentSession, run: UUID) -> AsyncIterator[bytes]:
    """A run that has ended, or that another process carries out."""

    def find_state() -> str | None:
        end_dead_runs(session)
        runs = ChatRun.objects.filter(pk=run, session=session)
        return runs.values_list("state", flat=True).first()

    while (state := await apart(find_state)) == RUNNING:
        yield b": in another process\n\n"
        await asyncio.sleep(1)
    yield sse("end", state)


async def _go(
    request: HttpRequest, pk: UUID | None, *, again: bool = False
) -> HttpResponse:
    user = await request.auser()
    text = request.POST.get("text", "").strip()
    try:
        run_id = UUID(request.POST.get("run", ""))
    except ValueError:
        return _refuse(400, "This page is too old. Please load it again.")
    if not again and not 0 < len(text) <= MAX_LENGTH:
        return _refuse(400, f"Please write between 1 and {MAX_LENGTH} characters.")
    try:
        row, run, is_new = await sync_to_async(_accept)(
            request, pk, run_id, None if again else text
        )
    except (AgentSession.DoesNotExist, SessionGone):
        return _refuse(404, "This session is not there any more.")
    except Busy:
        return _refuse(
            409, "The agent is still answering here, perhaps in another tab."
        )
    except NothingToAnswer:
        return _refuse(409, "This was answered already.")
    if is_new:
        carry_out(run, row, user.get_username())
    return _accepted(request, row, run)


def _accept(
    request: HttpRequest, pk: UUID | None, run_id: UUID, text: str | None
) -> tuple[AgentSession, ChatRun, bool]:
    if pk is not None:
        row = sessions_of(request).get(pk=pk)
        return row, *begin_run(row, run_id, text)
    user = request.user if request.user.is_authenticated else None
    try:
        with transaction.atomic():
            row = store.create_session(user)
            run, is_new = begin_run(row, run_id, text)
    except Busy:
        # The same first words sent twice: this is the second time.
        row = sessions_of(request).get(chat_runs=run_id)
        return row, row.chat_runs.get(pk=run_id), False
    remember(request, row)
    return row, run, is_new


def _accepted(request: HttpRequest, row: AgentSession, run: ChatRun) -> HttpResponse:
    if not _is_script(request):
        return redirect("session", pk=row.pk)
    answer: dict[str, Any] = {
        "session": reverse("session", args=[row.pk]),
        "events": reverse("events", args=[row.pk, run.pk]),
        "next": str(uuid4()),
    }
    return JsonResponse(answer, status=202)


def _refuse(status: int, words: str) -> HttpResponse:
    return JsonResponse({"error": words}, status=status)


def _is_script(request: HttpRequest) -> bool:
    return request.get_preferred_type(["text/html", "application/json"]) == (
        "application/json"
    )
