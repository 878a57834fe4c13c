from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from agent_sessions.models import AgentSession
from support_desk.demo_users import create_demo_users
from support_desk.seeds import CUSTOMERS, PREFIX, write_month


class Command(BaseCommand):
    help = "Make tables, users with known passwords, and a month of sessions, once."
    requires_system_checks: list[str] = []

    def handle(self, **options: Any) -> None:
        if not settings.DEBUG:
            raise CommandError("Users with known passwords are for DEBUG only.")
        # One command, because each starts Django anew.
        call_command("migrate", verbosity=0, skip_checks=True)
        create_demo_users()
        if AgentSession.objects.filter(session_id__startswith=PREFIX).exists():
            return
        nobody = make_password(None)  # of those that nobody logs in as
        User.objects.bulk_create(
            [User(username=name, password=nobody) for name in CUSTOMERS],
            ignore_conflicts=True,
        )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "month.jsonl"
            path.write_text("".join(write_month(timezone.now())), encoding="utf-8")
            self.stdout.write("A month of sessions for the lists and charts.")
            call_command("import_agent_sessions", str(path), stdout=self.stdout)
