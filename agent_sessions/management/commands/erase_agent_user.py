from __future__ import annotations

import getpass
import json
from dataclasses import asdict, astuple
from datetime import datetime
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser

from agent_sessions import store
from agent_sessions.management.arguments import add_database, add_user, find_user
from agent_sessions.management.failures import failures
from agent_sessions.management.questions import add_no_input, confirm
from agent_sessions.store.accesses import clean_words
from agent_sessions.store.erasure import Holdings, Receipt
from agent_sessions.store.handles import session_alias
from agent_sessions.store.owners import clean_user_id

_WHO = "Say who asks, with --by."


class Command(BaseCommand):
    help = "Erase everything that is stored of a user, and print a receipt as JSON."

    def add_arguments(self, parser: CommandParser) -> None:
        add_user(parser, required=True)
        parser.add_argument(
            "--by",
            metavar="WHO",
            help="Who asks, for the receipt (default: the user of the system).",
        )
        parser.add_argument(
            "--allow-nothing",
            action="store_true",
            help="Give a receipt also if nothing is stored, instead of status 3.",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="Count, and erase nothing."
        )
        add_no_input(parser)
        add_database(parser)

    def handle(
        self,
        *,
        user: str | None,
        user_id: str | None,
        by: str | None,
        allow_nothing: bool,
        dry_run: bool,
        interactive: bool,
        database: str | None,
        **options: Any,
    ) -> None:
        asked_by = clean_words(_system_user() if by is None else by)
        if not asked_by:
            raise CommandError(_WHO)
        with failures("Not erased, or not to the end; run it again"):
            alias = session_alias(database)
            if user_id is not None:
                # They may be gone while a receipt still waits to be closed.
                key = clean_user_id(user_id)
            else:
                key = getattr(find_user(user, None, database=database), "pk", None)
            if dry_run:
                self._print(store.count_holdings(user_id=key, using=alias), alias)
                return
            if interactive:
                self._confirm(key, alias)
            receipt = store.erase_user(
                user_id=key,
                by=asked_by,
                allow_nothing=allow_nothing,
                using=alias,
            )
        try:
            self._print(receipt, alias)
            self.stdout.flush()
        except OSError as error:
            raise CommandError(
                f"Erased, and receipt {receipt.id} is kept, but not printed: {error}"
            ) from None

    def _confirm(self, key: Any, alias: str) -> None:
        found = get_user_model()._base_manager.using(alias).filter(pk=key).first()
        name = "a user who is gone" if found is None else repr(found.get_username())
        held = store.count_holdings(user_id=key, using=alias)
        if not any(astuple(held)):
            return
        confirm(
            f"Erase of {name} in database {alias!r}: {held.sessions} session(s) with "
            f"{held.items} item(s), {held.agent_users} agent user(s); and what tells "
            f"of them in {held.accesses} access record(s). This cannot be undone.",
            on=self.stderr,
        )

    def _print(self, facts: Holdings | Receipt, alias: str) -> None:
        facts_ = {**asdict(facts), "database": alias}
        self.stdout.write(json.dumps(facts_, indent=2, default=_spell))


def _spell(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _system_user() -> str:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):
        raise CommandError(_WHO) from None
