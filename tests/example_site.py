"""The example site from outside: its commands and its server, on its own database."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from django.db import connection

EXAMPLE = Path(__file__).parent.parent / "example_project"


class ExampleSite:
    """An empty database of the kind under test, and what runs on it."""

    def __init__(self, **environment: str) -> None:
        self._cleanups: list[Callable[[], Any]] = []
        self._server: subprocess.Popen[str] | None = None
        self.port: int | None = None
        self.environment = {
            **os.environ,
            "DATABASE_URL": self._make_database(),
            "DJANGO_SETTINGS_MODULE": "example.settings",
            "OPENAI_API_KEY": "",
            "OPENAI_BASE_URL": "",
            "PYTHONIOENCODING": "utf-8",
            **environment,
        }

    def twin(self) -> ExampleSite:
        """Return the same site, for another server beside this one."""
        twin = copy.copy(self)
        twin._cleanups, twin._server, twin.port = [], None, None
        return twin

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def run(
        self, *command: Any, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, EXAMPLE / "manage.py", *command],
            env={**self.environment, **environment},
            capture_output=True,
            encoding="utf-8",
            timeout=120,
        )

    def manage(self, *command: Any, **environment: str) -> str:
        """Run a command, which must succeed, and return what it says."""
        process = self.run(*command, **environment)
        assert process.returncode == 0, process.stdout + process.stderr
        return process.stdout

    def serve(self) -> None:
        """Serve the site under uvicorn; again on the same port if it was stopped."""
        port = [] if self.port is None else [str(self.port)]
        self._server = subprocess.Popen(
            [sys.executable, EXAMPLE / "manage.py", "serve_demo", *port],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        for line in self._server.stdout:
            if "http://" in line:
                self.port = int(line.split("127.0.0.1:")[1].split("/")[0])
            if "Ctrl-C" in line:
                return
        raise AssertionError("The site does not start.")

    def stop_serving(self) -> str:
        """Kill the server and return what it logged since it began to serve."""
        assert self._server is not None
        self._server.kill()
        output, _ = self._server.communicate()
        self._server = None
        return output

    def close(self) -> None:
        if self._server is not None:
            self.stop_serving()
        for cleanup in reversed(self._cleanups):
            cleanup()

    def _make_database(self) -> str:
        if connection.vendor != "postgresql":
            # The example knows two kinds.
            folder = tempfile.TemporaryDirectory()
            self._cleanups.append(folder.cleanup)
            return f"sqlite:///{folder.name}/demo.sqlite3"
        settings = connection.settings_dict
        self.database = f"{settings['NAME']}_demo"
        drop = f'DROP DATABASE IF EXISTS "{self.database}" WITH (FORCE)'
        self._tell_server(drop)
        self._tell_server(f'CREATE DATABASE "{self.database}"')
        self._cleanups.append(lambda: self._tell_server(drop))
        user, password = (quote(settings[key], safe="") for key in ("USER", "PASSWORD"))
        host = f"{settings['HOST']}:{settings['PORT']}"
        name = quote(self.database, safe="")
        return f"postgres://{user}:{password}@{host}/{name}"

    def cut_connections(self) -> None:
        """Do to the site's connections what a restart of the database does."""
        if connection.vendor == "postgresql":  # a file is not connected to
            self._tell_server(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                f" WHERE datname = '{self.database}'"
            )

    def count_connections(self) -> int:
        """Return how many connections PostgreSQL has for the site."""
        ((count,),) = self._tell_server(
            f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{self.database}'"
        )
        return count

    def _tell_server(self, statement: str) -> list[Any]:
        # Not Django's connection: a browser test's thread has an event loop.
        import psycopg

        settings = connection.settings_dict
        with psycopg.connect(
            host=settings["HOST"],
            port=settings["PORT"],
            user=settings["USER"],
            password=settings["PASSWORD"],
            dbname="postgres",
            autocommit=True,
        ) as server:
            cursor = server.execute(statement)
            return cursor.fetchall() if cursor.description else []
