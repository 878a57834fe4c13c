"""What may be asked for in a URL. Whatever else stands there is refused by its name."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from datetime import date, datetime, timedelta
from typing import Any

from django.db.models import Q
from django.db.models.fields.json import KeyTransform
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.settings import api_settings

from agent_sessions.api.errors import spell_name
from agent_sessions.api.lineage import filter_forks
from agent_sessions.api.pagination import EARLIEST, LATEST, MAX_PAGE_SIZE, PAGE_SIZE
from agent_sessions.api.permissions import SCOPE_ALL
from agent_sessions.identifiers import SESSION_ID_MAX_LENGTH
from agent_sessions.models import REASON_MAX_LENGTH, AgentSessionQuerySet
from agent_sessions.usage import usage_day

METADATA_PREFIX = "metadata."
METADATA_FILTERS = 5
WORDS_MAX_LENGTH = 200
MAX_POSITION = 2**31 - 1
USAGE_DAYS = 30
USAGE_MAX_DAYS = 366


class Flag(serializers.ChoiceField):
    """``true`` or ``false``, nothing else."""

    def __init__(self, **options: Any) -> None:
        super().__init__(choices=["true", "false"], **options)

    def to_internal_value(self, data: Any) -> Any:
        return bool(super().to_internal_value(data) == "true")


class Moment(serializers.DateTimeField):
    """A time that every database takes."""

    default_error_messages = {"range": _("The time is out of range.")}

    def to_internal_value(self, value: Any) -> datetime:
        moment = super().to_internal_value(value)
        if not EARLIEST <= moment <= LATEST:
            self.fail("range")
        return moment


class Day(serializers.DateField):
    """A day that every database takes."""

    default_error_messages = {"range": _("The time is out of range.")}

    def to_internal_value(self, value: Any) -> date:
        day = super().to_internal_value(value)
        if not EARLIEST.date() <= day <= LATEST.date():
            self.fail("range")
        return day


class Names(serializers.CharField):
    """Names separated by commas, of those that are known."""

    default_error_messages = {"unknown": _("Known are: {known}.")}

    def __init__(self, *, known: list[str], **options: Any) -> None:
        self.known = known
        super().__init__(**options)

    def to_internal_value(self, data: Any) -> Any:
        names = set(super().to_internal_value(data).split(","))
        if not names <= set(self.known):
            self.fail("unknown", known=", ".join(self.known))
        return names


class Query(serializers.Serializer[Any]):
    """The parameters of a route."""


class ScopedQuery(Query):
    scope = serializers.ChoiceField(
        choices=["own", SCOPE_ALL],
        required=False,
        help_text="`all` asks for everybody's sessions. It takes a member of staff "
        "with the permission `view_agentsession`; what was said in them, titles and "
        "metadata included, takes `read_transcript`, too, and leaves a record.",
    )
    reason = serializers.CharField(
        max_length=REASON_MAX_LENGTH,
        required=False,
        help_text="Why, for the record of `scope=all`.",
    )


class LimitedQuery(ScopedQuery):
    limit = serializers.IntegerField(
        min_value=1, max_value=MAX_PAGE_SIZE, default=PAGE_SIZE
    )


class PagedQuery(LimitedQuery):
    cursor = serializers.CharField(
        max_length=500, required=False, help_text="From `next` or `previous`."
    )


class SessionListQuery(PagedQuery):
    search = serializers.CharField(
        max_length=WORDS_MAX_LENGTH,
        allow_blank=True,
        required=False,
        help_text="Words in the title or the preview.",
    )
    session_id = serializers.CharField(
        max_length=SESSION_ID_MAX_LENGTH, trim_whitespace=False, required=False
    )
    archived = Flag(required=False)
    forked_from = serializers.UUIDField(
        required=False, help_text="The `id` of the session that they were copied from."
    )
    created_after = Moment(required=False)
    created_before = Moment(required=False)
    updated_after = Moment(required=False)
    updated_before = Moment(required=False)
    ordering = serializers.ChoiceField(
        choices=["-updated_at", "updated_at", "-created_at", "created_at"],
        default="-updated_at",
    )

    def filter(self, rows: AgentSessionQuerySet) -> AgentSessionQuerySet:
        """Return those of ``rows`` that the query asks for."""
        query = self.validated_data
        if words := query.get("search"):
            rows = rows.filter(Q(title__icontains=words) | Q(preview__icontains=words))
        if "session_id" in query:
            rows = rows.filter(session_id=query["session_id"])
        if "archived" in query:
            rows = rows.filter(archived_at__isnull=not query["archived"])
        if "forked_from" in query:
            rows = filter_forks(rows, query["forked_from"])
        for column in ("created", "updated"):
            if moment := query.get(f"{column}_after"):
                rows = rows.filter(**{f"{column}_at__gt": moment})
            if moment := query.get(f"{column}_before"):
                rows = rows.filter(**{f"{column}_at__lt": moment})
        for number, (key, value) in enumerate(query.get("metadata", {}).items()):
            # An expression, so that a key is never read as a lookup.
            sought = f"sought_{number}"
            rows = rows.alias(**{sought: KeyTransform(key, "metadata")})
            rows = rows.filter(_meanings(sought, value))
        return rows

    @property
    def searches(self) -> bool:
        """Tell whether what is found shows what was said."""
        query = self.validated_data
        return bool(query.get("search") or query.get("metadata"))


class TurnUsageQuery(PagedQuery):
    ordering = serializers.ChoiceField(choices=["turn", "-turn"], default="turn")


class UsageQuery(Query):
    since = Day(
        required=False,
        help_text="The first day, in UTC. Without it the 30 days to `until`.",
    )
    until = Day(required=False, help_text="The last day, in UTC; today without it.")
    limit = serializers.IntegerField(
        min_value=1,
        max_value=MAX_PAGE_SIZE,
        default=PAGE_SIZE,
        help_text="How many sessions, those with the most tokens.",
    )

    def validate(self, attrs: Any) -> Any:
        until = attrs.setdefault("until", usage_day(timezone.now()))
        since = attrs.setdefault("since", until - timedelta(days=USAGE_DAYS - 1))
        if since > until:
            raise ValidationError({"since": [_("This is later than until.")]})
        if (until - since).days >= USAGE_MAX_DAYS:
            words = gettext("At most %(days)s days can be asked for.")
            raise ValidationError({"since": [words % {"days": USAGE_MAX_DAYS}]})
        return attrs


def read_query(request: Request, kind: type[Query]) -> Query:
    """
    Return the request's parameters, checked.

    Raise ValidationError with the name of each that is unknown, bad or given twice.
    """
    query = kind(data={})
    # DRF's own, and the project's way to say a version.
    others = {api_settings.URL_FORMAT_OVERRIDE, api_settings.VERSION_PARAM}
    errors: dict[str, list[Any]] = {}
    values: dict[str, str] = {}
    metadata: dict[str, str] = {}
    for name, given in request.query_params.lists():
        if len(given) > 1:
            errors[spell_name(name)] = [_("This parameter is given more than once.")]
        elif name in query.fields:
            values[name] = given[0]
        elif name.startswith(METADATA_PREFIX) and kind is SessionListQuery:
            key = name.removeprefix(METADATA_PREFIX)
            metadata[key] = given[0]
            if problem := _refuse_metadata(metadata, key):
                errors[spell_name(name)] = [problem]
        elif name not in others:
            errors[spell_name(name)] = [_("This parameter is not known here.")]
    query = kind(data=values)
    if not query.is_valid():
        errors |= query.errors
    if errors:
        raise ValidationError(errors)
    if metadata:
        query.validated_data["metadata"] = metadata
    return query


def _refuse_metadata(metadata: dict[str, str], key: str) -> str | None:
    # Digits would be an index into a list to Django, and signs some path to a database.
    if len(key) > WORDS_MAX_LENGTH or not key.replace("-", "_").isidentifier():
        return gettext(
            "A key consists of letters, digits, _ and -, and begins with a letter."
        )
    if len(metadata[key]) > WORDS_MAX_LENGTH or "\0" in metadata[key]:
        words = gettext("A value has at most %(limit)s characters and no NUL.")
        return words % {"limit": WORDS_MAX_LENGTH}
    if len(metadata) > METADATA_FILTERS:
        words = gettext("At most %(limit)s keys can be asked for.")
        return words % {"limit": METADATA_FILTERS}
    return None


def _meanings(sought: str, value: str) -> Q:
    """Return the condition of being this text, or the number or flag that it spells."""
    meanings = Q(**{sought: value})
    with suppress(ValueError):
        plain = json.loads(value)
        if isinstance(plain, int) or (
            isinstance(plain, float) and math.isfinite(plain)
        ):
            meanings |= Q(**{sought: plain})
    return meanings
