"""Tables of the naive session that people write first; see subjects.naive."""

from __future__ import annotations

from django.db import models


class NaiveSession(models.Model):
    session_id = models.CharField(max_length=255, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return str(self.pk)


class NaiveItem(models.Model):
    session = models.ForeignKey(NaiveSession, models.CASCADE, related_name="items")
    data = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["created_at", "id"]

    def __str__(self) -> str:
        return str(self.pk)
