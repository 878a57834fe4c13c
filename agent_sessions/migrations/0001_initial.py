from __future__ import annotations

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

import agent_sessions.fields
import agent_sessions.identifiers
import agent_sessions.models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="AgentUser",
            fields=[
                (
                    "user",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="agent_user",
                        serialize=False,
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="user",
                    ),
                ),
                (
                    "metadata",
                    models.JSONField(blank=True, default=dict, verbose_name="metadata"),
                ),
                (
                    "created_at",
                    models.DateTimeField(
                        default=django.utils.timezone.now, verbose_name="created at"
                    ),
                ),
                (
                    "updated_at",
                    models.DateTimeField(
                        default=django.utils.timezone.now, verbose_name="updated at"
                    ),
                ),
            ],
            options={
                "verbose_name": "agent user",
                "verbose_name_plural": "agent users",
                "ordering": ["-updated_at"],
            },
        ),
        migrations.CreateModel(
            name="AgentSession",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=agent_sessions.identifiers.uuid7,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                        verbose_name="UUID",
                    ),
                ),
                (
                    "session_id",
                    agent_sessions.fields.SessionIdField(
                        default=agent_sessions.identifiers.new_session_id,
                        max_length=255,
                        verbose_name="session id",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=agent_sessions.models.keep_or_delete,
                        related_name="agent_sessions",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="user",
                    ),
                ),
                (
                    "owned_at",
                    models.DateTimeField(
                        editable=False, null=True, verbose_name="owned at"
                    ),
                ),
                (
                    "title",
                    models.CharField(blank=True, max_length=200, verbose_name="title"),
                ),
                (
                    "preview",
                    models.CharField(
                        blank=True,
                        editable=False,
                        max_length=200,
                        verbose_name="preview",
                    ),
                ),
                (
                    "metadata",
                    models.JSONField(blank=True, default=dict, verbose_name="metadata"),
                ),
                (
                    "archived_at",
                    models.DateTimeField(
                        blank=True, null=True, verbose_name="archived at"
                    ),
                ),
                (
                    "revision",
                    models.PositiveIntegerField(
                        default=0, editable=False, verbose_name="revision"
                    ),
                ),
                (
                    "item_count",
                    models.PositiveIntegerField(
                        default=0, editable=False, verbose_name="items"
                    ),
                ),
                (
                    "turn_count",
                    models.PositiveIntegerField(
                        default=0, editable=False, verbose_name="turns"
                    ),
                ),
                (
                    "next_position",
                    models.PositiveIntegerField(default=0, editable=False),
                ),
                ("next_turn", models.PositiveIntegerField(default=1, editable=False)),
                (
                    "created_at",
                    models.DateTimeField(
                        default=django.utils.timezone.now, verbose_name="created at"
                    ),
                ),
                (
                    "updated_at",
                    models.DateTimeField(
                        default=django.utils.timezone.now,
                        verbose_name="last activity",
                    ),
                ),
            ],
            options={
                "verbose_name": "agent session",
                "verbose_name_plural": "agent sessions",
                "ordering": ["-updated_at", "-id"],
                "permissions": [
                    ("read_transcript", "Can read transcripts of agent sessions"),
                    ("export_session", "Can export agent sessions"),
                ],
                "indexes": [
                    models.Index(
                        fields=["user", "-updated_at", "-id"],
                        name="agent_sessions_user_recent",
                    ),
                    models.Index(
                        fields=["-updated_at", "-id"],
                        name="agent_sessions_recent",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("session_id",),
                        name="agent_sessions_session_id",
                        violation_error_message="This session id is taken.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("user", None),
                            ("owned_at__isnull", False),
                            _connector="OR",
                        ),
                        name="agent_sessions_owner_since",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="SessionItem",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=agent_sessions.identifiers.uuid7,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "session",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="items",
                        to="agent_sessions.agentsession",
                        verbose_name="session",
                    ),
                ),
                ("position", models.PositiveIntegerField(verbose_name="position")),
                (
                    "turn",
                    models.PositiveIntegerField(default=0, verbose_name="turn"),
                ),
                (
                    "type",
                    models.CharField(blank=True, max_length=64, verbose_name="type"),
                ),
                (
                    "role",
                    models.CharField(blank=True, max_length=32, verbose_name="role"),
                ),
                ("data", agent_sessions.fields.ItemField(verbose_name="data")),
                (
                    "created_at",
                    models.DateTimeField(
                        default=django.utils.timezone.now, verbose_name="created at"
                    ),
                ),
                (
                    "replaced_at",
                    models.DateTimeField(
                        editable=False, null=True, verbose_name="replaced at"
                    ),
                ),
            ],
            options={
                "verbose_name": "session item",
                "verbose_name_plural": "session items",
                "ordering": ["session_id", "position"],
                "indexes": [
                    models.Index(
                        fields=["session", "turn"], name="agent_sessions_item_turn"
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("session", "position"),
                        name="agent_sessions_item_position",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="SessionAccess",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=agent_sessions.identifiers.uuid7,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="agent_session_accesses",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="user",
                    ),
                ),
                (
                    "session",
                    models.UUIDField(blank=True, null=True, verbose_name="session"),
                ),
                (
                    "owner",
                    models.CharField(blank=True, max_length=80, verbose_name="owner"),
                ),
                (
                    "action",
                    models.CharField(
                        choices=[
                            ("opened", "opened"),
                            ("exported", "exported"),
                            ("searched", "searched in texts"),
                            ("transferred", "given to another user"),
                        ],
                        max_length=16,
                        verbose_name="action",
                    ),
                ),
                (
                    "channel",
                    models.CharField(
                        choices=[
                            ("admin", "admin"),
                            ("api", "API"),
                            ("command", "command"),
                        ],
                        max_length=16,
                        verbose_name="channel",
                    ),
                ),
                (
                    "reason",
                    models.CharField(blank=True, max_length=500, verbose_name="reason"),
                ),
                (
                    "created_at",
                    models.DateTimeField(
                        default=django.utils.timezone.now, verbose_name="created at"
                    ),
                ),
            ],
            options={
                "verbose_name": "access record",
                "verbose_name_plural": "access records",
                "ordering": ["-id"],
                "indexes": [
                    models.Index(
                        fields=["session", "-id"], name="agent_sessions_access_session"
                    ),
                    models.Index(
                        fields=["user", "-id"], name="agent_sessions_access_user"
                    ),
                    models.Index(
                        fields=["owner", "-id"], name="agent_sessions_access_owner"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="ErasureReceipt",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=agent_sessions.identifiers.uuid7,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                        verbose_name="UUID",
                    ),
                ),
                ("erased_user", models.CharField(max_length=80, verbose_name="user")),
                ("asked_by", models.CharField(max_length=200, verbose_name="asked by")),
                (
                    "started_at",
                    models.DateTimeField(
                        default=django.utils.timezone.now, verbose_name="started at"
                    ),
                ),
                (
                    "finished_at",
                    models.DateTimeField(
                        blank=True, null=True, verbose_name="finished at"
                    ),
                ),
                (
                    "sessions",
                    models.PositiveIntegerField(default=0, verbose_name="sessions"),
                ),
                (
                    "items",
                    models.PositiveBigIntegerField(default=0, verbose_name="items"),
                ),
                (
                    "agent_users",
                    models.PositiveIntegerField(default=0, verbose_name="agent users"),
                ),
                (
                    "accesses",
                    models.PositiveIntegerField(
                        default=0, verbose_name="access records"
                    ),
                ),
                (
                    "sessions_digest",
                    models.CharField(
                        blank=True, max_length=64, verbose_name="digest of the sessions"
                    ),
                ),
                (
                    "number",
                    models.PositiveIntegerField(
                        default=1, editable=False, verbose_name="number"
                    ),
                ),
                ("keys", models.BinaryField(default=bytes)),
            ],
            options={
                "verbose_name": "erasure receipt",
                "verbose_name_plural": "erasure receipts",
                "ordering": ["-id"],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("erased_user", "number"),
                        name="agent_sessions_erasure_number",
                    ),
                ],
            },
        ),
    ]
