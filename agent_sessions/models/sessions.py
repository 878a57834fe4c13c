from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from agent_sessions.conf import conf
from agent_sessions.fields import ItemField, SessionIdField
from agent_sessions.identifiers import new_session_id, uuid7
from agent_sessions.shapes import (
    PREVIEW_MAX_LENGTH,
    ROLE_MAX_LENGTH,
    TYPE_MAX_LENGTH,
)

if TYPE_CHECKING:
    from agent_sessions.adapter import DjangoSession

TITLE_MAX_LENGTH = 200


_aside = ContextVar("agent_sessions_aside", default=False)


@contextmanager
def sessions_aside() -> Iterator[None]:
    """
    Leave sessions out of what Django collects around a user that it is to delete.

    For asking what a deletion would take, not for deleting: sessions that name a
    deleted user are refused by the database.
    """
    token = _aside.set(True)
    try:
        yield
    finally:
        _aside.reset(token)


def keep_or_delete(collector: Any, field: Any, sub_objs: Any, using: str) -> None:
    """Do to a deleted user's sessions what AGENT_SESSIONS_ON_USER_DELETE says."""
    if _aside.get():
        return
    if conf.AGENT_SESSIONS_ON_USER_DELETE == "delete":
        models.CASCADE(collector, field, sub_objs, using)
    else:
        models.SET_NULL(collector, field, sub_objs, using)


# Setting null in one UPDATE needs no rows: not to fetch a user's 10,000 sessions.
keep_or_delete.lazy_sub_objs = True  # type: ignore[attr-defined]


class AgentSessionQuerySet(models.QuerySet["AgentSession"]):
    def for_user(
        self, user: AbstractBaseUser | AnonymousUser | None
    ) -> AgentSessionQuerySet:
        """Return this user's sessions; none for no user and for AnonymousUser."""
        if user is None or user.pk is None:
            return self.none()
        return self.filter(user_id=user.pk)

    def anonymous(self) -> AgentSessionQuerySet:
        """Return the sessions that never had an owner."""
        return self.filter(user=None, owned_at=None)

    def orphaned(self) -> AgentSessionQuerySet:
        """Return the sessions whose owner was deleted."""
        return self.filter(user=None, owned_at__isnull=False)

    def active(self) -> AgentSessionQuerySet:
        """Return the sessions that are not archived."""
        return self.filter(archived_at=None)

    def archived(self) -> AgentSessionQuerySet:
        return self.filter(archived_at__isnull=False)

    def empty(self) -> AgentSessionQuerySet:
        """Return the sessions in which an agent would read nothing."""
        return self.filter(item_count=0)

    def idle_since(self, moment: datetime) -> AgentSessionQuerySet:
        """Return the sessions without activity after this moment."""
        return self.filter(updated_at__lte=moment)

    def used_since(self, moment: datetime) -> AgentSessionQuerySet:
        """Return the sessions whose last activity came after this moment."""
        return self.filter(updated_at__gt=moment)

    def beyond_latest(self, count: int) -> AgentSessionQuerySet:
        """Return the sessions that are not among the newest ``count`` of their user."""
        owned = self.filter(user__isnull=False)
        if count == 0:
            return owned
        newer = AgentSession.objects.using(self.db).filter(
            models.Q(updated_at__gt=models.OuterRef("updated_at"))
            | models.Q(
                updated_at=models.OuterRef("updated_at"), id__gt=models.OuterRef("id")
            ),
            user=models.OuterRef("user"),
        )
        # Looks at no more than ``count`` entries of the index for each session.
        last_kept = newer.newest_first().values("pk")[count - 1 : count]
        return owned.alias(last_kept=models.Subquery(last_kept)).filter(
            last_kept__isnull=False
        )

    def newest_first(self) -> AgentSessionQuerySet:
        """Order by last activity; ties by id, so that pages neither skip nor repeat."""
        return self.order_by("-updated_at", "-id")


class AgentSession(models.Model):
    id = models.UUIDField("UUID", primary_key=True, default=uuid7, editable=False)
    session_id = SessionIdField(_("session id"), default=new_session_id)
    # SET_NULL writes this column alone, so owned_at still tells an orphan apart.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("user"),
        null=True,
        blank=True,
        on_delete=keep_or_delete,
        related_name="agent_sessions",
        db_index=False,
    )
    owned_at = models.DateTimeField(_("owned at"), null=True, editable=False)
    title = models.CharField(_("title"), max_length=TITLE_MAX_LENGTH, blank=True)
    preview = models.CharField(
        _("preview"), max_length=PREVIEW_MAX_LENGTH, blank=True, editable=False
    )
    metadata = models.JSONField(_("metadata"), default=dict, blank=True)
    archived_at = models.DateTimeField(_("archived at"), null=True, blank=True)
    revision = models.PositiveIntegerField(_("revision"), default=0, editable=False)
    item_count = models.PositiveIntegerField(_("items"), default=0, editable=False)
    turn_count = models.PositiveIntegerField(_("turns"), default=0, editable=False)
    next_position = models.PositiveIntegerField(default=0, editable=False)
    next_turn = models.PositiveIntegerField(default=1, editable=False)
    # A rewind may have removed turns below this number, and the runs that opened them
    # may not know. A default of the database's: no migration writes to every row.
    rewound_before = models.IntegerField(default=0, db_default=0, editable=False)
    # Not foreign keys: either side may be deleted, and the other stays as it is.
    forked_from = models.UUIDField(null=True, editable=False)
    forked_at = models.DateTimeField(null=True, editable=False)
    # Which run has the session for itself, and until when.
    lease = models.UUIDField(null=True, editable=False)
    leased_until = models.DateTimeField(null=True, editable=False)
    # Not auto_now: an import brings its own times.
    created_at = models.DateTimeField(_("created at"), default=timezone.now)
    updated_at = models.DateTimeField(_("last activity"), default=timezone.now)

    objects = AgentSessionQuerySet.as_manager()

    class Meta:
        verbose_name = _("agent session")
        verbose_name_plural = _("agent sessions")
        ordering = ["-updated_at", "-id"]
        # view shows that a session is there; these two, what was said in it.
        permissions = [
            ("read_transcript", "Can read transcripts of agent sessions"),
            ("export_session", "Can export agent sessions"),
        ]
        indexes = [
            models.Index(
                fields=["user", "-updated_at", "-id"],
                name="agent_sessions_user_recent",
            ),
            models.Index(fields=["-updated_at", "-id"], name="agent_sessions_recent"),
            models.Index(fields=["forked_from"], name="agent_sessions_forked_from"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["session_id"],
                name="agent_sessions_session_id",
                violation_error_message=_("This session id is taken."),
            ),
            models.CheckConstraint(
                condition=models.Q(user=None) | models.Q(owned_at__isnull=False),
                name="agent_sessions_owner_since",
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)

    @property
    def is_orphaned(self) -> bool:
        """Its owner was deleted: nobody may claim it or open it by its id."""
        return self.user_id is None and self.owned_at is not None

    def as_sdk_session(self, **options: Any) -> DjangoSession:
        """
        Return this row as a session for the SDK, for code that is trusted with it.

        The session stays with this row and its present owner: if either changes, its
        calls raise. ``options`` are those of DjangoSession (``session_settings``).
        """
        # The adapter stands above the models; the app's config is asked, not imported.
        config: Any = apps.get_app_config("agent_sessions")
        return config.sdk_session(self, **options)  # type: ignore[no-any-return]


class SessionItemQuerySet(models.QuerySet["SessionItem"]):
    def live(self) -> SessionItemQuerySet:
        """Return what the agent reads: not what compaction has replaced."""
        return self.filter(replaced_at=None)

    def replaced(self) -> SessionItemQuerySet:
        return self.filter(replaced_at__isnull=False)

    def in_order(self) -> SessionItemQuerySet:
        return self.order_by("session_id", "position")


class SessionItem(models.Model):
    # Made before the write: after a lost connection it tells whether the commit
    # happened.
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # Items mean nothing without their session.
    session = models.ForeignKey(
        AgentSession,
        verbose_name=_("session"),
        on_delete=models.CASCADE,
        related_name="items",
        db_index=False,
    )
    position = models.PositiveIntegerField(_("position"))
    turn = models.PositiveIntegerField(_("turn"), default=0)
    type = models.CharField(_("type"), max_length=TYPE_MAX_LENGTH, blank=True)
    role = models.CharField(_("role"), max_length=ROLE_MAX_LENGTH, blank=True)
    data = ItemField(_("data"))
    created_at = models.DateTimeField(_("created at"), default=timezone.now)
    replaced_at = models.DateTimeField(_("replaced at"), null=True, editable=False)

    objects = SessionItemQuerySet.as_manager()

    class Meta:
        verbose_name = _("session item")
        verbose_name_plural = _("session items")
        # Not "session": that would sort by the sessions' own order, through a JOIN.
        ordering = ["session_id", "position"]
        indexes = [
            models.Index(fields=["session", "turn"], name="agent_sessions_item_turn"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["session", "position"], name="agent_sessions_item_position"
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)


class AgentUserQuerySet(models.QuerySet["AgentUser"]):
    def for_user(
        self, user: AbstractBaseUser | AnonymousUser | None
    ) -> AgentUserQuerySet:
        """Return this user's row, if there is one."""
        if user is None or user.pk is None:
            return self.none()
        return self.filter(user_id=user.pk)


class AgentUser(models.Model):
    """What agents know of a user across all of their sessions."""

    # It is about the user and goes with them.
    user = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        verbose_name=_("user"),
        primary_key=True,
        on_delete=models.CASCADE,
        related_name="agent_user",
    )
    metadata = models.JSONField(_("metadata"), default=dict, blank=True)
    created_at = models.DateTimeField(_("created at"), default=timezone.now)
    updated_at = models.DateTimeField(_("updated at"), default=timezone.now)

    objects = AgentUserQuerySet.as_manager()

    class Meta:
        verbose_name = _("agent user")
        verbose_name_plural = _("agent users")
        ordering = ["-updated_at"]

    def __str__(self) -> str:
        return str(self.pk)
