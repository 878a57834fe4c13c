from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from agent_sessions.api.errors import spell_name
from agent_sessions.api.lightening import lighten_item
from agent_sessions.conf import conf
from agent_sessions.exceptions import InvalidMetadata, InvalidTitle
from agent_sessions.identifiers import SESSION_ID_MAX_LENGTH
from agent_sessions.metadata import Metadata, clean_metadata
from agent_sessions.models import TITLE_MAX_LENGTH, AgentSession, SessionItem
from agent_sessions.refusals import explain
from agent_sessions.store.sessions import clean_title
from agent_sessions.transcript.blocks import Block

TOKEN_MAX_LENGTH = 500


class Text(serializers.CharField):
    """A string as it stands: numbers are none."""

    default_error_messages = {"invalid": _("Not a string.")}

    def __init__(self, **options: Any) -> None:
        super().__init__(trim_whitespace=False, **options)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return str(super().to_internal_value(data))


class Title(Text):
    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=TITLE_MAX_LENGTH, allow_blank=True, **options)

    def to_internal_value(self, data: Any) -> str:
        try:
            return clean_title(super().to_internal_value(data))
        except InvalidTitle as error:
            raise ValidationError(explain(error)) from None


class Flag(serializers.BooleanField):
    """True or false, and no word for it."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=type(data).__name__)
        return data


class MetadataField(serializers.Field[Any, Any, Any, Any]):
    """A JSON object that every database keeps the same."""

    def to_internal_value(self, data: Any) -> Metadata:
        try:
            return clean_metadata(data)
        except InvalidMetadata as error:
            raise ValidationError(explain(error)) from None

    def to_representation(self, value: Any) -> Any:
        return value


class Body(serializers.Serializer[Any]):
    """What a request brings; a field that is not known here is refused by its name."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            unknown = [name for name in data if name not in self.fields]
            if unknown:
                problem = [_("This field is not known here, or cannot be written.")]
                raise ValidationError({spell_name(name): problem for name in unknown})
        return super().to_internal_value(data)


class NewSession(Body):
    session_id = Text(max_length=SESSION_ID_MAX_LENGTH, required=False)
    title = Title(required=False)
    metadata = MetadataField(required=False)

    def get_fields(self) -> dict[str, Any]:
        known = super().get_fields()
        if not conf.AGENT_SESSIONS_API_CLIENT_IDS:
            del known["session_id"]
        return known


class SessionChanges(Body):
    title = Title(required=False)
    metadata = MetadataField(
        required=False,
        help_text="A JSON merge patch (RFC 7396): null removes a key, what is not "
        "named stays.",
    )
    archived = Flag(required=False)


class ClaimToken(Body):
    token = Text(max_length=TOKEN_MAX_LENGTH)


class UserChanges(Body):
    metadata = MetadataField(required=False, help_text="A JSON merge patch (RFC 7396).")


class UserRepresentation(serializers.Serializer[Any]):
    metadata = MetadataField()


class SessionRepresentation(serializers.ModelSerializer[AgentSession]):
    """A session without its items. ``hide_content`` leaves only what is not said."""

    user = serializers.SerializerMethodField()
    metadata = MetadataField()
    archived = serializers.SerializerMethodField()

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
