"""Our own export, as agent_sessions.jsonlines writes it."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from agent_sessions.encoding import encode_item
from agent_sessions.exceptions import InvalidItem, InvalidSource
from agent_sessions.importers.records import (
    SourceItem,
    SourceItems,
    SourceSession,
    is_count,
)
from agent_sessions.jsonlines import FORMAT, VERSION
from agent_sessions.store.imports import TurnUse
from agent_sessions.usage import USAGE_FIELDS, TokenUsage

_TIMES = ("owned_at", "archived_at", "created_at", "updated_at")
_NUMBERS = (
    "revision",
    "item_count",
    "turn_count",
    "next_position",
    "next_turn",
)
_LARGEST = 2**31 - 1
_FAULTS = (KeyError, TypeError, ValueError, AttributeError, OverflowError)


class JSONLinesSource:
    """
    Sessions of a file of JSON Lines.

    Raise InvalidSource, naming the line, for what no export of ours has written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version: tuple[int, ...] | None = None
        with self._open() as file:
            header = _parse(file.readline(), 1)
        if header.get("format") != FORMAT:
            raise InvalidSource("The source is not an export of agent sessions.")
        if header.get("version") != VERSION:
            raise InvalidSource(
                f"The source has version {header.get('version')!r} of the format; "
                f"this is version {VERSION}."
            )

    def sessions(self) -> Iterator[SourceSession]:
        with self._open() as file:
            place = len(file.readline())
            count = 0
            for number, line in enumerate(file, start=2):
                place += len(line)
                # Items are read when their turn comes.
                if line.startswith(b'{"item":'):
                    continue
                values = _parse(line, number)
                if values == {"end": {"sessions": count}}:
                    return
                if not isinstance(values.get("session"), dict):
                    raise _fault(number, "is neither a session nor an item")
                count += 1
                yield _read_session(values["session"], (place, number))
        raise InvalidSource("The source was cut off: its last line is missing.")

    def items(self, session: SourceSession) -> SourceItems:
        place, line_number = session.place
        columns = session.columns or {}
        live, last = 0, -1
        with self._open() as file:
            file.seek(place)
            for number, line in enumerate(file, start=line_number + 1):
                if not line.startswith(b'{"item":'):
                    break
                item = _read_item(_parse(line, number).get("item"), number)
                if not last < item.position < columns["next_position"]:
                    raise _fault(number, "is out of its session's order")
                last = item.position
                live += item.replaced_at is None
                yield item
        expected = columns["item_count"]
        if live != expected:
            raise InvalidSource(
                f"The session has {expected} item(s), the source {live} of them."
            )

    def close(self) -> None:
        """Nothing stays open between two reads."""

    @contextmanager
    def _open(self) -> Iterator[Any]:
        try:
            # A pipe may wait for ever, and what was read of it is gone.
            if stat.S_ISFIFO(os.stat(self._path).st_mode):
                raise InvalidSource("The source is no file that can be read twice.")
            with open(self._path, "rb") as file:
                self._refuse_changed(os.fstat(file.fileno()))
                yield file
        except OSError as error:
            raise InvalidSource(f"The source cannot be read: {error}.") from None

    def _refuse_changed(self, facts: os.stat_result) -> None:
        version = (facts.st_ino, facts.st_size, facts.st_mtime_ns)
        if self._version not in (None, version):
            # Other items may now stand where a session's were.
            raise InvalidSource("The source was changed while it was read.")
        self._version = version


def _read_session(values: dict[str, Any], place: tuple[int, int]) -> SourceSession:
    number = place[1]
    try:
        columns: dict[str, Any] = {
            "id": UUID(values["id"]),
            "preview": _column(values["preview"], 200),
            **{name: _time(values[name]) for name in _TIMES},
            **{name: _number(values[name]) for name in _NUMBERS},
            # Exports that were made before there were rewinds and forks have none.
            "rewound_before": _number(values.get("rewound_before", 0)),
            "forked_from": _key(values.get("forked_from")),
            "forked_at": _time(values.get("forked_at")),
        }
        if columns["created_at"] is None or columns["updated_at"] is None:
            raise ValueError
        owner = [values["user"], values["username"]]
        user, username = (None if it is None else _string(it) for it in owner)
        if not isinstance(values["metadata"], dict):
            raise TypeError
        return SourceSession(
            session_id=_string(values["session_id"]),
            place=place,
            created_at=columns["created_at"],
            updated_at=columns["updated_at"],
            title=_string(values["title"]),
            user=user,
            username=username,
            metadata=values["metadata"],
            columns=columns,
            usage=_read_usage(values.get("usage", [])),
        )
    except _FAULTS:
        raise _fault(number, "is not a session as this version writes it") from None


def _read_usage(rows: Any) -> list[TurnUse]:
    used = {}
    for turn, day, *counts in rows:
        if len(counts) != len(USAGE_FIELDS) or not all(map(is_count, counts)):
            raise ValueError
        usage = TokenUsage(*counts)
        used[turn] = TurnUse(_number(turn), date.fromisoformat(day), usage)
    if len(used) < len(rows):
        raise ValueError
    return list(used.values())


def _read_item(values: Any, number: int) -> SourceItem:
    try:
        data = values["data"]
        text = None
        with suppress(InvalidItem):
            text = _column(data) if isinstance(data, str) else encode_item(data)
        created_at = _time(values["created_at"])
        if text is None or created_at is None:
            raise ValueError
        return SourceItem(
            text=text,
            created_at=created_at,
            id=UUID(values["id"]),
            position=_number(values["position"]),
            turn=_number(values["turn"]),
            type=_column(values["type"], 64),
            role=_column(values["role"], 32),
            replaced_at=_time(values["replaced_at"]),
        )
    except _FAULTS:
        raise _fault(number, "is not an item as this version writes it") from None


def _parse(line: bytes, number: int) -> dict[str, Any]:
    value = None
    # json's error would quote the line.
    with suppress(ValueError, RecursionError):
        value = json.loads(line)
    if not isinstance(value, dict) or not line.endswith(b"\n"):
        raise _fault(number, "is broken or was cut off")
    return value


def _fault(number: int, what: str) -> InvalidSource:
    return InvalidSource(f"Line {number} {what}.")


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _column(value: Any, length: int | None = None) -> str:
    text = _string(value)
    # What no database keeps; the encoding refuses half a surrogate pair.
    if (length is not None and len(text) > length) or b"\0" in text.encode():
        raise ValueError
    return text


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _LARGEST:
        raise TypeError
    return value


def _key(value: Any) -> UUID | None:
    return None if value is None else UUID(value)


def _time(value: Any) -> datetime | None:
    if value is None:
        return None
    time = datetime.fromisoformat(value)
    # In the first year, or the last, another zone may have no such time.
    time.astimezone(UTC)
    return time
