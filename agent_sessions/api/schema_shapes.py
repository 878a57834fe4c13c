"""What drf-spectacular cannot see of fields and serializers by itself."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import (
    OpenApiSerializerExtension,
    OpenApiSerializerFieldExtension,
)

from agent_sessions.api import bodies, serializers

OBJECT = {"type": "object", "additionalProperties": {}}


class MetadataFieldExtension(OpenApiSerializerFieldExtension):
    target_class = "agent_sessions.api.bodies.MetadataField"

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> Any:
        return dict(OBJECT)


class FlagExtension(OpenApiSerializerFieldExtension):
    target_class = "agent_sessions.api.filters.Flag"

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> Any:
        return {"type": "boolean"}


class NamesExtension(OpenApiSerializerFieldExtension):
    target_class = "agent_sessions.api.filters.Names"

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> Any:
        known = "|".join(self.target.known)
        return {"type": "string", "pattern": f"^({known})(,({known}))*$"}


class BodyExtension(OpenApiSerializerExtension):
    """Bodies take no other fields."""

    target_class = bodies.Body
    match_subclasses = True

    def map_serializer(self, auto_schema: Any, direction: Any) -> Any:
        schema = auto_schema._map_serializer(
            self.target, direction, bypass_extensions=True
        )
        return {**schema, "additionalProperties": False}


class SessionExtension(OpenApiSerializerExtension):
    """To staff who may not read them, what people wrote is null."""

    target_class = serializers.SessionRepresentation

    def get_name(self, auto_schema: Any, direction: Any) -> str:
        return "AgentSession"

    def map_serializer(self, auto_schema: Any, direction: Any) -> Any:
        schema = auto_schema._map_serializer(
            self.target, direction, bypass_extensions=True
        )
        for name in self.target.content_fields:
            schema["properties"][name]["nullable"] = True
        return schema


class ItemExtension(OpenApiSerializerExtension):
    target_class = serializers.ItemRepresentation

    def get_name(self, auto_schema: Any, direction: Any) -> str:
        return "SessionItem"

    def map_serializer(self, auto_schema: Any, direction: Any) -> Any:
        schema = auto_schema._map_serializer(
            self.target, direction, bypass_extensions=True
        )
        schema["properties"]["data"] |= {
            "nullable": True,
            "description": "The item as the agent stored it, without what `omitted` "
            "names; null if the row does not decode.",
        }
        schema["properties"]["omitted"]["description"] = (
            "JSON pointers to heavy parts that were left out: see `include`."
        )
        return schema


class UserExtension(OpenApiSerializerExtension):
    target_class = serializers.UserRepresentation

    def get_name(self, auto_schema: Any, direction: Any) -> str:
        return "AgentUser"


class BlockExtension(OpenApiSerializerExtension):
    target_class = serializers.BlockRepresentation

    def get_name(self, auto_schema: Any, direction: Any) -> str:
        return "TranscriptBlock"

    def map_serializer(self, auto_schema: Any, direction: Any) -> Any:
        moment = {"type": "string", "format": "date-time"}
        return {
            "type": "object",
            "description": "Something that happened. `kind` tells what, and which "
            "other fields there are; new kinds may come.",
            "required": ["kind", "position", "turn", "created_at", "replaced_at"],
            "properties": {
                "kind": {"type": "string"},
                "position": {"type": "integer"},
                "turn": {"type": "integer"},
                "created_at": moment,
                "replaced_at": {**moment, "nullable": True},
            },
            "additionalProperties": {},
        }
