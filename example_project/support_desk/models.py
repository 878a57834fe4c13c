from __future__ import annotations

from uuid import uuid4

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from agent_sessions.models import AgentSession
from agent_sessions.store.leases import Clock


class ChatRunQuerySet(models.QuerySet["ChatRun"]):
    def running(self) -> ChatRunQuerySet:
        return self.filter(state=ChatRun.State.RUNNING)

    def abandoned(self) -> ChatRunQuerySet:
        """Return the runs that cannot say how they ended: their process was killed."""
        held = Q(session__lease=F("pk"), session__leased_until__gt=Clock())
        return self.running().exclude(held)


class ChatRun(models.Model):
    """
    One attempt of the agent to answer what stands at the end of a session.

    What is said is in the session's items; here is what the agent is doing about it.
    While it does, the run has the session's lease, under its own id.
    """

    class State(models.TextChoices):
        RUNNING = "running"
        FINISHED = "finished"
        STOPPED = "stopped"
        FAILED = "failed"

    # Made for one press of a button: pressed twice, sent twice, it is still one run.
    id = models.UUIDField(primary_key=True)
    session = models.ForeignKey(
        AgentSession, on_delete=models.CASCADE, related_name="chat_runs"
    )
    state = models.CharField(max_length=8, choices=State.choices, default=State.RUNNING)
    stopping = models.BooleanField(default=False)
    reason = models.CharField(max_length=200, blank=True)
    started_at = models.DateTimeField(default=timezone.now)

    objects = ChatRunQuerySet.as_manager()

    class Meta:
        ordering = ["started_at"]

    def __str__(self) -> str:
        return str(self.pk)


class PendingApproval(models.Model):
    """A run that waits for a person's decision; see integrations/approvals.py."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    session = models.ForeignKey(
        AgentSession, on_delete=models.CASCADE, related_name="pending_approvals"
    )
    # The SDK's, with all that was said in the run. To be read from nowhere else.
    state = models.TextField(blank=True)
    question = models.TextField()
    created_at = models.DateTimeField(default=timezone.now)
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL
    )

    class Meta:
        ordering = ["created_at"]

    def __str__(self) -> str:
        return str(self.pk)
