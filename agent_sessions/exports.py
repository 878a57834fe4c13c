"""Sessions as a file: JSON to go on with, Markdown to read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from uuid import UUID

from django.utils.translation import gettext

from agent_sessions import store
from agent_sessions.jsonlines import SESSIONS_AT_ONCE, dump_sessions
from agent_sessions.models import AgentSession, AgentSessionQuerySet, SessionAccess
from agent_sessions.store.owners import User
from agent_sessions.transcript.markdown import write_markdown


def export_sessions(
    rows: AgentSessionQuerySet,
    *,
    channel: SessionAccess.Channel,
    as_markdown: bool = False,
    user: User = None,
    reason: str = "",
) -> Iterator[bytes]:
    """
    Yield these sessions as JSON Lines, or one after the other as Markdown.

    In the order of their UUIDs, few items at a time. A session is recorded as exported,
    by ``user`` and for ``reason``, before it is handed out. Raise what
    store.record_access() raises.
    """
    keys = record_exported(store.iterate_keys(rows), rows.db, channel, user, reason)
    if not as_markdown:
        yield from dump_sessions(keys, using=rows.db, among=rows)
        return
    separator = b""
    for key in keys:
        if (row := rows.filter(pk=key).first()) is not None:
            yield separator
            yield from export_markdown(row)
            separator = b"\n"


def record_exported(
    keys: Iterator[UUID],
    using: str,
    channel: SessionAccess.Channel,
    user: User,
    reason: str,
) -> Iterator[UUID]:
    """Yield these sessions, each once it is recorded as exported."""
    while page := list(islice(keys, SESSIONS_AT_ONCE)):
        store.record_access(
            SessionAccess.Action.EXPORTED,
            channel=channel,
            sessions=page,
            user=user,
            reason=reason,
            using=using,
        )
        yield from page


def export_json(session: AgentSession) -> Iterator[bytes]:
    """Yield one JSON object: what the JSON Lines say, with the items in a list."""
    lines = dump_sessions([session.pk], using=store.row_handle(session).using)
    header = next(lines).strip()
    # Each line but the header is an object with one member, as {"item":{...}}.
    yield header[:-1] + b","
    separator = b""
    for line in lines:
        member = line.strip()[1:-1]
        if member.startswith(b'"end":'):
            break
        if not separator:
            yield member + b',"items":['
            separator = b"\n"
        else:
            yield separator + member.partition(b":")[2]
            separator = b",\n"
    yield b"]}\n" if separator else b'"items":[]}\n'


def export_markdown(session: AgentSession) -> Iterator[bytes]:
    """Yield the session's transcript as Markdown."""
    facts = [
        (gettext("Session"), str(session.pk)),
        (gettext("Session id"), session.session_id),
        (gettext("User"), _spell(session.user_id)),
        (gettext("Created"), _spell(session.created_at)),
        (gettext("Last activity"), _spell(session.updated_at)),
        (gettext("Items"), str(session.item_count)),
    ]
    heading = session.title or gettext("Session %(id)s") % {"id": session.pk}
    for text in write_markdown(heading, facts, store.read_blocks(session)):
        yield text.encode()


def _spell(value: object) -> str:
    if value is None:
        return ""
    return value.isoformat() if isinstance(value, datetime) else str(value)
