"""
A database server of the tests' own, to be stopped and killed.

It lives in a temporary directory and on a free port, and trusts whoever connects. A
server refuses to run as root, so under root it runs as its packages' user.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

NAME = "agent_sessions"


def find_program(name: str) -> str:
    # Debian keeps PostgreSQL's server programs, and MariaDB's, off the users' PATH.
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    places = [os.environ.get("PATH", ""), *map(str, folders), "/usr/sbin"]
    program = shutil.which(name, path=os.pathsep.join(places))
    assert program, f"{name} is not installed"
    return program


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Cluster:
    """Start on entering, and stop and remove everything on leaving."""

    user: str

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Cluster:
        self.folder = Path(tempfile.mkdtemp(prefix="agent_sessions_"))
        self.data = self.folder / "data"
        self._identity: dict[str, Any] = {}
        if os.geteuid() == 0:
            entry = pwd.getpwnam(self.user)
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
            self._identity = {
                "user": entry.pw_uid,
                "group": entry.pw_gid,
                "extra_groups": [],
            }
        try:
            self.create()
            self.start()
            self.query(f"CREATE DATABASE {NAME}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.crash()
        shutil.rmtree(self.folder)

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which tests.settings finds this server."""
        raise NotImplementedError

    def create(self) -> None:
        raise NotImplementedError

    def command(self) -> list[str]:
        """Return the command that runs the server."""
        raise NotImplementedError

    def query(self, sql: str) -> None:
        raise NotImplementedError

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._identity,
            )
        deadline = time.monotonic() + 60
        while not self._answers():
            alive = self._process.poll() is None and time.monotonic() < deadline
            assert alive, (self.folder / "log").read_text(errors="replace")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop as an administrator does: clients are disconnected."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        self._end(signal.SIGKILL)

    def run(self, *command: str) -> None:
        done = subprocess.run(
            command,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **self._identity,
        )
        assert done.returncode == 0, done.stdout

    def _answers(self) -> bool:
        try:
            self.query("SELECT 1")
        except Exception as error:
            # Each driver has its own, and neither is there for both.
            assert type(error).__name__ == "OperationalError", error
            return False
        return True

    def _end(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(60)
            self._process = None


class PostgresCluster(Cluster):
    user = "postgres"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "DATABASE_NAME": NAME,
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": "postgres",
            "PGPASSWORD": "",
        }

    def create(self) -> None:
        self.run(
            find_program("initdb"),
            f"--pgdata={self.data}",
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
        )

    def command(self) -> list[str]:
        options = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "shared_buffers": "16MB",
        }
        return [
            find_program("postgres"),
            "-D",
            str(self.data),
            *[f"--{name}={value}" for name, value in options.items()],
        ]

    def query(self, sql: str) -> None:
        import psycopg

        params = {"host": "127.0.0.1", "port": self.port, "user": "postgres"}
        with psycopg.connect(dbname="postgres", autocommit=True, **params) as client:
            client.execute(sql)

    def crash(self) -> None:
        # SIGKILL would leave its children; this has them end without a word.
        self._end(signal.SIGQUIT)


class MariadbCluster(Cluster):
    user = "mysql"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "DATABASE_NAME": NAME,
            "MYSQL_HOST": "127.0.0.1",
            "MYSQL_PORT": str(self.port),
            "MYSQL_USER": "root",
            "MYSQL_PASSWORD": "",
        }

    def create(self) -> None:
        self.run(
            find_program("mariadb-install-db"),
            "--no-defaults",
            f"--datadir={self.data}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        )

    def command(self) -> list[str]:
        options = {
            "datadir": self.data,
            "port": self.port,
            "bind-address": "127.0.0.1",
            "socket": self.folder / "socket",
            "character-set-server": "utf8mb4",
            "innodb-buffer-pool-size": "16M",
            # Survives the server's death, not the machine's.
            "innodb-flush-log-at-trx-commit": 2,
        }
        return [
            find_program("mariadbd"),
            "--no-defaults",
            "--skip-log-bin",
            *[f"--{name}={value}" for name, value in options.items()],
        ]

    def query(self, sql: str) -> None:
        import MySQLdb

        client = MySQLdb.connect(host="127.0.0.1", port=self.port, user="root")
        try:
            client.cursor().execute(sql)
        finally:
            client.close()

    def stop(self) -> None:
        self._end(signal.SIGTERM)


CLUSTERS = {"postgresql": PostgresCluster, "mysql": MariadbCluster}
