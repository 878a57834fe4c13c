"""Arguments that several commands take."""

from __future__ import annotations

from argparse import ArgumentTypeError
from contextlib import suppress
from datetime import timedelta

from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.management.base import CommandError, CommandParser
from django.db import connections

from agent_sessions.store.handles import session_alias
from agent_sessions.store.owners import clean_user_id


def add_database(parser: CommandParser) -> None:
    parser.add_argument(
        "--database",
        choices=tuple(connections),
        help="The database of the sessions, if it is not the one they are routed to.",
    )


def add_user(parser: CommandParser, *, required: bool = False) -> None:
    whose = parser.add_mutually_exclusive_group(required=required)
    whose.add_argument("--user", metavar="NAME", help="Whose, by their user name.")
    whose.add_argument("--user-id", metavar="KEY", help="Whose, by their key.")


def find_user(
    name: str | None, key: str | None, *, database: str | None
) -> AbstractBaseUser | None:
    """Return the user of add_user()'s arguments, None without; fail for no such one."""
    model = get_user_model()
    users = model._base_manager.using(session_alias(database))
    found = None
    if key is not None:
        found = users.filter(pk=clean_user_id(key)).first()
    elif name is not None:
        # Some databases would take "Ann" and "änn" for the same; none takes what Python
        # makes of an argument that is not UTF-8.
        with suppress(UnicodeEncodeError):
            same = users.filter(**{model.USERNAME_FIELD: name})
            found = next((user for user in same if user.get_username() == name), None)
    else:
        return None
    if found is None:
        raise CommandError(f"There is no such user in database {users.db!r}.")
    return found


def parse_days(text: str) -> timedelta:
    return timedelta(days=min(parse_count(text), 999_999_999))


def parse_count(text: str) -> int:
    # Not int(), which takes "1_000" and "٣" as well.
    if not (text.isascii() and text.isdigit()):
        raise ArgumentTypeError(f"{text!r} is not a whole number from 0 up.")
    return int(text)
