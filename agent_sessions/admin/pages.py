"""Which page of a transcript an address asks for, and the addresses of the others."""

from __future__ import annotations

from django.http import HttpRequest

from agent_sessions import store
from agent_sessions.models import AgentSession
from agent_sessions.store.transcripts import TranscriptPage

PAGE_SIZE = 100

# Of a longer text the page shows the start; its item's own page has more.
TEXT_LIMIT = 20_000


def read_page(request: HttpRequest, row: AgentSession) -> TranscriptPage:
    """Return the page that is asked for; the newest by default."""
    if "first" in request.GET:
        place: dict[str, int] = {"after": -1}
    elif (position := _position(request, "at")) is not None:
        # What is asked for stands in the middle.
        place = {"before": position + PAGE_SIZE // 2}
    elif (position := _position(request, "after")) is not None:
        place = {"after": position}
    elif (position := _position(request, "before")) is not None:
        place = {"before": position}
    else:
        place = {}
    return store.read_transcript_page(
        row, size=PAGE_SIZE, text_limit=TEXT_LIMIT, with_usage=True, **place
    )


def page_links(request: HttpRequest, page: TranscriptPage) -> dict[str, str]:
    """Return the queries that lead to the pages around this one."""
    kept = request.GET.copy()
    for name in ("first", "at", "after", "before"):
        kept.pop(name, None)
    rest = kept.urlencode()

    def link(query: str) -> str:
        return "?" + "&".join(part for part in (query, rest) if part)

    links: dict[str, str] = {}
    if page.has_older:
        links |= {"first": link("first="), "older": link(f"before={page.first}")}
    if page.has_newer:
        links |= {"newer": link(f"after={page.last}"), "last": link("")}
    return links


def _position(request: HttpRequest, name: str) -> int | None:
    value = request.GET.get(name, "")
    if not (value.isascii() and value.isdigit() and len(value) <= 9):
        return None
    return int(value)
