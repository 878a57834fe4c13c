from __future__ import annotations

from uuid import uuid4

from django.conf import settings
from django.db import models
from django.utils import timezone

from agent_sessions.models import AgentSession


class ChatRun(models.Model):
    """
    One attempt of the agent to answer what stands at the end of a session.

    What is said is in the session's items; here is what the agent is doing about it.
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
    # A run whose process was killed cannot say so: it is no longer seen.
    seen_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["started_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["session"],
                condition=models.Q(state="running"),
                name="support_desk_one_run",
            )
        ]

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
