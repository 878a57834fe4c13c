from __future__ import annotations

import logging
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login, views
from django.contrib.auth.decorators import login_required, permission_required
from django.contrib.auth.models import User
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import aget_object_or_404, get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from agent_sessions import DjangoSession, store
from agent_sessions.models import AgentSession, AgentSessionQuerySet
from support_desk.agent import MODEL_ERRORS, answer, is_offline
from support_desk.demo_users import PASSWORDS
from support_desk.orders import orders_of
from support_desk.transcript import read_lines

logger = logging.getLogger(__name__)


class MessageForm(forms.Form):
    text = forms.CharField(
        label="Your message",
        max_length=2000,
        widget=forms.TextInput(attrs={"autocomplete": "off", "autofocus": True}),
    )


# Reading needs no agent: plain views, and the same words without await.


@require_safe
@login_required
def sessions(request: HttpRequest) -> HttpResponse:
    rows = AgentSession.objects.for_user(request.user).newest_first()
    return render(
        request,
        "support_desk/sessions.html",
        {
            "page": _page(request, rows),
            "form": MessageForm(),
            "orders": orders_of(request.user.get_username()),
            "is_offline": is_offline(),
        },
    )


@require_safe
@login_required
def session(request: HttpRequest, pk: str) -> HttpResponse:
    # Somebody else's session is not found, like one that never was.
    row = get_object_or_404(AgentSession.objects.for_user(request.user), pk=pk)
    return _render_session(request, row, form=MessageForm(), is_offline=is_offline())


@require_safe
@login_required
@permission_required("agent_sessions.view_agentsession", raise_exception=True)
def staff_sessions(request: HttpRequest) -> HttpResponse:
    rows = AgentSession.objects.select_related("user").newest_first()
    page = _page(request, rows)
    return render(request, "support_desk/staff_sessions.html", {"page": page})


@require_safe
@login_required
@permission_required("agent_sessions.view_agentsession", raise_exception=True)
def staff_session(request: HttpRequest, pk: str) -> HttpResponse:
    row = get_object_or_404(AgentSession.objects.select_related("user"), pk=pk)
    return _render_session(request, row)


# Talking runs the agent: async views, so that a thread does not wait for the model.


@require_POST
@login_required
async def start_session(request: HttpRequest) -> HttpResponse:
    form = MessageForm(request.POST)
    if not form.is_valid():
        messages.error(request, form.errors["text"][0])
        return redirect("sessions")
    user = await request.auser()
    created = await DjangoSession.create_session(user)
    await _send(request, form.cleaned_data["text"], user, created)
    row = await AgentSession.objects.aget(session_id=created.session_id)
    return redirect("session", pk=row.pk)


@require_POST
@login_required
async def send_message(request: HttpRequest, pk: str) -> HttpResponse:
    user = await request.auser()
    row = await aget_object_or_404(AgentSession.objects.for_user(user), pk=pk)
    form = MessageForm(request.POST)
    if form.is_valid():
        await _send(request, form.cleaned_data["text"], user, row.as_sdk_session())
    else:
        messages.error(request, form.errors["text"][0])
    return redirect("session", pk=row.pk)


async def _send(
    request: HttpRequest, text: str, user: User, memory: DjangoSession
) -> None:
    try:
        await answer(text, user=user, session=memory)
    except MODEL_ERRORS as error:
        # The class alone: the message may repeat what the user wrote.
        logger.error("The model did not answer: %s", type(error).__name__)
        messages.error(request, "The model did not answer. Your message is kept.")


def _page(request: HttpRequest, rows: AgentSessionQuerySet) -> Any:
    return Paginator(rows, 20).get_page(request.GET.get("page"))


def _render_session(
    request: HttpRequest, row: AgentSession, **context: Any
) -> HttpResponse:
    context |= {"session": row, "lines": read_lines(store.read_items(row))}
    return render(request, "support_desk/session.html", context)


class LoginView(views.LoginView):
    template_name = "support_desk/login.html"
    redirect_authenticated_user = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        usernames = list(PASSWORDS) if settings.DEBUG else []
        return super().get_context_data(**kwargs, usernames=usernames)


@require_POST
def demo_login(request: HttpRequest) -> HttpResponse:
    """Log in with one click, where everybody knows the passwords anyway."""
    username = request.POST.get("username")
    if not settings.DEBUG or username not in PASSWORDS:
        raise Http404
    login(request, get_object_or_404(User, username=username))
    return redirect("sessions")
