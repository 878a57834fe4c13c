"""The tests' URLs as of a project that answers paths it does not know in JSON."""

from __future__ import annotations

from django.http import JsonResponse

from tests.urls import urlpatterns

__all__ = ["handler404", "urlpatterns"]


def not_found(request, exception):
    return JsonResponse({"detail": "Not found."}, status=404)


handler404 = not_found
