"""Who owns what is imported: rules that tell it from a session of the source."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias, cast

from django.contrib.auth import get_user_model
from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db.models import Model
from django.utils.module_loading import import_string

from agent_sessions.exceptions import InvalidSource, InvalidUser
from agent_sessions.importers.records import SourceSession
from agent_sessions.store.owners import User, clean_user_id, owner_id

_KNOWN = 10_000
_SIMILAR = 100
_SHOWN = 60

# Returns a user, or what finds one; None for a session without an owner.
OwnerRule: TypeAlias = Callable[[SourceSession], Any]


class Owners:
    """
    Finds the key of a session's owner; None without an owner.

    ``field`` is the user model's by which a rule's values find a user; "pk" the key.
    Without a rule a source that knows owners is asked: for their user name, else their
    key. Raise InvalidUser if there is no such user, or more than one.
    """

    def __init__(self, rule: OwnerRule | None, field: str, using: str) -> None:
        model = get_user_model()
        if field != "pk":
            try:
                model._meta.get_field(field)
            except FieldDoesNotExist:
                raise InvalidUser(f"Users have no field {field!r}.") from None
        self._rule = rule
        self._field = field
        self._users = model._base_manager.using(using)
        self._known: dict[tuple[str, str], Any] = {}

    def __call__(self, session: SourceSession) -> Any:
        if session.branch_of is not None:
            session = replace(session, session_id=session.branch_of)
        field, value = self._ask(session)
        # Of a source's own, "" is a name: its session is not to become anybody's.
        if value is None or (value == "" and self._rule is not None):
            return None
        # Whatever else is a model may read like somebody's key.
        if isinstance(value, Model):
            return owner_id(cast(User, value))
        key = (field, str(value))
        if key not in self._known:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            self._known[key] = self._find(*key)
        return self._known[key]

    def _ask(self, session: SourceSession) -> tuple[str, Any]:
        if self._rule is not None:
            return self._field, self._rule(session)
        if session.username is not None:
            return get_user_model().USERNAME_FIELD, session.username
        return "pk", session.user

    def _find(self, field: str, value: str) -> Any:
        try:
            if field == "pk":
                rows = self._users.filter(pk=clean_user_id(value))
            else:
                rows = self._users.filter(**{field: value})
            # Some databases would take "Ann" and "änn" for the same. A key may be
            # spelled in several ways: a UUID with and without dashes.
            same = [
                user
                for user in rows[:_SIMILAR]
                if field == "pk" or str(getattr(user, field)) == value
            ]
        except (ValueError, ValidationError):
            same = []
        if len(same) != 1:
            many = "More than one user has" if same else "No user has"
            # Who names the wrong field of metadata is not to see what is in it.
            shown = repr(value) if len(value) <= _SHOWN else f"of {len(value)} letters"
            raise InvalidUser(f"{many} the {field} {shown}.")
        return same[0].pk


def parse_owner_rule(text: str) -> OwnerRule:
    """
    Return the rule that ``csv:FILE``, ``metadata:KEY``, ``pattern:REGEX`` or
    ``call:PATH`` stands for.

    Raise ValueError if it is none of them, InvalidSource if the file is not one.
    """
    kind, _, rest = text.partition(":")
    match kind:
        case "csv" if rest:
            return _read_csv(rest)
        case "metadata" if rest:
            return lambda session: session.metadata.get(rest)
        case "pattern" if rest:
            return _compile(rest)
        case "call" if rest:
            try:
                rule: OwnerRule = import_string(rest)
            except ImportError as error:
                raise ValueError(str(error)) from None
            if not callable(rule):
                raise ValueError(f"{rest} cannot be called.")
            return rule
    raise ValueError(
        f"{text!r} is none of csv:FILE, metadata:KEY, pattern:REGEX and call:PATH."
    )


def _compile(text: str) -> OwnerRule:
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is not a regular expression: {error}.") from None
    if "user" not in pattern.groupindex:
        raise ValueError(f"{text!r} has no group (?P<user>...).")

    def match(session: SourceSession) -> str | None:
        found = pattern.search(session.session_id)
        return None if found is None else found["user"]

    return match


def _read_csv(name: str) -> OwnerRule:
    owners: dict[str, str] = {}
    try:
        # As spreadsheets write it: with a mark at the start.
        with open(name, encoding="utf-8-sig", newline="") as file:
            # Else an open quote takes all that follows, whose sessions have no owner.
            reader = csv.DictReader(file, strict=True)
            names = list(reader.fieldnames or ())
            if names.count("session_id") != 1 or names.count("user") != 1:
                raise InvalidSource(f"{name}: the columns are session_id and user.")
            for row in reader:
                session_id, user = row["session_id"], row["user"]
                if None in row:
                    # "Doe, Jane" without quotes, and there may be a "Doe".
                    raise InvalidSource(
                        f"{name}, line {reader.line_num}: there are more columns than "
                        "in the first line; quote what holds a comma."
                    )
                if user and owners.setdefault(session_id, user) != user:
                    raise InvalidSource(
                        f"{name}, line {reader.line_num}: the session has two users."
                    )
    except OSError as error:
        raise InvalidSource(f"The owners cannot be read: {error}.") from None
    except (UnicodeDecodeError, csv.Error):
        raise InvalidSource(f"{name} is not a whole CSV file in UTF-8.") from None
    return lambda session: owners.get(session.session_id)
