from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection

from agent_sessions import DjangoSession, store
from agent_sessions.exceptions import SessionOwnershipError
from support_desk.transcript import read_lines

MEETING = [
    ("alice", "Hello, I am Alice."),
    ("alice", "Where is my order #1001?"),
    ("bob", "Hallo, ich heiße Bob."),
    ("bob", "Wo ist meine Bestellung #1002?"),
]
GOING_ON = [
    ("alice", "What is my name, and which order did I ask about?"),
    ("bob", "Wie heiße ich, und nach welcher Bestellung habe ich gefragt?"),
]
STEPS = ("meet", "go_on", "trespass")


class Command(BaseCommand):
    help = "Show an agent that remembers alice and bob, each step in a new process."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--step", choices=STEPS, help="Take one, in this process.")

    def handle(self, *, step: str | None, **options: Any) -> None:
        if step is not None:
            if step != "trespass":
                import support_desk.agent  # noqa: F401
            if sys.stdin.readline():
                getattr(self, step)()
            return
        self.stdout.write(f"An agent with its memory in {connection.display_name}.")
        self.stdout.flush()  # before the others write
        manage = settings.BASE_DIR / "manage.py"
        command = [sys.executable, manage, "demo_conversation", "--step"]
        # All begin at once, because the SDK takes more than a second to import, and
        # wait for their turn.
        processes = [
            subprocess.Popen(
                [*command, step],
                env={**os.environ, "OFFLINE_PAUSE": "0"},
                stdin=subprocess.PIPE,
            )
            for step in STEPS
        ]
        code = 0
        for process in processes:
            process.communicate(b"" if code else b"go\n")
            code = code or process.returncode  # it has said why
        if code:
            sys.exit(code)
        self.stdout.write("")

    def meet(self) -> None:
        from support_desk.agent import is_offline

        self.heading("1. Alice and Bob each talk to the agent")
        if is_offline():
            self.line("", "(An offline model; set OPENAI_API_KEY for a real one.)")
        for username in ("alice", "bob"):
            user = User.objects.get(username=username)
            if store.get_session(user, demo_id(user)) is None:
                store.create_session(
                    user, session_id=demo_id(user), title="From the terminal"
                )
            # A second demo tells the story from its beginning.
            store.clear_session(demo_id(user), user=user)
        self.talk(MEETING)

    def go_on(self) -> None:
        self.heading("2. A new process goes on: all it has is the database")
        self.talk(GOING_ON)

    def trespass(self) -> None:
        self.heading("3. Bob asks for what Alice said")
        alice, bob = (User.objects.get(username=name) for name in ("alice", "bob"))
        session = DjangoSession(demo_id(alice), user=bob)
        self.line("bob", f"DjangoSession({demo_id(alice)!r}, user=bob).get_items()")
        try:
            async_to_sync(session.get_items)()
        except SessionOwnershipError as error:
            self.line("", f"{type(error).__name__}: {error}", self.style.ERROR)
        else:
            raise CommandError("Bob could read what Alice said.")

    def talk(self, turns: list[tuple[str, str]]) -> None:
        from support_desk.agent import MODEL_ERRORS, answer

        for username, text in turns:
            user = User.objects.get(username=username)
            session = DjangoSession(demo_id(user), user=user)
            self.line(username, text)
            try:
                result = async_to_sync(answer)(text, customer=username, session=session)
            except MODEL_ERRORS as error:
                raise CommandError(f"The model did not answer: {error}") from error
            for line in read_lines(item.to_input_item() for item in result.new_items):
                if line.kind == "tool":
                    self.line("", line.text, self.style.WARNING)
                else:
                    self.line("agent", line.text)

    def heading(self, text: str) -> None:
        process = f"(process {os.getpid()})"
        self.stdout.write(f"\n{self.style.MIGRATE_HEADING(text)}  {process}")

    def line(self, speaker: str, text: str, style: Callable[[str], str] = str) -> None:
        label = self.style.MIGRATE_LABEL(f"{speaker:5}")
        for part in textwrap.wrap(text, width=72):
            self.stdout.write(f"  {label} {style(part)}")
            label = " " * 5


def demo_id(user: User) -> str:
    return f"{user.pk}:terminal"
