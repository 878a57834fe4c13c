from __future__ import annotations

from typing import Any


class TogetherOnOther:
    """Users and sessions live on "other", nothing else does."""

    apps = frozenset({"agent_sessions", "auth", "contenttypes", "people"})

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return "other" if model._meta.app_label in self.apps else None

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return db == "other" if app_label in self.apps else None


class SessionsOnOther(TogetherOnOther):
    """Sessions are parted from their users."""

    apps = frozenset({"agent_sessions"})


class ReadsOnOther:
    """What asks a router reads from a replica."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "other"

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"
