"""What requests may bring. Whatever else they bring is refused by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from agent_sessions.api.errors import spell_name
from agent_sessions.conf import conf
from agent_sessions.exceptions import InvalidMetadata, InvalidTitle
from agent_sessions.identifiers import SESSION_ID_MAX_LENGTH
from agent_sessions.metadata import Metadata, clean_metadata
from agent_sessions.models import TITLE_MAX_LENGTH
from agent_sessions.refusals import explain
from agent_sessions.store.sessions import clean_title

TOKEN_MAX_LENGTH = 500
MAX_NUMBER = 2**31 - 1


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


class TurnNumber(serializers.IntegerField):
    """A number as it stands: texts and flags are none."""

    def __init__(self, **options: Any) -> None:
        super().__init__(min_value=1, max_value=MAX_NUMBER, **options)

    def to_internal_value(self, data: Any) -> int:
        if type(data) is not int:
            self.fail("invalid")
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


class NewFork(Body):
    before_turn = TurnNumber(
        required=False,
        allow_null=True,
        help_text="The first turn that is not copied; null copies all.",
    )
    title = Title(
        required=False, allow_null=True, help_text="null: that of the session."
    )


class Rewind(Body):
    before_turn = TurnNumber(help_text="The first turn to remove.")
    keep = Flag(
        default=False,
        help_text="Whether the session as it was is kept, as an archived fork.",
    )


class ClaimToken(Body):
    token = Text(max_length=TOKEN_MAX_LENGTH)


class UserChanges(Body):
    metadata = MetadataField(required=False, help_text="A JSON merge patch (RFC 7396).")
