"""What may be asked for of what was said in a session."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from agent_sessions.api.filters import (
    MAX_POSITION,
    WORDS_MAX_LENGTH,
    Flag,
    LimitedQuery,
    Names,
    PagedQuery,
    Query,
    ScopedQuery,
)
from agent_sessions.models import SessionItemQuerySet
from agent_sessions.shapes import ROLE_MAX_LENGTH, TYPE_MAX_LENGTH


class HeavyQuery(Query):
    include = Names(
        known=["media", "encrypted"],
        max_length=WORDS_MAX_LENGTH,
        required=False,
        help_text="Heavy parts that are left out otherwise, separated by commas: "
        "`media` (images, audio and files inside of items) and `encrypted` "
        "(encrypted reasoning).",
    )


class ItemQuery(ScopedQuery, HeavyQuery):
    pass


class ItemListQuery(PagedQuery, ItemQuery):
    after = serializers.IntegerField(
        min_value=0,
        max_value=MAX_POSITION,
        required=False,
        help_text="Only items at later positions than this one.",
    )
    type = serializers.CharField(max_length=TYPE_MAX_LENGTH, required=False)
    role = serializers.CharField(max_length=ROLE_MAX_LENGTH, required=False)
    turn = serializers.IntegerField(min_value=0, max_value=MAX_POSITION, required=False)
    replaced = Flag(
        required=False,
        help_text="Whether compaction has replaced it, so that the agent no longer "
        "reads it.",
    )
    ordering = serializers.ChoiceField(
        choices=["position", "-position"], default="position"
    )

    def filter(self, rows: SessionItemQuerySet) -> SessionItemQuerySet:
        """Return those of ``rows`` that the query asks for."""
        query = self.validated_data
        if "after" in query:
            rows = rows.filter(position__gt=query["after"])
        for column in ("type", "role", "turn"):
            if column in query:
                rows = rows.filter(**{column: query[column]})
        if "replaced" in query:
            rows = rows.filter(replaced_at__isnull=not query["replaced"])
        return rows


class TranscriptQuery(LimitedQuery):
    before = serializers.IntegerField(
        min_value=0,
        max_value=MAX_POSITION,
        required=False,
        help_text="Items just before this position. Without `before` and `after` the "
        "newest are given.",
    )
    after = serializers.IntegerField(
        min_value=-1,
        max_value=MAX_POSITION,
        required=False,
        help_text="Items just after this position; -1 begins with the first.",
    )

    def validate(self, attrs: Any) -> Any:
        if "before" in attrs and "after" in attrs:
            raise ValidationError({"after": [_("Give before or after, not both.")]})
        return attrs


class TurnListQuery(LimitedQuery):
    before = serializers.IntegerField(
        min_value=0,
        max_value=MAX_POSITION,
        required=False,
        help_text="Turns before the one of this number. Without it the newest are "
        "given.",
    )
    search = serializers.CharField(
        max_length=WORDS_MAX_LENGTH,
        allow_blank=True,
        required=False,
        help_text="Words in what the user or the assistant said, among the newest "
        "20,000 items.",
    )


class ExportQuery(ScopedQuery):
    def get_fields(self) -> dict[str, Any]:
        # A keyword of Python's, so not a name of a class.
        formats = ["json", "jsonl", "md"]
        choice = serializers.ChoiceField(choices=formats, default="json")
        return {**super().get_fields(), "as": choice}
