"""Say what `make check` cannot reach, and what to install."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from pathlib import Path

SERVERS = {
    "PostgreSQL": ("PGHOST", "PGPORT", 5432, "postgresql"),
    "MariaDB": ("MYSQL_HOST", "MYSQL_PORT", 3306, "mariadb-server"),
}


def missing() -> list[str]:
    problems = []
    for name, (host, port, default, package) in SERVERS.items():
        address = os.environ.get(host, "127.0.0.1"), int(os.environ.get(port, default))
        try:
            socket.create_connection(address, timeout=5).close()
        except OSError as error:
            problems.append(
                f"{name} at {address[0]}:{address[1]} ({host}, {port}): {error}. "
                f"Debian package: {package}"
            )
    # Some tests restart a server: one of their own, on files of their own.
    if not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        problems.append("initdb for a private cluster. Debian package: postgresql")
    if not shutil.which("mariadbd", path=f"{os.environ['PATH']}:/usr/sbin"):
        problems.append("mariadbd for a private server. Debian package: mariadb-server")
    if not shutil.which("redis-server"):
        problems.append("redis-server for a private one. Debian package: redis-server")
    if not shutil.which("chromium"):
        problems.append("chromium for the browser tests. Debian package: chromium")
    return problems


if __name__ == "__main__":
    if problems := missing():
        print("make check needs more than is there. Missing:", *problems, sep="\n  ")
        sys.exit(1)
