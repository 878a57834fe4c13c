from __future__ import annotations

from collections import Counter
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from agent_sessions import store
from agent_sessions.conf import conf
from agent_sessions.management.arguments import add_database
from agent_sessions.management.failures import failures
from agent_sessions.store.inspection import Kind


class Command(BaseCommand):
    help = "Say what is wrong with the rows of agent sessions, and fail if anything is."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--fix", action="store_true", help="Set wrong counters right, nothing else."
        )
        add_database(parser)

    def handle(self, *, fix: bool, database: str | None, **options: Any) -> None:
        found: Counter[Kind] = Counter()
        fixed = 0
        with failures("Not checked to the end"):
            for finding in store.check_sessions(fix=fix, using=database):
                self.stdout.write(str(finding))
                fixed += finding.fixed
                found[finding.kind] += not finding.fixed
        summary = ", ".join(f"{kind}: {found[kind]}" for kind in Kind)
        summary = f"{summary}, fixed: {fixed}."
        if conf.AGENT_SESSIONS_ON_USER_DELETE == "keep":
            # Then they are what was asked for.
            del found[Kind.ORPHANED]
        if found.total():
            raise CommandError(summary)
        self.stdout.write(summary)
