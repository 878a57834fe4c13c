from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse


def stream(
    request: HttpRequest, lines: Iterator[bytes], *, filename: str, content_type: str
) -> StreamingHttpResponse:
    """Return a download that is made while it is sent."""
    chunks = _in_chunks(lines)
    # Under ASGI Django would first read a plain iterator to its end.
    is_async = isinstance(request, ASGIRequest)
    return StreamingHttpResponse(
        _in_thread(chunks) if is_async else chunks,
        content_type=content_type,
        headers={
            "Content-Disposition": f'attachment; filename="{filename}"',
            "X-Content-Type-Options": "nosniff",
        },
    )


def _in_chunks(lines: Iterator[bytes], size: int = 65_536) -> Iterator[bytes]:
    chunk = bytearray()
    for line in lines:
        chunk += line
        if len(chunk) >= size:
            yield bytes(chunk)
            chunk.clear()
    if chunk:
        yield bytes(chunk)


async def _in_thread(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    # One hop for each chunk, on the request's own thread and connection.
    take = sync_to_async(lambda: next(chunks, None))
    while (chunk := await take()) is not None:
        yield chunk
