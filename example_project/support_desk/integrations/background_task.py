"""
A run in a worker, with django.tasks: ``manage.py db_worker`` carries it out.

Django 6.0 has django.tasks; for 5.2 it is the package django-tasks. The queue, a table
of the same database, is django-tasks-db's for both.
"""

from __future__ import annotations

from functools import partial
from uuid import UUID

from asgiref.sync import async_to_sync
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_POST

from agent_sessions import store
from agent_sessions.models import AgentSession
from support_desk.agent import answer

try:
    from django.tasks import task
except ImportError:
    from django_tasks import task


@require_POST
@login_required
def ask(request: HttpRequest) -> JsonResponse:
    with transaction.atomic():
        row = store.create_session(request.user)
        # What was said is kept in the session alone: a queue is read by many.
        store.append_items(row, [{"role": "user", "content": request.POST["text"]}])
        transaction.on_commit(partial(answer_session.enqueue, str(row.pk)))
    return JsonResponse({"session": row.pk}, status=202)


@task
def answer_session(pk: str) -> None:
    """Answer what stands at the session's end; nothing if that is an answer."""
    rows = AgentSession.objects.select_related("user").filter(pk=UUID(pk))
    row = rows.first()
    if row is None:
        return  # deleted before its turn came
    newest = store.read_items(row, limit=1)
    if newest and newest[0].get("role") == "assistant":
        return  # by a worker that died before it could say so
    customer = row.user.get_username() if row.user else ""
    # The session ends with the question, so there is nothing new to say.
    async_to_sync(answer)([], customer=customer, session=row.as_sdk_session())
