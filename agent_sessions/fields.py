from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.translation import gettext_lazy as _

from agent_sessions.encoding import decode_item, encode_item
from agent_sessions.exceptions import InvalidSessionId
from agent_sessions.identifiers import SESSION_ID_MAX_LENGTH, clean_session_id

SESSION_ID_RULE = _(
    "A session id has 1 to %(session_id)s characters, no control characters or lone "
    "surrogates, and no white space at its ends."
)


class SessionIdField(models.CharField):  # type: ignore[type-arg]
    """
    A session id that is compared byte for byte on every database.

    Without this MariaDB would open "Ann" to whoever asks for "ann" or "Änn".
    """

    description = _("Session id (up to %(max_length)s characters)")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("max_length", SESSION_ID_MAX_LENGTH)
        super().__init__(*args, **kwargs)
        self.validators.append(validate_session_id)

    def db_parameters(self, connection: BaseDatabaseWrapper) -> Any:
        collations = {"postgresql": "C", "mysql": "utf8mb4_bin"}
        parameters = super().db_parameters(connection)
        return {**parameters, "collation": collations.get(connection.vendor)}


def validate_session_id(value: str) -> None:
    try:
        clean_session_id(value)
    except InvalidSessionId as error:
        limit = {"session_id": SESSION_ID_MAX_LENGTH}
        raise ValidationError(SESSION_ID_RULE, "invalid", limit) from error


class BrokenItem(str):
    """The text of a row that does not decode to a JSON object, kept as it is."""

    __slots__ = ()


# An item's stored text, without decoding it.
RAW = models.ExpressionWrapper(models.F("data"), output_field=models.TextField())


class ItemField(models.Field):  # type: ignore[type-arg]
    """
    An SDK item as JSON text: a dict in Python, exact to the key order and the number.

    A row that does not decode reads as BrokenItem, so that one bad row neither hides
    the others nor is lost when it is saved or dumped again. Text is stored as it
    stands: fixtures and the store hand in what is already encoded.
    """

    description = _("Agent item (JSON text)")

    def get_internal_type(self) -> str:
        # Not TextField: for the types it knows, Django on PostgreSQL inserts through
        # arrays, whose every quote psycopg escapes in Python.
        return "ItemField"

    def db_type(self, connection: BaseDatabaseWrapper) -> str | None:
        return models.TextField().db_type(connection)

    def db_parameters(self, connection: BaseDatabaseWrapper) -> Any:
        return models.TextField().db_parameters(connection)

    def from_db_value(self, value: Any, *args: object) -> Any:
        return self.to_python(value)

    def to_python(self, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        item = decode_item(value)
        return BrokenItem(value) if item is None else item

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        if value is None or isinstance(value, str):
            return value
        return encode_item(value)

    def value_to_string(self, obj: models.Model) -> str:
        return str(self.get_prep_value(self.value_from_object(obj)))
