from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from agent_sessions.exceptions import AgentSessionError
from agent_sessions.exports import export_sessions
from agent_sessions.identifiers import clean_session_id
from agent_sessions.management.arguments import (
    add_database,
    add_user,
    find_user,
    parse_days,
)
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
            choices=("jsonl", "markdown"),
            default="jsonl",
            help="JSON Lines hold everything, Markdown is to read (%(default)s).",
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
            rows = self._choose(**options)
            count = rows.count()
            if not count:
                raise CommandError("No session meets the criteria.")
            lines = export_sessions(
                rows,
                channel=SessionAccess.Channel.COMMAND,
                as_markdown=format == "markdown",
                reason=reason,
            )
            # Before a file is made: it may be refused.
            first = next(lines)
            if output is None:
                self._print(first, lines)
            else:
                _write(output, first, lines)
        except AgentSessionError as error:
            raise CommandError(str(error)) from None
        except OSError as error:
            raise CommandError(f"Not exported: {error}") from None
        # Not among what may be read from stdout.
        self.stderr.write(f"Exported {count} session(s).", lambda text: text)

    def _choose(
        self,
        *,
        user: str | None,
        user_id: str | None,
        session: list[str] | None,
        older_than: timedelta | None,
        newer_than: timedelta | None,
        database: str | None,
        **options: Any,
    ) -> AgentSessionQuerySet:
        rows = AgentSession.objects.using(session_alias(database))
        if (owner := find_user(user, user_id, database=database)) is not None:
            rows = rows.for_user(owner)
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

    def _print(self, first: bytes, lines: Iterator[bytes]) -> None:
        self.stdout.write(first.decode(), ending="")
        for line in lines:
            self.stdout.write(line.decode(), ending="")


def _write(path: Path, first: bytes, lines: Iterator[bytes]) -> None:
    # For nobody else's eyes, and over no other file.
    with open(path, "xb", opener=lambda name, how: os.open(name, how, 0o600)) as file:
        try:
            file.write(first)
            file.writelines(lines)
            file.flush()
        except BaseException:
            path.unlink()
            raise
