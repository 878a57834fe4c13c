from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from agent_sessions import store
from agent_sessions.management.arguments import add_database, add_user, find_user
from agent_sessions.management.failures import NOTHING, failures
from agent_sessions.management.questions import add_no_input, confirm


class Command(BaseCommand):
    help = "Give a session of a user, or all of them, to another user."

    def add_arguments(self, parser: CommandParser) -> None:
        add_user(parser, required=True)
        whom = parser.add_mutually_exclusive_group(required=True)
        whom.add_argument("--to", metavar="NAME", help="To whom, by their user name.")
        whom.add_argument("--to-id", metavar="KEY", help="To whom, by their key.")
        parser.add_argument(
            "--session", metavar="SESSION_ID", help="This one, instead of all."
        )
        parser.add_argument(
            "--no-metadata",
            action="store_false",
            dest="metadata",
            help="Leave what agents keep about the two users as it is.",
        )
        parser.add_argument("--reason", default="", help="Kept in the records.")
        parser.add_argument(
            "--dry-run", action="store_true", help="Count, and transfer nothing."
        )
        add_no_input(parser)
        add_database(parser)

    def handle(
        self,
        *,
        user: str | None,
        user_id: str | None,
        to: str | None,
        to_id: str | None,
        session: str | None,
        metadata: bool,
        reason: str,
        dry_run: bool,
        interactive: bool,
        database: str | None,
        **options: Any,
    ) -> None:
        with failures("Not transferred"):
            owner = find_user(user, user_id, database=database)
            other = find_user(to, to_id, database=database)
            if owner == other:
                raise CommandError("Sessions are transferred between two users.")
            if session is None:
                held = store.count_holdings(owner, using=database)
                count, agent_users = held.sessions, held.agent_users * metadata
            else:
                row = store.get_session(owner, session, using=database)
                count, agent_users = int(row is not None), 0
            if not (count or agent_users):
                raise CommandError("There is nothing to transfer.", returncode=NOTHING)
            what = f"{count} session(s), and {agent_users} agent user(s) to merge"
            if dry_run:
                self.stdout.write(f"Would transfer {what}.")
                return
            if interactive:
                confirm(
                    f"Transfer from {_name(owner)} to {_name(other)}: {what}.",
                    on=self.stderr,
                )
            if session is None:
                moved, merged = store.transfer_sessions(
                    owner, other, metadata=metadata, reason=reason, using=database
                )
            else:
                store.transfer_session(
                    session, other, user=owner, reason=reason, using=database
                )
                moved, merged = 1, False
        self.stdout.write(
            f"Transferred {moved} session(s), and merged {int(merged)} agent user(s)."
        )


def _name(user: Any) -> str:
    return repr(user.get_username())
