from __future__ import annotations

from typing import Any

from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from agent_sessions import DjangoSession


class Command(BaseCommand):
    """An integration to copy: the agent in a command, for a user who is named."""

    help = "Ask the agent something as a user, in that user's session for commands."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("text")

    def handle(self, *, username: str, text: str, **options: Any) -> None:
        # Imported where it runs: the SDK takes more than a second.
        from support_desk.agent import MODEL_ERRORS, answer

        user = User.objects.filter(username=username).first()
        if user is None:
            raise CommandError(f"There is no user {username!r}.")
        session = DjangoSession(f"{user.pk}:command", user=user)
        try:
            result = async_to_sync(answer)(text, customer=username, session=session)
        except MODEL_ERRORS as error:
            raise CommandError("The model did not answer.") from error
        self.stdout.write(result.final_output)
