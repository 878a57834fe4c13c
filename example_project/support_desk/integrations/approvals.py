"""
A tool that waits for a person's approval, across requests and restarts.

The SDK hands out the state of the interrupted run; the project keeps it, and goes on
with it and the same session once somebody has decided.
"""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from agents import Agent, RunContextWrapper, Runner, RunResult, RunState, function_tool
from asgiref.sync import async_to_sync
from django.contrib.auth.decorators import login_required, permission_required
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from agent_sessions import store
from agent_sessions.models import AgentSession
from support_desk.agent import MODEL_ERRORS, RUN_CONFIG, support_agent
from support_desk.models import PendingApproval
from support_desk.orders import orders_of


@function_tool(needs_approval=True)
async def refund_order(context: RunContextWrapper[str], number: str) -> str:
    """Pay the customer back what an order cost."""
    known = number in orders_of(context.context)
    return json.dumps({"order": number, "status": "refunded" if known else "unknown"})


def refunding_agent() -> Agent[str]:
    agent = support_agent()
    return agent.clone(tools=[*agent.tools, refund_order])


@require_POST
@login_required
def ask(request: HttpRequest) -> JsonResponse:
    row = store.create_session(request.user)
    return _run(row, request.POST["text"])


@require_safe
@permission_required("support_desk.change_pendingapproval", raise_exception=True)
def pending(request: HttpRequest) -> JsonResponse:
    """What waits for a decision, for whoever may decide."""
    waiting = PendingApproval.objects.filter(decided_at=None)
    rows = waiting.values("pk", "session_id", "session__user__username", "question")
    return JsonResponse({"pending": list(rows)})


@require_POST
@permission_required("support_desk.change_pendingapproval", raise_exception=True)
def decide(request: HttpRequest, pk: UUID) -> JsonResponse:
    """Go on with the run as ``approve`` says: "yes" or anything else."""
    approval = get_object_or_404(
        PendingApproval.objects.select_related("session__user"), pk=pk
    )
    # Of two who decide at once, one does.
    mine = PendingApproval.objects.filter(pk=pk, decided_at=None).update(
        decided_at=timezone.now(), decided_by=request.user
    )
    if not mine:
        return JsonResponse({"error": "This was decided already."}, status=409)
    row = approval.session
    state = async_to_sync(RunState.from_string)(
        refunding_agent(),
        approval.state,
        # Whose order it is comes from the session, as in every run.
        context_override=RunContextWrapper(_customer(row)),
    )
    for item in state.get_interruptions():
        if request.POST.get("approve") == "yes":
            state.approve(item)
        else:
            state.reject(item)
    try:
        return _run(row, state)
    except MODEL_ERRORS:
        # What was decided is done and in the session: ask again from there, with [].
        return JsonResponse({"error": "The model did not answer."}, status=502)
    finally:
        # It holds what was said: nobody needs it any more.
        PendingApproval.objects.filter(pk=pk).update(state="")


def _run(row: AgentSession, input: str | RunState) -> JsonResponse:
    result: RunResult = async_to_sync(Runner.run)(
        refunding_agent(),
        input,
        # A state brings its own.
        context=None if isinstance(input, RunState) else _customer(row),
        session=row.as_sdk_session(),
        run_config=RUN_CONFIG,
    )
    answer: dict[str, Any] = {"session": row.pk, "answer": result.final_output}
    if result.interruptions:
        question = ", ".join(
            f"{item.name} {item.arguments}" for item in result.interruptions
        )
        approval = PendingApproval.objects.create(
            session=row,
            state=result.to_state().to_string(context_serializer=lambda customer: {}),
            question=question,
        )
        answer["waits_for"] = approval.pk
    return JsonResponse(answer)


def _customer(row: AgentSession) -> str:
    return row.user.get_username() if row.user else ""
