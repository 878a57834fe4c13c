"""
Letting go of what nobody needs any more, by criteria instead of by name.

Nothing is kept of how far a run came: sessions go whole, a hundred in one transaction,
and the next run finds the rest.
"""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from agent_sessions.conf import conf
from agent_sessions.exceptions import InvalidCriteria
from agent_sessions.models import AgentSession, AgentSessionQuerySet
from agent_sessions.store.handles import session_alias
from agent_sessions.store.selections import (
    Deleted,
    count_rows,
    delete_rows,
    iterate_keys,
)

# A database counts no further.
_MOST = 2**31 - 1


def prune_sessions(
    *,
    older_than: timedelta | None = None,
    archived: bool = False,
    orphaned: bool = False,
    anonymous: bool = False,
    empty: bool = False,
    keep_latest: int | None = None,
    dry_run: bool = False,
    using: str | None = None,
) -> Deleted:
    """
    Delete the sessions that meet all the criteria; return how many, and their items.

    Age runs from the last activity; without ``older_than`` it is that of
    AGENT_SESSIONS_RETENTION_DAYS, if set. ``keep_latest`` spares so many of each user's
    newest sessions, and all that have no user. A session that is used meanwhile stays.
    With ``dry_run`` they are only counted. Raise InvalidCriteria if there are none, if
    they exclude each other, or are negative.
    """
    if older_than is None and conf.AGENT_SESSIONS_RETENTION_DAYS is not None:
        older_than = timedelta(days=conf.AGENT_SESSIONS_RETENTION_DAYS)
    flags = archived or orphaned or anonymous or empty
    if not flags and older_than is None and keep_latest is None:
        raise InvalidCriteria(
            "Say which sessions to prune, or set AGENT_SESSIONS_RETENTION_DAYS."
        )
    if orphaned and anonymous:
        raise InvalidCriteria("No session is both orphaned and anonymous.")
    if keep_latest is not None and (orphaned or anonymous):
        raise InvalidCriteria("Only sessions of a user can be among the user's latest.")
    if keep_latest is not None and keep_latest < 0:
        raise InvalidCriteria("The number of sessions to keep cannot be negative.")
    alias = session_alias(using)
    rows = _idle(AgentSession.objects.using(alias), older_than)
    if archived:
        rows = rows.archived()
    if orphaned:
        rows = rows.orphaned()
    if anonymous:
        rows = rows.anonymous()
    if empty:
        rows = rows.empty()
    chosen = rows
    if keep_latest is not None:
        chosen = rows.beyond_latest(min(keep_latest, _MOST))
    if dry_run:
        return count_rows(iterate_keys(chosen), using=alias)
    # What is not asked again under the lock is whose latest it is: activity, which
    # alone can make it that, is.
    return delete_rows(iterate_keys(chosen), rows)


def _idle(
    rows: AgentSessionQuerySet, older_than: timedelta | None
) -> AgentSessionQuerySet:
    now = timezone.now()
    if older_than is None:
        return rows.idle_since(now)
    if older_than < timedelta(0):
        raise InvalidCriteria("The age of sessions to prune cannot be negative.")
    try:
        return rows.idle_since(now - older_than)
    except OverflowError:
        raise InvalidCriteria("No session can be that old.") from None
