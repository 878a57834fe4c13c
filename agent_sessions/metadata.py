from __future__ import annotations

import json
from contextlib import suppress
from typing import Any, TypeAlias

from agent_sessions.conf import conf
from agent_sessions.exceptions import InvalidMetadata

Metadata: TypeAlias = dict[str, Any]

# MariaDB's JSON takes 31 levels; one is room for a path that queries it.
DEEPEST = 30


def clean_metadata(metadata: object) -> Metadata:
    """
    Return ``metadata`` if every database keeps it the same.

    Its bytes as UTF-8 JSON, its levels and its keys at all levels are bounded by
    AGENT_SESSIONS_METADATA_MAX_BYTES, _MAX_DEPTH and _MAX_KEYS. Raise InvalidMetadata
    if it is not a JSON object, is larger, or holds NUL, lone surrogates, NaN or keys
    that are not strings.
    """
    if not isinstance(metadata, dict):
        raise InvalidMetadata(
            f"Metadata is a JSON object, not {type(metadata).__name__}."
        )
    keys = _count_keys(metadata, depth=1)
    if keys > (most := conf.AGENT_SESSIONS_METADATA_MAX_KEYS):
        raise InvalidMetadata(
            f"Metadata has {keys} keys; AGENT_SESSIONS_METADATA_MAX_KEYS allows {most}."
        )
    size = None
    with suppress(TypeError, ValueError):
        size = len(json.dumps(metadata, ensure_ascii=False, allow_nan=False).encode())
    if size is None:
        # The error that told so holds the metadata, and is not kept as a context.
        raise InvalidMetadata(
            "Metadata holds a value that is not JSON: NaN, an infinity, a lone "
            "surrogate, or a type that JSON does not know."
        )
    limit = conf.AGENT_SESSIONS_METADATA_MAX_BYTES
    if size > limit:
        raise InvalidMetadata(
            f"Metadata takes {size} bytes; AGENT_SESSIONS_METADATA_MAX_BYTES allows "
            f"{limit}."
        )
    return metadata


def merge_patch(metadata: Metadata, changes: Metadata) -> Metadata:
    """
    Return ``metadata`` with ``changes`` merged in; a value of None removes its key.

    Source: RFC 7396, JSON Merge Patch.
    """
    merged = dict(metadata)
    for key, value in changes.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            below = merged.get(key)
            merged[key] = merge_patch(below if isinstance(below, dict) else {}, value)
        else:
            merged[key] = value
    return merged


def _count_keys(value: object, *, depth: int) -> int:
    """Return how many keys there are at all levels; refuse what is no plain JSON."""
    limit = min(conf.AGENT_SESSIONS_METADATA_MAX_DEPTH, DEEPEST)
    if depth > limit and isinstance(value, dict | list | tuple):
        raise InvalidMetadata(
            f"Metadata is more than {limit} levels deep, which is what "
            "AGENT_SESSIONS_METADATA_MAX_DEPTH allows."
        )
    # PostgreSQL's jsonb refuses NUL; json would turn a key 1 into "1" in silence.
    if isinstance(value, str) and "\0" in value:
        raise InvalidMetadata("Metadata cannot hold NUL characters.")
    if isinstance(value, dict):
        count = len(value)
        for key, child in value.items():
            if not isinstance(key, str):
                raise InvalidMetadata("The keys of metadata are strings.")
            _count_keys(key, depth=depth)
            count += _count_keys(child, depth=depth + 1)
        return count
    if isinstance(value, list | tuple):
        return sum(_count_keys(child, depth=depth + 1) for child in value)
    return 0
