"""
Who looks at what others said, and whether they may: asked alike in the admin and over
HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.utils.module_loading import import_string

from agent_sessions import store
from agent_sessions.conf import conf
from agent_sessions.models import SessionAccess

if TYPE_CHECKING:
    from django.contrib.auth.models import PermissionsMixin

    Person: TypeAlias = AbstractBaseUser | AnonymousUser | PermissionsMixin


def may_read(user: Person) -> bool:
    """Tell whether the user may see what others said: texts, titles and metadata."""
    return conf.AGENT_SESSIONS_SHOW_CONTENT and _has_permission(user, "read_transcript")


def may_read_unasked(user: Person) -> bool:
    """
    Tell whether lists may show the user titles, previews and metadata.

    Not where a reason is required: a list has nobody to ask for it.
    """
    return may_read(user) and not conf.AGENT_SESSIONS_REQUIRE_REASON


def may_export(user: Person) -> bool:
    """Tell whether the user may take along what they may see."""
    return may_read(user) and _has_permission(user, "export_session")


def real_user(request: HttpRequest) -> AbstractBaseUser | AnonymousUser:
    """Return who looks, which AGENT_SESSIONS_ACCESS_USER can tell from request.user."""
    path = conf.AGENT_SESSIONS_ACCESS_USER
    if path is None:
        return request.user
    user: AbstractBaseUser | AnonymousUser = import_string(path)(request)
    return user


def record_access(
    request: HttpRequest,
    action: SessionAccess.Action,
    *,
    channel: SessionAccess.Channel = SessionAccess.Channel.ADMIN,
    sessions: Iterable[UUID] = (),
    reason: str = "",
    using: str | None = None,
) -> None:
    """
    Keep that the person behind the request sees, takes along or searches content.

    Call it before the content is handed out. Raise what store.record_access() raises.
    """
    store.record_access(
        action,
        channel=channel,
        sessions=sessions,
        user=real_user(request),
        reason=reason,
        using=using,
    )


def _has_permission(user: Person, codename: str) -> bool:
    return bool(user.has_perm(f"agent_sessions.{codename}"))  # type: ignore[union-attr]
