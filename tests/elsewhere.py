"""
The tables of other packages, as their own migrations make them.

Outside of Django's registry: nothing else is to know of them.
"""

# ruff: noqa: DJ008 - nobody looks at these rows.

from __future__ import annotations

import uuid

from django.apps.registry import Apps
from django.db import models

_apps = Apps()


class OpenAIDjangoSession(models.Model):
    """openai-django-sessions 0.2."""

    session_id = models.CharField(max_length=255, unique=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        apps = _apps
        app_label = "openai_django_sessions"
        db_table = "agent_sessions"


class OpenAIDjangoMessage(models.Model):
    session = models.ForeignKey(OpenAIDjangoSession, on_delete=models.CASCADE)
    data = models.JSONField()
    created_at = models.DateTimeField()

    class Meta:
        apps = _apps
        app_label = "openai_django_sessions"
        db_table = "agent_messages"


class AgenticSession(models.Model):
    """agentic-django 0.5."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    session_key = models.CharField(max_length=255)
    owner_id = models.BigIntegerField()
    metadata = models.JSONField(default=dict)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        apps = _apps
        app_label = "agentic_django"
        db_table = "agentic_django_agentsession"


class AgenticItem(models.Model):
    session = models.ForeignKey(AgenticSession, on_delete=models.CASCADE)
    sequence = models.PositiveBigIntegerField()
    payload = models.JSONField()
    created_at = models.DateTimeField()

    class Meta:
        apps = _apps
        app_label = "agentic_django"
        db_table = "agentic_django_agentsessionitem"
