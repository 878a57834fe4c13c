"""
How support finds a session: by what stands in a log, by whose it is, by its title.

Each step looks for keys, within bounds, so that the list itself stays one query that
an index answers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.db.models import Q

from agent_sessions.exceptions import InvalidSessionId, InvalidUser
from agent_sessions.identifiers import clean_session_id
from agent_sessions.models import AgentSessionQuerySet, SessionItem
from agent_sessions.store.owners import clean_user_id

TEXT_PREFIX = "text:"
REASON_WORD = "reason:"

USER_LIMIT = 200
TITLE_LIMIT = 1000
TEXT_SESSION_LIMIT = 1000
TEXT_ITEM_LIMIT = 200_000


@dataclass
class Found:
    """Which sessions a search found, and what the page has to say about its bounds."""

    rows: AgentSessionQuerySet
    is_user_limit_reached: bool = False
    searched_sessions: int | None = field(default=None)


@dataclass(frozen=True)
class TextSearch:
    """``text:words``, or ``text:words reason:why``."""

    words: str
    reason: str


def parse_text_search(term: str) -> TextSearch | None:
    """Return what to look for in texts; None if the term does not ask for that."""
    if not term.lower().startswith(TEXT_PREFIX):
        return None
    words, _, reason = term[len(TEXT_PREFIX) :].partition(REASON_WORD)
    return TextSearch(words.strip(), reason.strip())


def find_sessions(rows: AgentSessionQuerySet, term: str, *, in_titles: bool) -> Found:
    """
    Return those of ``rows`` that the term names.

    A whole session id or UUID names exactly that session, a whole e-mail address
    exactly that user; anything else is looked for in users' names and addresses and,
    with ``in_titles``, in titles and previews.
    """
    if named := _find_named(rows, term):
        return Found(rows.filter(pk__in=named))
    users, exact = _find_users(rows, term)
    matches = Q(user__in=users[:USER_LIMIT])
    with suppress(InvalidUser):
        matches |= Q(user=clean_user_id(term))
    if in_titles and not exact:
        titles = Q(title__icontains=term) | Q(preview__icontains=term)
        newest = rows.filter(titles).values_list("pk", flat=True)
        matches |= Q(pk__in=list(newest[:TITLE_LIMIT]))
    return Found(rows.filter(matches), is_user_limit_reached=len(users) > USER_LIMIT)


def find_in_texts(rows: AgentSessionQuerySet, words: str) -> Found:
    """
    Return those of the newest ``rows`` in whose items the words stand.

    At most 1,000 sessions, and as many as hold 200,000 items.
    """
    keys: list[UUID] = []
    items = 0
    for pk, count in rows.values_list("pk", "item_count")[:TEXT_SESSION_LIMIT]:
        items += count
        if keys and items > TEXT_ITEM_LIMIT:
            break
        keys.append(pk)
    # As the words stand in JSON: a quote has its backslash there.
    quoted = json.dumps(words, ensure_ascii=False)[1:-1]
    hits = SessionItem.objects.using(rows.db).filter(
        session__in=keys, data__icontains=quoted
    )
    found = set(hits.order_by().values_list("session_id", flat=True).distinct())
    return Found(rows.filter(pk__in=found), searched_sessions=len(keys))


def user_search_fields() -> list[str]:
    """Return the names of the user model's fields for its user name and e-mail."""
    model = get_user_model()
    names = [model.USERNAME_FIELD]
    if hasattr(model, "get_email_field_name"):
        names.append(model.get_email_field_name())
    return [name for name in dict.fromkeys(names) if _is_text(model, name)]


def _is_text(model: type[models.Model], name: str) -> bool:
    try:
        return isinstance(
            model._meta.get_field(name), models.CharField | models.TextField
        )
    except FieldDoesNotExist:
        return False


def _find_named(rows: AgentSessionQuerySet, term: str) -> list[UUID]:
    named = Q()
    with suppress(InvalidSessionId):
        named |= Q(session_id=clean_session_id(term))
    with suppress(ValueError):
        named |= Q(pk=UUID(term))
    if not named:
        return []
    # From all sessions: the filters of the list are applied by whoever asked.
    return list(rows.order_by().filter(named).values_list("pk", flat=True))


def _find_users(rows: AgentSessionQuerySet, term: str) -> tuple[list[Any], bool]:
    """Return the keys of users that the term is about, and whether it names one."""
    names = user_search_fields()
    wanted = Q()
    for name in names:
        wanted |= Q(**{f"{name}__icontains": term})
    if not wanted:
        return [], False
    users = get_user_model()._default_manager.using(rows.db).filter(wanted)
    found = list(users.order_by().values_list("pk", *names)[: USER_LIMIT + 1])
    exact = [pk for pk, *values in found if "@" in term and _is_one(term, values)]
    return exact or [pk for pk, *_ in found], bool(exact)


def _is_one(term: str, values: Iterable[str | None]) -> bool:
    return term.casefold() in {(value or "").casefold() for value in values}
