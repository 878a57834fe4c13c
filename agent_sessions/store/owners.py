from __future__ import annotations

from hashlib import sha256
from typing import Any, TypeAlias
from uuid import UUID

from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ValidationError

from agent_sessions.exceptions import InvalidUser

User: TypeAlias = AbstractBaseUser | AnonymousUser | None


def owner_id(user: User) -> Any:
    """
    Return the user's primary key; None for no user and for AnonymousUser.

    A lazy ``request.user`` is resolved here. Raise InvalidUser for a user that is not
    saved or was deleted: to take those for anonymous would share their sessions.
    """
    if user is None or getattr(user, "is_anonymous", False):
        return None
    model = get_user_model()
    # isinstance() sees through SimpleLazyObject, which reports the class it wraps.
    if not isinstance(user, model):
        raise InvalidUser(
            f"user is of type {type(user).__name__}, not {model.__name__}. "
            "DjangoSession takes a primary key as user_id."
        )
    # A UUID key has its default before the row exists: ask the state as well.
    if user.pk is None or user._state.adding:
        raise InvalidUser("The user is not saved, or was deleted.")
    return user.pk


def required_id(user: User, user_id: object) -> Any:
    """Return the user's key, or the one given. Raise InvalidUser without either."""
    key = clean_user_id(user_id) if user is None else owner_id(user)
    if key is None:
        raise InvalidUser("Give a user, or a user's key.")
    return key


def spell_user(key: Any) -> str:
    """
    Return a user's key as text that may outlive the user.

    Numbers and UUIDs say nothing. Other keys are names or addresses: their SHA-256.
    """
    if isinstance(key, int | UUID):
        return str(key)
    return f"sha256:{sha256(str(key).encode()).hexdigest()}"


def clean_user_id(user_id: object) -> Any:
    """
    Return ``user_id`` as the user model's key type, so that "5" is 5.

    None stays None and means no user. Raise InvalidUser for what cannot be a key.
    """
    if user_id is None:
        return None
    kind = type(user_id).__name__
    # to_python() would take True for 1 and 3.9 for 3.
    if isinstance(user_id, bool | float | bytes):
        raise InvalidUser(f"user_id of type {kind} is not a user's key.")
    key = get_user_model()._meta.pk
    try:
        # A user whose key is itself a relation has the related row's key.
        while key.remote_field is not None:
            key = key.remote_field.model._meta.pk
        value = key.to_python(user_id)
    except (ValidationError, OverflowError):
        raise InvalidUser(f"user_id of type {kind} is not a user's key.") from None
    if isinstance(value, int):
        if not 0 <= value < 2**63:
            raise InvalidUser("user_id is out of range.")
        # int() takes "1_0" and "٣" as well: somebody else than was meant.
        if isinstance(user_id, str) and not (user_id.isascii() and user_id.isdigit()):
            raise InvalidUser(f"user_id of type {kind} is not a user's key.")
    return value


def user_exists(user_id: Any, *, using: str) -> bool:
    model = get_user_model()
    return model._base_manager.using(using).filter(pk=user_id).exists()
