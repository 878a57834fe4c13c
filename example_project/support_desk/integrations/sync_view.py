"""A plain view, under WSGI as well."""

from __future__ import annotations

from asgiref.sync import async_to_sync
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_POST

from agent_sessions import DjangoSession
from support_desk.agent import MODEL_ERRORS, answer


@require_POST
@login_required
def ask(request: HttpRequest) -> JsonResponse:
    session = DjangoSession(f"{request.user.pk}:sync", user=request.user)
    try:
        # Not Runner.run_sync(): this way the session is on this thread's connection,
        # and in its transaction if there is one.
        result = async_to_sync(answer)(
            request.POST["text"],
            customer=request.user.get_username(),
            session=session,
        )
    except MODEL_ERRORS:
        return JsonResponse({"error": "The model did not answer."}, status=502)
    return JsonResponse({"answer": result.final_output})
