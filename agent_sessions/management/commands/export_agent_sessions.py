from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from agent_sessions import store
from agent_sessions.archives import export_archive
from agent_sessions.exports import export_sessions
from agent_sessions.identifiers import clean_session_id
from agent_sessions.management.arguments import (
    add_database,
    add_user,
    find_user,
    parse_days,
)
from agent_sessions.management.failures import failures
from agent_sessions.management.outputs import write_bytes, write_file
from agent_sessions.models import AgentSession, AgentSessionQuerySet, SessionAccess
from agent_sessions.store.handles import session_alias


class Command(BaseCommand):
    help = "Write agent sessions, all or those that meet all the given criteria."

    def add_arguments(self, parser: CommandParser) -> None:
        add_user(parser)
        parser.add_argument(
            "--session",
            action="append",
            metavar="SESSION_ID",
            help="This session; can be given several times.",
        )
        parser.add_argument(
            "--older-than", type=parse_days, metavar="DAYS", help="Idle for so long."
        )
        parser.add_argument(
            "--newer-than", type=parse_days, metavar="DAYS", help="Used since then."
        )
        parser.add_argument(
            "--format",
            choices=("jsonl", "markdown", "zip"),
            default="jsonl",
            help="JSON Lines hold everything, Markdown is to read; a ZIP holds both, "
            "and what agents keep about the user, for that user (%(default)s).",
        )
        parser.add_argument(
            "--output", type=Path, metavar="FILE", help="A new file, not stdout."
        )
        parser.add_argument(
            "--reason", default="", help="Kept in the records of access."
        )
        add_database(parser)

    def handle(
        self,
        *,
        format: str,
        output: Path | None,
        reason: str,
        **options: Any,
    ) -> None:
        try:
            with failures("Not exported"):
                count = self._export(format, output, reason, **options)
        except OSError as error:
            raise CommandError(f"Not exported: {error}") from None
        # Not among what may be read from stdout.
        self.stderr.write(f"Exported {count} session(s).", lambda text: text)

    def _export(
        self, format: str, output: Path | None, reason: str, **options: Any
    ) -> int:
        person = find_user(
            options["user"], options["user_id"], database=options["database"]
        )
        rows = self._choose(person, **options)
        count = rows.count()
        channel = SessionAccess.Channel.COMMAND
        if format == "zip":
            if person is None:
                raise CommandError("A ZIP is for one user: give --user or --user-id.")
            if output is None and self.stdout.isatty():
                raise CommandError("A ZIP goes to a file: give --output.")
            parts = export_archive(person, rows, channel=channel, reason=reason)
        else:
            parts = export_sessions(
                rows,
                channel=channel,
                as_markdown=format == "markdown",
                reason=reason,
            )
        if not count and (format != "zip" or not store.read_user_metadata(person)):
            raise CommandError("No session meets the criteria.")
        if output is None:
            write_bytes(self.stdout, parts)
        else:
            write_file(output, parts)
        return count

    def _choose(
        self,
        person: AbstractBaseUser | None,
        *,
        session: list[str] | None,
        older_than: timedelta | None,
        newer_than: timedelta | None,
        database: str | None,
        **options: Any,
    ) -> AgentSessionQuerySet:
        rows = AgentSession.objects.using(session_alias(database))
        if person is not None:
            rows = rows.for_user(person)
        if session is not None:
            rows = rows.filter(session_id__in=[clean_session_id(id) for id in session])
        now = timezone.now()
        try:
            if older_than is not None:
                rows = rows.idle_since(now - older_than)
            if newer_than is not None:
                rows = rows.used_since(now - newer_than)
        except OverflowError:
            raise CommandError("No session can be that old.") from None
        return rows
