from __future__ import annotations

from django.urls import path

from support_desk.integrations import (
    approvals,
    background_task,
    drf_view,
    sse_view,
    sync_view,
)

urlpatterns = [
    path("sse/", sse_view.ask, name="ask_sse"),
    path("sync/", sync_view.ask, name="ask_sync"),
    path("drf/", drf_view.AskView.as_view(), name="ask_drf"),
    path("later/", background_task.ask, name="ask_later"),
    path("approvals/ask/", approvals.ask, name="ask_refund"),
    path("approvals/", approvals.pending, name="pending"),
    path("approvals/<uuid:pk>/", approvals.decide, name="decide"),
]
