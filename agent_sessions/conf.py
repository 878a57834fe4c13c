from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

from django.conf import settings
from django.core.signals import setting_changed


class Settings:
    """
    The app's settings, read from the project's once, and again when a test changes one.

    Django keeps no defaults for a reusable app's settings: to find that one is missing
    takes it longer than most of what a store call does.
    """

    @cached_property
    def AGENT_SESSIONS_ACCESS_USER(self) -> str | None:
        """Path of a function that tells from a request who really looks at sessions."""
        return getattr(settings, "AGENT_SESSIONS_ACCESS_USER", None)

    @cached_property
    def AGENT_SESSIONS_API_CLIENT_IDS(self) -> bool:
        """Whether callers of the REST API may choose the ids of their new sessions."""
        return getattr(settings, "AGENT_SESSIONS_API_CLIENT_IDS", False)

    @cached_property
    def AGENT_SESSIONS_LOCK_TIMEOUT(self) -> float:
        """Seconds that a write may wait for another transaction's lock."""
        return getattr(settings, "AGENT_SESSIONS_LOCK_TIMEOUT", 5)

    @cached_property
    def AGENT_SESSIONS_MAX_ITEM_BYTES(self) -> int | None:
        """Bytes that an item may take as UTF-8 JSON; None for any number."""
        return getattr(settings, "AGENT_SESSIONS_MAX_ITEM_BYTES", None)

    @cached_property
    def AGENT_SESSIONS_MAX_ITEMS(self) -> int | None:
        """Items that a session may have; None for any number."""
        return getattr(settings, "AGENT_SESSIONS_MAX_ITEMS", None)

    @cached_property
    def AGENT_SESSIONS_MAX_SESSIONS(self) -> int | None:
        """Sessions that a user may have; None for any number."""
        return getattr(settings, "AGENT_SESSIONS_MAX_SESSIONS", None)

    @cached_property
    def AGENT_SESSIONS_METADATA_MAX_BYTES(self) -> int:
        """Bytes that the metadata of one session or user may take as UTF-8 JSON."""
        return getattr(settings, "AGENT_SESSIONS_METADATA_MAX_BYTES", 16_384)

    @cached_property
    def AGENT_SESSIONS_METADATA_MAX_DEPTH(self) -> int:
        """Levels that metadata may nest; an object of plain values has one."""
        return getattr(settings, "AGENT_SESSIONS_METADATA_MAX_DEPTH", 20)

    @cached_property
    def AGENT_SESSIONS_METADATA_MAX_KEYS(self) -> int:
        """Keys that metadata may have, those of all its levels together."""
        return getattr(settings, "AGENT_SESSIONS_METADATA_MAX_KEYS", 256)

    @cached_property
    def AGENT_SESSIONS_ON_USER_DELETE(self) -> Literal["keep", "delete"]:
        """What deleting a user does to their sessions: keep as orphans, or delete."""
        return getattr(settings, "AGENT_SESSIONS_ON_USER_DELETE", "keep")

    @cached_property
    def AGENT_SESSIONS_PORTABLE(self) -> bool:
        """Whether to use plain ORM where there are statements for the database."""
        return getattr(settings, "AGENT_SESSIONS_PORTABLE", False)

    @cached_property
    def AGENT_SESSIONS_PREPARE(self) -> bool:
        """Whether connections to PostgreSQL keep the plans of the hot statements."""
        return getattr(settings, "AGENT_SESSIONS_PREPARE", True)

    @cached_property
    def AGENT_SESSIONS_RENDER_MARKDOWN(self) -> bool:
        """Whether the admin shows what agents say as Markdown; needs [markdown]."""
        return getattr(settings, "AGENT_SESSIONS_RENDER_MARKDOWN", False)

    @cached_property
    def AGENT_SESSIONS_REQUIRE_REASON(self) -> bool:
        """Whether an access to what was said is refused without a reason."""
        return getattr(settings, "AGENT_SESSIONS_REQUIRE_REASON", False)

    @cached_property
    def AGENT_SESSIONS_RETENTION_DAYS(self) -> int | None:
        """Days after its last activity that a session may be pruned; None keeps all."""
        return getattr(settings, "AGENT_SESSIONS_RETENTION_DAYS", None)

    @cached_property
    def AGENT_SESSIONS_SHOW_CONTENT(self) -> bool:
        """Whether anybody may read in the admin what was said in sessions."""
        return getattr(settings, "AGENT_SESSIONS_SHOW_CONTENT", True)

    @cached_property
    def AGENT_SESSIONS_THREADS(self) -> int:
        """Threads, hence connections, that serve event loops outside a request."""
        return getattr(settings, "AGENT_SESSIONS_THREADS", 8)


conf = Settings()


def _forget(*, setting: str, **kwargs: Any) -> None:
    vars(conf).pop(setting, None)


setting_changed.connect(_forget)
