"""What a run says while it runs, as server-sent events for all who listen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from agents import RunResultStreaming

# Proxies close what is silent for long.
PING_SECONDS = 15.0


class Talk:
    """
    A run's events, kept while it runs.

    Who comes late, or comes back, hears them from the start, or from the number where
    the connection broke.
    """

    def __init__(self) -> None:
        self.is_stopped = False
        # What was said and is not yet in the session.
        self.half_answer = ""
        self._result: RunResultStreaming | None = None
        self._events: list[bytes] = []
        self._ended = False
        self._news = asyncio.Event()

    async def follow(self, result: RunResultStreaming) -> None:
        """Tell what the run does until it ends. Raise what it raises."""
        self._result = result
        if self.is_stopped:
            result.cancel()
        async for event in result.stream_events():
            if event.type == "raw_response_event":
                if event.data.type == "response.output_text.delta":
                    self.half_answer += event.data.delta
                    self._tell("text", event.data.delta)
            elif event.type == "run_item_stream_event":
                self._tell_of_tool(event.name, event.item)

    def _tell_of_tool(self, name: str, item: Any) -> None:
        if name == "tool_called":
            # Tools that the model's provider runs itself have no arguments to show.
            arguments = getattr(item.raw_item, "arguments", "")
            tool = {"name": getattr(item.raw_item, "name", ""), "arguments": arguments}
            self._tell("tool", tool)
        elif name == "tool_output":
            self.half_answer = ""
            self._tell("tool_done", str(item.output))

    def stop(self) -> None:
        """Have the run end where it is; what it stored stays."""
        self.is_stopped = True
        if self._result is not None:
            self._result.cancel()

    def end(self, state: str) -> None:
        self._ended = True
        self._tell("end", state)

    async def listen(self, after: int = 0) -> AsyncIterator[bytes]:
        """Yield the events behind number ``after``, then each as it comes."""
        while True:
            news = self._news
            # Not a slice: while one is sent, others come.
            while after < len(self._events):
                yield self._events[after]
                after += 1
            if self._ended:
                return
            try:
                await asyncio.wait_for(news.wait(), PING_SECONDS)
            except TimeoutError:
                yield b": still there\n\n"

    def _tell(self, name: str, data: Any) -> None:
        self._events.append(sse(name, data, number=len(self._events) + 1))
        self._news.set()
        self._news = asyncio.Event()


def sse(name: str, data: Any, number: int | None = None) -> bytes:
    """Return one event as it goes over the wire; JSON keeps line breaks out of it."""
    head = "" if number is None else f"id: {number}\n"
    return f"{head}event: {name}\ndata: {json.dumps(data)}\n\n".encode()
