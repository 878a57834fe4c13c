"""The database server's view of our connections, over one that is not ours."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
from django.db import connection


def wait_until(condition: Callable[[], Any], *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


class Observer:
    """
    Tell who is connected to the test database; may be used from any thread.

    Connections that are open when it is made are the test's own and left out.
    """

    def __init__(self) -> None:
        connection.ensure_connection()
        self._lock = threading.Lock()
        self._known: set[int] = set()
        self._connect()
        self._known = self.connected()

    def connected(self) -> set[int]:
        """Return a number for each connection to the database."""
        raise NotImplementedError

    def end(self, numbers: set[int]) -> None:
        """Have the server end these connections and wait until it has."""
        raise NotImplementedError

    def end_mine(self) -> None:
        """End the connection of the thread that calls."""
        raise NotImplementedError

    def waiting(self) -> set[int]:
        """Return the connections that wait for a lock."""
        raise NotImplementedError

    def end_all(self) -> int:
        """End every connection that is not the test's own; return how many."""
        numbers = self.connected()
        self.end(numbers)
        return len(numbers)

    def close(self) -> None:
        pass

    def _connect(self) -> None:
        pass


class SqliteObserver(Observer):
    """No server: each connection is an open file of this process."""

    def connected(self) -> set[int]:
        name = str(connection.settings_dict["NAME"])
        files = psutil.Process().open_files()
        return {file.fd for file in files if file.path == name} - self._known

    def end_mine(self) -> None:
        connection.connection.close()


class ServerObserver(Observer):
    LIST: str
    WAITING: str

    def connected(self) -> set[int]:
        return {row[0] for row in self.query(self.LIST)} - self._known

    def end(self, numbers: set[int]) -> None:
        for number in numbers:
            self._end(number)
        wait_until(lambda: not numbers & self.connected())

    def waiting(self) -> set[int]:
        return {row[0] for row in self.query(self.WAITING)} & self.connected()

    def query(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        with self._lock:
            cursor = self._connection.cursor()
            cursor.execute(sql, params)
            rows = list(cursor.fetchall()) if cursor.description else []
            cursor.close()
            return rows

    def close(self) -> None:
        self._connection.close()

    def _end(self, number: int) -> None:
        raise NotImplementedError


class PostgresObserver(ServerObserver):
    LIST = (
        "SELECT pid FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"

    def _connect(self) -> None:
        import psycopg

        params = connection.get_connection_params()
        self._connection: Any = psycopg.connect(**{**params, "autocommit": True})

    def end_mine(self) -> None:
        self.end({connection.connection.info.backend_pid})

    def _end(self, number: int) -> None:
        self.query("SELECT pg_terminate_backend(%s)", number)


class MariadbObserver(ServerObserver):
    LIST = (
        "SELECT id FROM information_schema.processlist "
        "WHERE db = DATABASE() AND id <> CONNECTION_ID()"
    )
    WAITING = (
        "SELECT trx_mysql_thread_id FROM information_schema.innodb_trx "
        "WHERE trx_state = 'LOCK WAIT'"
    )

    def _connect(self) -> None:
        import MySQLdb

        self._connection: Any = MySQLdb.connect(**connection.get_connection_params())
        self._connection.autocommit(True)

    def waiting(self) -> set[int]:
        # InnoDB gives a copy, and renews it when nobody has looked for 0.1 s.
        time.sleep(0.15)
        return super().waiting()

    def end_mine(self) -> None:
        self.end({connection.connection.thread_id()})

    def _end(self, number: int) -> None:
        import MySQLdb

        try:
            self.query(f"KILL {number}")
        except MySQLdb.OperationalError as error:
            # It ended by itself meanwhile.
            assert error.args[0] == 1094, error


def observe() -> Any:
    return {
        "sqlite": SqliteObserver,
        "postgresql": PostgresObserver,
        "mysql": MariadbObserver,
    }[connection.vendor]()
