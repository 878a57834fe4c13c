"""The SDK's RedisSession: a hash and a list for each session."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from agent_sessions.exceptions import InvalidSource
from agent_sessions.importers.records import SourceItem, SourceItems, SourceSession
from agent_sessions.paging import FIRST_PAGE, next_page

KEY_PREFIX = "agents:session"

_PAGE = 200
_SECONDS = 10


class RedisSource:
    """
    Sessions of a Redis server, which keeps no times of items.

    A long session is read in parts, so what is removed meanwhile may be missing in the
    middle. Needs the extra ``[redis]``.
    """

    def __init__(self, url: str, *, key_prefix: str = KEY_PREFIX) -> None:
        try:
            import redis
        except ImportError:
            raise InvalidSource(
                "For Redis install django-agent-sessions[redis]."
            ) from None
        self._error: type[Exception] = redis.RedisError
        self._prefix = f"{key_prefix}:".encode()
        try:
            self._redis: Any = redis.Redis.from_url(
                url, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS
            )
            with self._reading():
                self._redis.ping()
        except InvalidSource:
            raise
        except (TypeError, ValueError):
            # An unknown option in the query is found out here as well.
            raise InvalidSource("The source is not a URL of Redis.") from None

    def sessions(self) -> Iterator[SourceSession]:
        """Yield the sessions, in no order; one may come twice."""
        pattern = _escape(self._prefix) + b"*"
        with self._reading():
            for key in self._redis.scan_iter(pattern, count=_PAGE, _type="hash"):
                facts = self._redis.hgetall(key)
                name = facts.get(b"session_id", key[len(self._prefix) :])
                # A hash of somebody else's may begin alike.
                if key == self._prefix + name:
                    yield self._session(name, facts)
            for key in self._redis.scan_iter(
                pattern + b":messages", count=_PAGE, _type="list"
            ):
                session = key.removesuffix(b":messages")
                if not self._redis.exists(session):
                    yield self._session(session[len(self._prefix) :], {})

    def items(self, session: SourceSession) -> SourceItems:
        key = self._prefix + session.place + b":messages"
        start, size = 0, FIRST_PAGE
        with self._reading():
            while page := self._redis.lrange(key, start, start + size - 1):
                for data in page:
                    yield SourceItem(_decode(data))
                start += len(page)
                size = next_page(page)

    def close(self) -> None:
        self._redis.close()

    def _session(self, name: bytes, facts: dict[bytes, bytes]) -> SourceSession:
        return SourceSession(
            session_id=_decode(name),
            place=name,
            created_at=_read_time(facts.get(b"created_at")),
            updated_at=_read_time(facts.get(b"updated_at")),
        )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except self._error as error:
            # Its words name hosts and commands, and may name keys.
            raise InvalidSource(
                f"The source cannot be read: {type(error).__name__}."
            ) from None


def _decode(value: bytes) -> str:
    return value.decode(errors="backslashreplace")


def _escape(prefix: bytes) -> bytes:
    special = b"\\*?[]^"
    return b"".join(
        (b"\\" if byte in special else b"") + bytes([byte]) for byte in prefix
    )


def _read_time(value: bytes | None) -> datetime | None:
    try:
        return None if value is None else datetime.fromtimestamp(float(value), UTC)
    except (ValueError, OverflowError, OSError):
        return None
