from __future__ import annotations

from uuid import UUID

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from agent_sessions.identifiers import uuid7

REASON_MAX_LENGTH = 500
# A digest with its name, or a number.
KEY_MAX_LENGTH = 80
LABEL_MAX_LENGTH = 200


class SessionAccessQuerySet(models.QuerySet["SessionAccess"]):
    def for_session(self, session: UUID) -> SessionAccessQuerySet:
        return self.filter(session=session)

    def newest_first(self) -> SessionAccessQuerySet:
        return self.order_by("-id")


class SessionAccess(models.Model):
    """That somebody saw, took along or gave away what others said. It stays."""

    class Action(models.TextChoices):
        OPENED = "opened", _("opened")
        EXPORTED = "exported", _("exported")
        SEARCHED = "searched", _("searched in texts")
        TRANSFERRED = "transferred", _("given to another user")

    class Channel(models.TextChoices):
        ADMIN = "admin", _("admin")
        API = "api", _("API")
        COMMAND = "command", _("command")

    # Sorts by its time of making: newest first is the key backwards.
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # What was done stays known when who did it is erased.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("user"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="agent_session_accesses",
        db_index=False,
    )
    # Not a foreign key: the record outlives its session.
    session = models.UUIDField(_("session"), null=True, blank=True)
    # Whose session it was until then, as text: sessions may be deleted, and change
    # hands, before their owner is erased.
    owner = models.CharField(_("owner"), max_length=KEY_MAX_LENGTH, blank=True)
    action = models.CharField(_("action"), max_length=16, choices=Action.choices)
    channel = models.CharField(_("channel"), max_length=16, choices=Channel.choices)
    reason = models.CharField(_("reason"), max_length=REASON_MAX_LENGTH, blank=True)
    created_at = models.DateTimeField(_("created at"), default=timezone.now)

    objects = SessionAccessQuerySet.as_manager()

    class Meta:
        verbose_name = _("access record")
        verbose_name_plural = _("access records")
        ordering = ["-id"]
        indexes = [
            models.Index(
                fields=["session", "-id"], name="agent_sessions_access_session"
            ),
            models.Index(fields=["user", "-id"], name="agent_sessions_access_user"),
            models.Index(fields=["owner", "-id"], name="agent_sessions_access_owner"),
        ]

    def __str__(self) -> str:
        return str(self.id)


class ErasureReceipt(models.Model):
    """That everything of a user was erased, or is being: in numbers, never in words."""

    id = models.UUIDField("UUID", primary_key=True, default=uuid7, editable=False)
    # Not a foreign key: users may go, and their keys stay to be proven.
    erased_user = models.CharField(_("user"), max_length=KEY_MAX_LENGTH)
    asked_by = models.CharField(_("asked by"), max_length=LABEL_MAX_LENGTH)
    started_at = models.DateTimeField(_("started at"), default=timezone.now)
    finished_at = models.DateTimeField(_("finished at"), null=True, blank=True)
    sessions = models.PositiveIntegerField(_("sessions"), default=0)
    items = models.PositiveBigIntegerField(_("items"), default=0)
    agent_users = models.PositiveIntegerField(_("agent users"), default=0)
    accesses = models.PositiveIntegerField(_("access records"), default=0)
    sessions_digest = models.CharField(
        _("digest of the sessions"), max_length=64, blank=True
    )
    # Of the user's erasures which: of two runs at once both get the same, and share it.
    number = models.PositiveIntegerField(_("number"), default=1, editable=False)
    # The sessions erased so far, 16 bytes each, until it is finished: for the run that
    # takes up a killed one.
    keys = models.BinaryField(default=bytes)

    class Meta:
        verbose_name = _("erasure receipt")
        verbose_name_plural = _("erasure receipts")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["erased_user", "number"], name="agent_sessions_erasure_number"
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)
