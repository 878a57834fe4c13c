from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from agent_sessions.models.sessions import AgentSession
from agent_sessions.usage import USAGE_FIELDS, TokenUsage


class TurnUsage(models.Model):
    """
    What the runs of a turn have used of a model.

    It outlives the turn's items, because the tokens are spent.
    """

    # One index, which every run's writes go through. Two would cost as much again.
    pk = models.CompositePrimaryKey("session", "turn")
    session = models.ForeignKey(
        AgentSession,
        verbose_name=_("session"),
        on_delete=models.CASCADE,
        related_name="turn_usages",
        db_index=False,
    )
    turn = models.PositiveIntegerField(_("turn"))
    # Of the first use, in UTC.
    day = models.DateField(_("day"))
    requests = models.BigIntegerField(_("requests"), default=0)
    input_tokens = models.BigIntegerField(_("input tokens"), default=0)
    cached_input_tokens = models.BigIntegerField(_("cached input tokens"), default=0)
    output_tokens = models.BigIntegerField(_("output tokens"), default=0)
    reasoning_tokens = models.BigIntegerField(_("reasoning tokens"), default=0)
    total_tokens = models.BigIntegerField(_("total tokens"), default=0)

    class Meta:
        verbose_name = _("usage of a turn")
        verbose_name_plural = _("usage of turns")
        ordering = ["session_id", "turn"]
        indexes = [models.Index(fields=["day"], name="agent_sessions_usage_day")]

    def __str__(self) -> str:
        return f"{self.session_id} {self.turn}"

    @property
    def usage(self) -> TokenUsage:
        return TokenUsage(**{name: getattr(self, name) for name in USAGE_FIELDS})
