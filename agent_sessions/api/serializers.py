from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any
from uuid import UUID

from rest_framework import serializers

from agent_sessions.api.bodies import MetadataField
from agent_sessions.api.lightening import lighten_item
from agent_sessions.api.lineage import read_origin
from agent_sessions.models import AgentSession, SessionItem
from agent_sessions.transcript.blocks import Block


class UserRepresentation(serializers.Serializer[Any]):
    metadata = MetadataField()


class SessionRepresentation(serializers.ModelSerializer[AgentSession]):
    """A session without its items. ``hide_content`` leaves only what is not said."""

    user = serializers.SerializerMethodField()
    metadata = MetadataField()
    archived = serializers.SerializerMethodField()
    forked_from = serializers.SerializerMethodField()

    class Meta:
        model = AgentSession
        fields = [
            "id",
            "session_id",
            "user",
            "title",
            "preview",
            "metadata",
            "archived",
            "archived_at",
            "revision",
            "item_count",
            "turn_count",
            "forked_from",
            "forked_at",
            "created_at",
            "updated_at",
        ]
        read_only_fields = fields

    # What people wrote; and for an anonymous session, its id is what opens it.
    content_fields = ("session_id", "title", "preview", "metadata")

    def get_user(self, row: AgentSession) -> str | None:
        return None if row.user_id is None else str(row.user_id)

    def get_archived(self, row: AgentSession) -> bool:
        return row.archived_at is not None

    def get_forked_from(self, row: AgentSession) -> UUID | None:
        return read_origin(row)

    def to_representation(self, instance: AgentSession) -> Any:
        shown = super().to_representation(instance)
        if self.context.get("hide_content"):
            shown |= dict.fromkeys(self.content_fields)
        return shown


class ItemRepresentation(serializers.ModelSerializer[SessionItem]):
    data = serializers.SerializerMethodField()  # type: ignore[assignment]
    omitted = serializers.ListField(child=serializers.CharField(), read_only=True)

    class Meta:
        model = SessionItem
        fields = [
            "position",
            "turn",
            "type",
            "role",
            "data",
            "omitted",
            "created_at",
            "replaced_at",
        ]
        read_only_fields = fields

    def get_data(self, row: SessionItem) -> dict[str, Any] | None:
        # A row that does not decode is there, and says nothing.
        return row.data if isinstance(row.data, dict) else None

    def to_representation(self, instance: SessionItem) -> Any:
        data = instance.data
        omitted: list[str] = []
        if isinstance(data, dict):
            omitted = lighten_item(data, self.context["include"])
        instance.omitted = omitted  # type: ignore[attr-defined]
        return super().to_representation(instance)


class RewoundRepresentation(serializers.Serializer[Any]):
    """What a rewind has done."""

    session = SessionRepresentation()
    removed = ItemRepresentation(source="rows", many=True)
    kept = SessionRepresentation(allow_null=True)

    class Meta:
        ref_name = "Rewound"


class UsageRepresentation(serializers.Serializer[Any]):
    """Requests and tokens; cached and reasoning tokens are a part of the others."""

    requests = serializers.IntegerField()
    input_tokens = serializers.IntegerField()
    cached_input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    reasoning_tokens = serializers.IntegerField()
    total_tokens = serializers.IntegerField()

    class Meta:
        ref_name = "TokenUsage"


class TurnRepresentation(serializers.Serializer[Any]):
    """A turn, without its items."""

    number = serializers.IntegerField()
    preview = serializers.CharField()
    started_at = serializers.DateTimeField()
    ended_at = serializers.DateTimeField()
    item_count = serializers.IntegerField()
    tools = serializers.ListField(child=serializers.CharField())
    calls = serializers.DictField(child=serializers.IntegerField())
    usage = UsageRepresentation()

    class Meta:
        ref_name = "Turn"


class TurnUsageRepresentation(serializers.Serializer[Any]):
    turn = serializers.IntegerField()
    day = serializers.DateField()
    usage = UsageRepresentation()

    class Meta:
        ref_name = "TurnUsage"


class DayUsageRepresentation(serializers.Serializer[Any]):
    day = serializers.DateField()
    usage = UsageRepresentation()

    class Meta:
        ref_name = "DayUsage"


class SessionUsageRepresentation(serializers.Serializer[Any]):
    session = serializers.UUIDField()
    usage = UsageRepresentation()

    class Meta:
        ref_name = "SessionUsage"


class UserUsageRepresentation(serializers.Serializer[Any]):
    """What the caller's sessions have used in some days."""

    since = serializers.DateField()
    until = serializers.DateField()
    total = UsageRepresentation()
    days = DayUsageRepresentation(many=True)
    sessions = SessionUsageRepresentation(many=True)

    class Meta:
        ref_name = "UserUsage"


class BlockRepresentation(serializers.BaseSerializer[Block]):
    """A block with all of its fields; ``kind`` tells which those are."""

    def to_representation(self, instance: Block) -> dict[str, Any]:
        plain: dict[str, Any] = _plain(instance)
        return plain


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        kind = getattr(value, "kind", None)
        named = {} if kind is None else {"kind": kind}
        names = [field.name for field in fields(value)]
        return named | {name: _plain(getattr(value, name)) for name in names}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value
