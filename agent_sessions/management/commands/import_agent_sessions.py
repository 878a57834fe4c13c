from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, DataError, IntegrityError

from agent_sessions.exceptions import AgentSessionError
from agent_sessions.importers.opening import FORMATS, open_source
from agent_sessions.importers.owners import OwnerRule, parse_owner_rule
from agent_sessions.importers.redis import KEY_PREFIX
from agent_sessions.importers.watching import WatchedSource
from agent_sessions.imports import import_sessions
from agent_sessions.management.arguments import add_database, parse_count
from agent_sessions.outcomes import Kind, Outcome, Report


class Command(BaseCommand):
    help = "Bring agent sessions of another store into this one; a second run is safe."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "source",
            metavar="SOURCE",
            help="A file, a database's alias, or the URL of a database or of Redis.",
        )
        parser.add_argument(
            "--format", choices=FORMATS, help="If it cannot be told from the source."
        )
        for kind in ("sessions", "messages"):
            parser.add_argument(
                f"--{kind}-table",
                metavar="NAME",
                help=f"The source's table of {kind}, if it was given another name.",
            )
        parser.add_argument(
            "--key-prefix",
            default=KEY_PREFIX,
            metavar="PREFIX",
            help="Of keys in Redis (%(default)s).",
        )
        parser.add_argument(
            "--timezone",
            type=_parse_zone,
            default=UTC,
            metavar="NAME",
            help="Of the source's times that have none (%(default)s).",
        )
        parser.add_argument(
            "--map-user",
            type=_parse_rule,
            metavar="RULE",
            help="Whose a session is: csv:FILE with the columns session_id and user, "
            "metadata:KEY, pattern:REGEX with a group (?P<user>...) in the session id, "
            "or call:PATH of a function.",
        )
        parser.add_argument(
            "--user-field",
            default="pk",
            metavar="FIELD",
            help="The users' field that holds what the rule gives (%(default)s).",
        )
        parser.add_argument(
            "--on-conflict",
            choices=("error", "skip", "rename"),
            default="error",
            help="If another session has the id (%(default)s).",
        )
        parser.add_argument(
            "--on-bad-id",
            choices=("error", "rename"),
            default="error",
            help="If an id cannot be kept (%(default)s).",
        )
        parser.add_argument(
            "--batch-size",
            type=_parse_size,
            default=1000,
            metavar="ITEMS",
            help="Items of one transaction, unless one session has more (%(default)s).",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="Read and compare, write nothing."
        )
        add_database(parser)

    def handle(
        self,
        *,
        source: str,
        format: Any,
        database: str | None,
        **options: Any,
    ) -> None:
        report = Report()
        places = ("sessions_table", "messages_table", "key_prefix")
        names = ("map_user", "user_field", "on_conflict", "on_bad_id", "batch_size")
        try:
            opened = open_source(
                source,
                format=format,
                zone=options["timezone"],
                **{name: options[name] for name in places},
            )
            if self.stderr.isatty():
                opened = WatchedSource(opened, self._show)
            with closing(opened):
                outcomes = import_sessions(
                    opened,
                    dry_run=options["dry_run"],
                    using=database,
                    **{name: options[name] for name in names},
                )
                self._follow(outcomes, report)
        except AgentSessionError as error:
            raise CommandError(f"{error} {report}") from None
        except DatabaseError as error:
            # Of these the words may hold somebody's.
            hidden = isinstance(error, (DataError, IntegrityError))
            said = "" if hidden else str(error)
            what = said.partition("\n")[0] or type(error).__name__
            raise CommandError(
                f"The database failed: {what}. Sessions imported so far are whole; run "
                f"the same command again. {report}"
            ) from None
        if not report.kinds:
            raise CommandError("There are no sessions in the source.")
        summary = (
            f"Nothing was written. {report}" if options["dry_run"] else f"{report}"
        )
        if report.failures:
            raise CommandError(summary)
        self.stdout.write(summary)

    def _follow(self, outcomes: Iterator[Outcome], report: Report) -> None:
        for outcome in outcomes:
            report.add(outcome)
            if outcome.is_failure or outcome.note or outcome.kind == Kind.SKIPPED:
                self.stdout.write(str(outcome))

    def _show(self, text: str) -> None:
        # One line, which the next one is written over.
        self.stderr.write(f"\r{text:<60}\r", lambda it: it, ending="")
        self.stderr.flush()


def _parse_rule(text: str) -> OwnerRule:
    try:
        return parse_owner_rule(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def _parse_zone(text: str) -> tzinfo:
    try:
        return ZoneInfo(text)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise ArgumentTypeError(f"{text!r} is not a time zone.") from None


def _parse_size(text: str) -> int:
    size = parse_count(text)
    if not 1 <= size <= 100_000:
        raise ArgumentTypeError("A batch has 1 to 100000 items.")
    return size
