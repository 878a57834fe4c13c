"""Talking: async views, so that no thread waits for the model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
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
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from agent_sessions import store
from agent_sessions.exceptions import (
    SessionBusy,
    SessionFull,
    SessionGone,
    TooManySessions,
    TurnCompacted,
    TurnGone,
)
from agent_sessions.models import AgentSession
from support_desk.forms import MAX_LENGTH, AgainForm, EditForm, RunForm, TextForm
from support_desk.models import ChatRun
from support_desk.questions import (
    Changed,
    NothingToAnswer,
    ask_again,
    say,
    say_instead,
)
from support_desk.runs import (
    FULL,
    apart,
    begin_run,
    carry_out,
    end_abandoned_runs,
    stop_run,
    talks,
)
from support_desk.talking import sse
from support_desk.visitors import own_session, remember, sessions_of

GONE = "This session is not there any more."
BUSY = "Another answer is being written here, perhaps in another tab."
MANY = "You have as many sessions as are allowed. Please delete one first."
CHANGED = "This session was changed meanwhile, perhaps in another tab."


@require_POST
async def start(request: HttpRequest) -> HttpResponse:
    """Send the first words of a session that does not exist yet."""
    return await _go(request, None, TextForm, say)


@require_POST
async def send(request: HttpRequest, pk: UUID) -> HttpResponse:
    return await _go(request, pk, TextForm, say)


@require_POST
async def edit(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Say something else instead of what was said, and have that answered."""
    return await _go(request, pk, EditForm, say_instead)


@require_POST
async def retry(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Have the agent answer once more, or at all."""
    return await _go(request, pk, AgainForm, ask_again)


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
        end_abandoned_runs(session)
        runs = ChatRun.objects.filter(pk=run, session=session)
        return runs.values_list("state", flat=True).first()

    while (state := await apart(find_state)) == ChatRun.State.RUNNING:
        yield b": in another process\n\n"
        await asyncio.sleep(1)
    yield sse("end", state)


async def _go(
    request: HttpRequest,
    pk: UUID | None,
    form_class: type[RunForm],
    question: Callable[..., None],
) -> HttpResponse:
    user = await request.auser()
    form = form_class(request.POST)
    if not form.is_valid():
        words = "This page is too old. Please load it again."
        if "text" in form.errors:
            words = f"Please write between 1 and {MAX_LENGTH} characters."
        return await _refuse(request, 400, words)
    run_id = form.cleaned_data.pop("run")
    ask = partial(question, **form.cleaned_data)
    try:
        row, run, is_new = await sync_to_async(_accept)(request, pk, run_id, ask)
    except (AgentSession.DoesNotExist, SessionGone):
        return await _refuse(request, 404, GONE)
    except SessionBusy:
        return await _refuse(request, 409, BUSY)
    except SessionFull:
        return await _refuse(request, 409, FULL)
    except TooManySessions:
        return await _refuse(request, 409, MANY)
    except (Changed, TurnGone, TurnCompacted):
        return await _refuse(request, 409, CHANGED)
    except NothingToAnswer:
        return await _refuse(request, 409, "Nothing was asked here yet.")
    if is_new:
        carry_out(run, row, user.get_username())
    return _accepted(request, row, run)


def _accept(
    request: HttpRequest,
    pk: UUID | None,
    run_id: UUID,
    ask: Callable[[AgentSession], None],
) -> tuple[AgentSession, ChatRun, bool]:
    if pk is not None:
        row = sessions_of(request).get(pk=pk)
        return row, *begin_run(row, run_id, ask)
    user = request.user if request.user.is_authenticated else None
    try:
        with transaction.atomic():
            row = store.create_session(user)
            run, is_new = begin_run(row, run_id, ask)
    except SessionBusy:
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


async def _refuse(request: HttpRequest, status: int, words: str) -> HttpResponse:
    if _is_script(request):
        return JsonResponse({"error": words}, status=status)
    # What was written is on the page, to be copied.
    context = {"words": words, "text": request.POST.get("text", "")}
    return await sync_to_async(render)(
        request, "support_desk/refused.html", context, status=status
    )


def _is_script(request: HttpRequest) -> bool:
    return request.get_preferred_type(["text/html", "application/json"]) == (
        "application/json"
    )
