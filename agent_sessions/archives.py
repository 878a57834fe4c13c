"""
Everything that is stored of one person's sessions, as one ZIP file for that person.

It is made as it is sent: nothing is kept of it but the names of its files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import chain
from uuid import UUID
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from django.contrib.auth.base_user import AbstractBaseUser
from django.utils import timezone
from django.utils.text import capfirst
from django.utils.translation import gettext

from agent_sessions import store
from agent_sessions.exports import export_markdown, record_exported
from agent_sessions.jsonlines import dump_sessions
from agent_sessions.models import (
    AgentSessionQuerySet,
    AgentUser,
    SessionAccess,
)
from agent_sessions.store.owners import User

# Nobody else's business on a shared machine.
_MODE = 0o600 << 16


def export_archive(
    person: AbstractBaseUser,
    rows: AgentSessionQuerySet,
    *,
    channel: SessionAccess.Channel,
    user: User = None,
    reason: str = "",
) -> Iterator[bytes]:
    """
    Yield a ZIP file of what is stored of ``person`` and of their sessions in ``rows``.

    It holds README.txt; sessions.jsonl, as export_sessions() gives it; a transcript of
    each session as Markdown; and user.json, what agents keep about the person. Every
    session is recorded as exported before it is handed out, by ``user`` and for
    ``reason``. Raise what store.record_access() raises.
    """
    theirs = rows.for_user(person)
    recorded = record_exported(
        store.iterate_keys(theirs), rows.db, channel, user, reason
    )
    first = next(recorded, None)
    if first is None:
        _record_person(rows.db, channel, user, reason)
    else:
        recorded = chain([first], recorded)
    sink = _Sink()
    with ZipFile(sink, "w", ZIP_DEFLATED) as archive:
        for name, moment, parts in _files(person, recorded, theirs):
            info = ZipInfo(name, _stamp(moment))
            info.compress_type = ZIP_DEFLATED
            info.external_attr = _MODE
            # Its size is not known, and may be anything.
            with archive.open(info, "w", force_zip64=name.endswith(".jsonl")) as file:
                for part in parts:
                    file.write(part)
                    yield from sink.take()
    yield from sink.take()


def _files(
    person: AbstractBaseUser,
    sessions: Iterator[UUID],
    theirs: AgentSessionQuerySet,
) -> Iterator[tuple[str, datetime, Iterable[bytes]]]:
    now = timezone.now()
    yield "README.txt", now, [_describe(person, theirs.count(), now)]
    yield "user.json", now, [_dump_user(person, theirs.db)]
    keys: list[UUID] = []
    written = _note(sessions, keys)
    yield "sessions.jsonl", now, dump_sessions(written, using=theirs.db, among=theirs)
    for key in keys:
        # It may have changed hands since.
        if (row := theirs.filter(pk=key).first()) is not None:
            name = f"transcripts/{row.created_at:%Y-%m-%d}-{key}.md"
            yield name, row.updated_at, export_markdown(row)


def _note(sessions: Iterator[UUID], keys: list[UUID]) -> Iterator[UUID]:
    for key in sessions:
        keys.append(key)
        yield key


def _record_person(
    using: str, channel: SessionAccess.Channel, user: User, reason: str
) -> None:
    store.record_access(
        SessionAccess.Action.EXPORTED,
        channel=channel,
        user=user,
        reason=reason,
        using=using,
    )


def _stamp(moment: datetime) -> tuple[int, int, int, int, int, int]:
    # What the format can say; sessions bring their own times.
    earliest, latest = (1980, 1, 1, 0, 0, 0), (2107, 12, 31, 23, 59, 58)
    return min(max(moment.timetuple()[:6], earliest), latest)


def _describe(person: AbstractBaseUser, count: int, now: datetime) -> bytes:
    lines = [
        gettext("What is stored of your sessions with AI agents"),
        "",
        f"{gettext('User')}: {person.get_username()}",
        f"{gettext('Exported')}: {now.isoformat(timespec='seconds')}",
        f"{capfirst(gettext('sessions'))}: {count}",
        "",
        gettext("transcripts/ holds each session as text to read."),
        gettext("sessions.jsonl holds all of the sessions for programs to read."),
        gettext("user.json holds what agents keep about you across sessions."),
        "",
    ]
    return "\n".join(lines).encode()


def _dump_user(person: AbstractBaseUser, using: str) -> bytes:
    row = AgentUser.objects.using(using).for_user(person).first()
    facts = {
        "user": str(person.pk),
        "username": person.get_username(),
        "metadata": {} if row is None else row.metadata,
        "created_at": None if row is None else row.created_at.isoformat(),
        "updated_at": None if row is None else row.updated_at.isoformat(),
    }
    return json.dumps(facts, ensure_ascii=False, indent=2).encode() + b"\n"


class _Sink:
    """A file that cannot seek, and hands on what was written to it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def take(self) -> Iterator[bytes]:
        parts, self._parts = self._parts, []
        yield from parts
