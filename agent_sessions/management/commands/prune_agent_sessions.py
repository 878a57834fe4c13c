from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from agent_sessions import store
from agent_sessions.conf import conf
from agent_sessions.management.arguments import add_database, parse_count, parse_days
from agent_sessions.management.failures import failures


class Command(BaseCommand):
    help = "Delete the agent sessions that meet all the given criteria."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--older-than",
            type=parse_days,
            default=conf.AGENT_SESSIONS_RETENTION_DAYS,
            metavar="DAYS",
            help="No activity for so many days "
            "(default: AGENT_SESSIONS_RETENTION_DAYS, which is %(default)s).",
        )
        parser.add_argument("--archived", action="store_true")
        whose = parser.add_mutually_exclusive_group()
        whose.add_argument(
            "--orphaned", action="store_true", help="Their user was deleted."
        )
        whose.add_argument(
            "--anonymous", action="store_true", help="They never had a user."
        )
        whose.add_argument(
            "--keep-latest",
            type=parse_count,
            metavar="N",
            help="They have a user, and are not among that user's newest N.",
        )
        parser.add_argument(
            "--empty", action="store_true", help="There are no items in them."
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="Count, and delete nothing."
        )
        add_database(parser)

    def handle(
        self,
        *,
        older_than: timedelta | int | None,
        dry_run: bool,
        database: str | None,
        **options: Any,
    ) -> None:
        criteria = ("archived", "orphaned", "anonymous", "empty", "keep_latest")
        if isinstance(older_than, int):
            older_than = timedelta(days=older_than)
        with failures("Not pruned, or not to the end; run it again"):
            deleted = store.prune_sessions(
                older_than=older_than,
                dry_run=dry_run,
                using=database,
                **{name: options[name] for name in criteria},
            )
        verb = "Would prune" if dry_run else "Pruned"
        self.stdout.write(
            f"{verb} {deleted.sessions} session(s) with {deleted.items} item(s)."
        )
