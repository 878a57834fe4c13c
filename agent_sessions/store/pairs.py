"""Calls of tools and their outputs, which must not be parted, among stored items."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from django.db.models import Q

from agent_sessions.encoding import decode_item
from agent_sessions.fields import RAW
from agent_sessions.models import SessionItemQuerySet
from agent_sessions.transcript.calls import call_key, output_key

OUTPUTS = Q(type__endswith="_output") | Q(type="mcp_approval_response")
CALLS = Q(type__endswith="_call") | Q(type__in=("mcp_approval_request", "program"))

# The family of a call and its id: what the call and its output have in common.
Key: TypeAlias = tuple[str, str]

_CHUNK = 20


def find_unanswered(texts: Iterable[str]) -> set[Key]:
    """Return the keys of the outputs among these items whose calls are not."""
    called: set[Key] = set()
    answered: set[Key] = set()
    for text in texts:
        item = decode_item(text) or {}
        if (key := call_key(item)) is not None:
            called.add(key)
        elif (key := output_key(item)) is not None:
            answered.add(key)
    return answered - called


def find_calls(items: SessionItemQuerySet, keys: set[Key]) -> dict[Key, int]:
    """Return in which turn each of these calls stands, of those among ``items``."""
    missing, found = set(keys), dict[Key, int]()
    if not missing:
        return found
    rows = items.filter(CALLS).order_by("-position").values_list("turn", RAW)
    for turn, text in rows.iterator(chunk_size=_CHUNK):
        key = call_key(decode_item(text) or {})
        if key in missing:
            missing.discard(key)
            found[key] = turn
            if not missing:
                break
    return found
