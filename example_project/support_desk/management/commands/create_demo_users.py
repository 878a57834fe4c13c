from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from support_desk.demo_users import create_demo_users


class Command(BaseCommand):
    help = "Create the users alice, bob and support, whose passwords everybody knows."
    requires_system_checks: list[str] = []

    def handle(self, **options: Any) -> None:
        if not settings.DEBUG:
            raise CommandError("Users with known passwords are for DEBUG only.")
        create_demo_users()
