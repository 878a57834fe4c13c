from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login, views
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_POST

from support_desk.demo_users import PASSWORDS
from support_desk.visitors import claim_tokens, take_along


class LoginView(views.LoginView):
    template_name = "support_desk/login.html"
    redirect_authenticated_user = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(
            **kwargs,
            usernames=list(PASSWORDS) if settings.DEBUG else [],
            claims=claim_tokens(self.request),
        )

    def form_valid(self, form: Any) -> HttpResponse:
        response = super().form_valid(form)
        return _arrive(self.request) or response


@require_POST
def demo_login(request: HttpRequest) -> HttpResponse:
    """Log in with one click, where everybody knows the passwords anyway."""
    username = request.POST.get("username")
    if not settings.DEBUG or username not in PASSWORDS:
        raise Http404
    login(request, get_object_or_404(User, username=username))
    return _arrive(request) or redirect("home")


def _arrive(request: HttpRequest) -> HttpResponse | None:
    taken = take_along(request, request.POST.getlist("claim"))
    if not taken:
        return None
    what = "What you asked before is" if len(taken) == 1 else "Your sessions are"
    messages.success(request, f"{what} now in the account of {request.user}.")
    return redirect("session", pk=taken[0].pk)
