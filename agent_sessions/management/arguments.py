"""Arguments that several commands take."""

from __future__ import annotations

from argparse import ArgumentTypeError
from datetime import timedelta

from django.core.management.base import CommandParser
from django.db import connections


def add_database(parser: CommandParser) -> None:
    parser.add_argument(
        "--database",
        choices=tuple(connections),
        help="The database of the sessions, if it is not the one they are routed to.",
    )


def parse_days(text: str) -> timedelta:
    return timedelta(days=min(parse_count(text), 999_999_999))


def parse_count(text: str) -> int:
    # Not int(), which takes "1_000" and "٣" as well.
    if not (text.isascii() and text.isdigit()):
        raise ArgumentTypeError(f"{text!r} is not a whole number from 0 up.")
    return int(text)
