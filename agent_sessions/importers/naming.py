"""Ids of other stores' sessions that cannot be kept here as they are."""

from __future__ import annotations

import hashlib
import json
import re

_LEGIBLE = 200


def mend_session_id(session_id: str) -> str:
    """Return an id that can be kept, the same each time and for no other id."""
    mark = hashlib.sha256(session_id.encode(errors="surrogatepass")).hexdigest()[:16]
    plain = re.sub(r"[^\w.:@/+=-]+", "_", session_id[:_LEGIBLE])
    return f"{plain}~{mark}"


def legible_session_id(session_id: str) -> str:
    """Return the id as metadata takes it: NUL and lone surrogates as JSON has them."""
    if "\0" in session_id or not _has_utf8(session_id):
        return json.dumps(session_id)
    return session_id


def _has_utf8(text: str) -> bool:
    return text.encode(errors="replace").decode() == text
