from __future__ import annotations

import socket
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from support_desk.demo_users import PASSWORDS, STAFF

HOST = "127.0.0.1"
PORTS = range(8000, 8100)


class Command(BaseCommand):
    help = "Serve the demo with uvicorn, on the first free port from 8000 up."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("port", nargs="?", type=int, help="Take this port.")

    def handle(self, *, port: int | None, **options: Any) -> None:
        import uvicorn

        from example.asgi import application

        with listen(PORTS if port is None else [port]) as listener:
            self.welcome(f"http://{HOST}:{listener.getsockname()[1]}")
            config = uvicorn.Config(
                application,
                lifespan="off",
                # Pages that listen to an answer would keep it from ending, and uvicorn
                # logs each one; Django logs the site's own errors.
                timeout_graceful_shutdown=2,
                log_level="critical",
            )
            try:
                uvicorn.Server(config).run(sockets=[listener])
            except KeyboardInterrupt:
                self.stdout.write("")

    def welcome(self, url: str) -> None:
        self.stdout.write(self.style.MIGRATE_HEADING("4. Your turn"))
        self.stdout.write(f"  Open {self.style.SUCCESS(url + '/')} and log in as")
        for username, password in PASSWORDS.items():
            note = (
                "is staff: reads all sessions at /admin/" if username == STAFF else ""
            )
            self.stdout.write(f"        {username:8} {password:12} {note}".rstrip())
        self.stdout.write("  Ctrl-C stops the server.")
        self.stdout.flush()


def listen(ports: range | list[int]) -> socket.socket:
    for port in ports:
        # Its protocol is named: asyncio sends small answers at once only over what says
        # that it is TCP, and create_server() leaves it open.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except (OSError, OverflowError):
            listener.close()
            continue
        listener.listen()
        return listener
    raise CommandError(
        f"Port {ports[0]} is not free; choose another: make demo PORT=8123"
        if len(ports) == 1
        else f"No port from {ports[0]} to {ports[-1]} is free."
    )
