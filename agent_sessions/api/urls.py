"""``path("api/", include("agent_sessions.api.urls"))``."""

from __future__ import annotations

from importlib import import_module

from django.apps import apps
from django.urls import path
from rest_framework.routers import SimpleRouter

from agent_sessions.api.contents import ItemViewSet, TurnViewSet
from agent_sessions.api.usage import SessionUsageViewSet, UsageViewSet
from agent_sessions.api.viewsets import MeViewSet, SessionViewSet

if apps.is_installed("drf_spectacular"):
    import_module("agent_sessions.api.schema")

app_name = "agent_sessions"

router = SimpleRouter(use_regex_path=False)
router.register("sessions", SessionViewSet, basename="session")
router.register("sessions/<uuid:session>/items", ItemViewSet, basename="item")
router.register("sessions/<uuid:session>/turns", TurnViewSet, basename="turn")
router.register(
    "sessions/<uuid:session>/usage", SessionUsageViewSet, basename="session-usage"
)

urlpatterns = [
    *router.urls,
    path(
        "me/",
        MeViewSet.as_view({"get": "retrieve", "patch": "partial_update"}),
        name="me",
    ),
    path("usage/", UsageViewSet.as_view({"get": "retrieve"}), name="usage"),
]
