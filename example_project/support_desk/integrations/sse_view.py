"""
An async view that streams its answer, in one request.

The run ends with the request: whoever closes the page stops it. In support_desk/runs.py
it goes on.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from agents import RunResultStreaming
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, StreamingHttpResponse
from django.views.decorators.http import require_POST

from agent_sessions import DjangoSession
from support_desk.agent import MODEL_ERRORS, stream_answer


@require_POST
@login_required
async def ask(request: HttpRequest) -> StreamingHttpResponse:
    user = await request.auser()
    session = DjangoSession(f"{user.pk}:sse", user=user)
    result = stream_answer(
        request.POST["text"], customer=user.get_username(), session=session
    )
    return StreamingHttpResponse(
        _events(result),
        content_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


async def _events(result: RunResultStreaming) -> AsyncIterator[str]:
    try:
        async for event in result.stream_events():
            if (
                event.type == "raw_response_event"
                and event.data.type == "response.output_text.delta"
            ):
                yield f"event: text\ndata: {json.dumps(event.data.delta)}\n\n"
    except MODEL_ERRORS:
        # The status was sent long ago, so the stream says it.
        yield "event: failed\ndata: null\n\n"
    else:
        yield "event: end\ndata: null\n\n"
