"""Pages. Reading needs no agent, so these are plain views on the package's rows."""

from __future__ import annotations

from itertools import takewhile
from typing import Any
from uuid import uuid4

from django.contrib import messages
from django.core.exceptions import BadRequest
from django.db import transaction
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.dateparse import parse_datetime
from django.views.decorators.http import require_POST, require_safe

from agent_sessions import store
from agent_sessions.exceptions import InvalidTitle, SessionGone
from agent_sessions.models import AgentSession
from agent_sessions.transcript.blocks import Block, Message
from support_desk.agent import is_offline
from support_desk.models import ChatRun
from support_desk.runs import end_abandoned_runs, talks
from support_desk.visitors import own_session, remember, sessions_of

LIST_SIZE = 20
PAGE_SIZE = 100


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    if "part" in request.GET:
        return render(request, "support_desk/_list.html", _list(request))
    return render(request, "support_desk/chat.html", _list(request) | _composer())


@require_safe
def session(request: HttpRequest, pk: str) -> HttpResponse:
    try:
        row = own_session(request, pk)
    except Http404:
        # With DEBUG Django would show a page for developers.
        return render(request, "404.html", status=404)
    context = _list(request) | _composer() | _transcript(request, row)
    return render(request, "support_desk/chat.html", context)


@require_safe
def transcript(request: HttpRequest, pk: str) -> HttpResponse:
    """The part of the page that changes, for the page itself."""
    context = _transcript(request, own_session(request, pk))
    return render(request, "support_desk/_transcript.html", context)


@require_POST
def change(request: HttpRequest, pk: str) -> HttpResponse:
    row = own_session(request, pk)
    archived = request.POST.get("archived")
    try:
        store.update_session(
            row,
            title=request.POST.get("title"),
            archived=None if archived is None else archived == "yes",
        )
    except InvalidTitle as error:
        messages.error(request, str(error))
    except SessionGone:
        messages.error(request, "This session was deleted meanwhile.")
        return redirect("home")
    remember(request, row)  # an older version that a visitor goes on from
    return redirect("session", pk=row.pk)


@require_POST
def delete(request: HttpRequest, pk: str) -> HttpResponse:
    row = own_session(request, pk)
    versions = [one for one in store.get_forks(row) if one.archived_at]
    with transaction.atomic():
        for one in (row, *versions):
            store.delete_session(one)
    messages.success(request, "The session is deleted, with all that was said in it.")
    return redirect("home")


def _list(request: HttpRequest) -> dict[str, Any]:
    rows = sessions_of(request)
    words = request.GET.get("q", "").strip()
    archived = request.GET.get("archived") == "yes"
    rows = rows.archived() if archived else rows.active()
    if words:
        rows = rows.filter(Q(title__icontains=words) | Q(preview__icontains=words))
    if before := request.GET.get("before"):
        rows = rows.filter(_older(before))
    page = list(rows.newest_first()[: LIST_SIZE + 1])
    # Where the next page begins: what is new above does not shift it.
    last = page[LIST_SIZE - 1] if len(page) > LIST_SIZE else None
    return {
        "sessions": page[:LIST_SIZE],
        "older": f"{last.updated_at.isoformat()},{last.pk}" if last else "",
        "words": words,
        "archived": archived,
    }


def _older(cursor: str) -> Q:
    moment, _, pk = cursor.partition(",")
    try:
        at = parse_datetime(moment)
        if at is None:
            raise ValueError
        pk = AgentSession._meta.pk.to_python(pk)
    except Exception as error:
        raise BadRequest("before is a moment and a key.") from error
    return Q(updated_at__lt=at) | Q(updated_at=at, pk__lt=pk)


def _composer() -> dict[str, Any]:
    return {"new_id": uuid4, "is_offline": is_offline()}


def _transcript(request: HttpRequest, row: AgentSession) -> dict[str, Any]:
    end_abandoned_runs(row)
    # The run first: what it stores meanwhile is then shown twice rather than never.
    run = row.chat_runs.last()
    earlier = request.GET.get("earlier", "")
    if earlier and not earlier.isdecimal():
        raise BadRequest("earlier is a position.")
    page = store.read_transcript_page(
        row, before=int(earlier) if earlier else None, size=PAGE_SIZE
    )
    blocks = [
        block
        for section in page.sections
        for turn in section.turns
        for block in turn.blocks
    ]
    is_running = run is not None and run.state == ChatRun.State.RUNNING
    if is_running and run.pk in talks and not earlier:
        blocks = _until_question(blocks)  # the rest is told by the run itself
    return {
        "session": row,
        "blocks": blocks,
        "older_items": page.first if page.has_older else None,
        "run": run,
        "is_running": is_running,
        "is_newest": not earlier,
        "is_unanswered": bool(blocks) and not _is_answer(blocks[-1]),
        # An older version is to be read, until somebody goes on from it.
        "is_older": row.forked_from is not None and row.archived_at is not None,
        "successor": sessions_of(request).filter(pk=row.forked_from).first(),
        "versions": store.get_forks(row, limit=LIST_SIZE),
        "usage": store.read_usage(row),
        # Called in the template: each form gets its own.
        "new_id": uuid4,
    }


def _is_answer(block: Block) -> bool:
    return isinstance(block, Message) and block.role == "assistant"


def _until_question(blocks: list[Block]) -> list[Block]:
    after = list(
        takewhile(
            lambda block: not (isinstance(block, Message) and block.role == "user"),
            reversed(blocks),
        )
    )
    return blocks[: len(blocks) - len(after)]
