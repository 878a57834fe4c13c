from __future__ import annotations

from typing import Any

from django.db import IntegrityError
from django.db.models import F
from django.utils import timezone

from agent_sessions.exceptions import InvalidUser
from agent_sessions.metadata import Metadata, clean_metadata, merge_patch
from agent_sessions.models import AgentUser
from agent_sessions.store.handles import session_alias
from agent_sessions.store.owners import User, required_id, user_exists
from agent_sessions.store.transactions import Attempt, perform, write_transaction


def read_user_metadata(
    user: User = None, *, user_id: Any = None, using: str | None = None
) -> Metadata:
    """
    Return what agents keep about this user; {} if nothing yet.

    Give the user or their key. Raise InvalidUser without either.
    """
    key = required_id(user, user_id)
    alias = session_alias(using)
    rows = AgentUser.objects.using(alias).filter(user_id=key)
    return perform(
        alias, lambda _: rows.values_list("metadata", flat=True).first() or {}
    )


def update_user_metadata(
    changes: Metadata,
    *,
    user: User = None,
    user_id: Any = None,
    using: str | None = None,
) -> Metadata:
    """
    Merge ``changes`` into what agents keep about this user and return the whole.

    A JSON merge patch: a value of None removes its key. Two updates at once both take
    effect. Give the user or their key. Raise InvalidUser without either,
    InvalidMetadata if the result cannot be kept.
    """
    key = required_id(user, user_id)
    alias = session_alias(using)
    clean_metadata(changes)

    def work(attempt: Attempt) -> Metadata:
        rows = AgentUser.objects.using(alias).filter(user_id=key)
        with write_transaction(alias):
            # Takes the row's lock, or makes the row first.
            if not rows.update(updated_at=F("updated_at")):
                # In the caller's transaction the key might fail only at its end.
                if not user_exists(key, using=alias):
                    raise InvalidUser("The user is not in the database.")
                row = AgentUser(user_id=key)
                AgentUser.objects.using(alias).bulk_create([row], ignore_conflicts=True)
                rows.update(updated_at=F("updated_at"))
            locked = rows.select_for_update()
            stored = locked.values_list("metadata", flat=True).get()
            metadata = clean_metadata(merge_patch(stored, changes))
            rows.update(metadata=metadata, updated_at=timezone.now())
        return metadata

    try:
        return perform(alias, work)
    except IntegrityError:
        if user_exists(key, using=alias):
            raise
        raise InvalidUser("The user is not in the database.") from None
