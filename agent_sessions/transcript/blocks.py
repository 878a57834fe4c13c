"""
What a transcript consists of.

A block says what happened and knows nothing of how it is shown. ``kind`` names its
template.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, ClassVar, TypeVar

from agent_sessions.transcript.parts import (
    Code,
    Part,
    Refusal,
    Text,
    gist,
    shorten_part,
)
from agent_sessions.transcript.words import (
    phase_word,
    role_word,
    status_word,
    tool_word,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    kind: ClassVar[str]
    position: int
    turn: int
    created_at: datetime
    replaced_at: datetime | None = None


AnyBlock = TypeVar("AnyBlock", bound=Block)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message(Block):
    """``extra`` are fields that only this message has."""

    kind = "message"
    role: str
    parts: tuple[Part, ...]
    status: str = ""
    phase: str = ""
    extra: Code | None = None

    @property
    def speaker(self) -> str:
        return role_word(self.role)

    @property
    def remarks(self) -> list[str]:
        """Return what is worth saying of the message as such."""
        words = (phase_word(self.phase), status_word(self.status))
        return [word for word in words if word]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reasoning(Block):
    """What the model thought; of encrypted thoughts only how many characters."""

    kind = "reasoning"
    parts: tuple[Part, ...]
    encrypted_length: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolOutput(Block):
    """
    The output of a tool, inside its call or, if that is not at hand, by itself.

    ``call_position`` says where the call is that it belongs to; None if there is none
    among the items around.
    """

    kind = "tool_output"
    family: str
    call_id: str
    parts: tuple[Part, ...]
    name: str = ""
    status: str = ""
    call_position: int | None = None

    @property
    def tool(self) -> str:
        return tool_word(self.family)

    @property
    def state(self) -> str:
        return status_word(self.status)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall(Block):
    """
    A call of a tool with its output.

    ``family`` is the kind of tool, as "function" or "web_search". ``results`` is what
    a hosted tool keeps in the call itself; no output of its own follows then.
    """

    kind = "tool_call"
    family: str
    call_id: str
    name: str
    input: tuple[Part, ...]
    namespace: str = ""
    status: str = ""
    hosted: bool = False
    results: tuple[Part, ...] = ()
    error: Code | None = None
    output: ToolOutput | None = None

    @property
    def tool(self) -> str:
        return tool_word(self.family)

    @property
    def state(self) -> str:
        return status_word(self.status)

    @property
    def gist(self) -> str:
        return gist(self.input)

    @property
    def answer_gist(self) -> str:
        if self.error is not None:
            return gist((self.error,))
        return gist(self.output.parts if self.output else self.results)

    @property
    def is_answered(self) -> bool:
        return self.hosted or self.output is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Handoff(ToolCall):
    """A call by which one agent handed over to another."""

    kind = "handoff"
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval(ToolCall):
    """A question whether a tool may run; ``approved`` is None until it is answered."""

    kind = "approval"
    approved: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolList(Block):
    """The tools that a server, or the agent, offered."""

    kind = "tool_list"
    server: str
    names: tuple[str, ...]
    error: Code | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compaction(Block):
    """The place of a summary that only the model can read."""

    kind = "compaction"
    encrypted_length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference(Block):
    """An item that is kept elsewhere, by its id."""

    kind = "reference"
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Encrypted(Block):
    """An item that the SDK's EncryptedSession wrote."""

    kind = "encrypted"
    key_id: str
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown(Block):
    kind = "unknown"
    type: str
    data: Code


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken(Block):
    """A row that does not hold a JSON object."""

    kind = "broken"
    data: Code


def shorten(block: AnyBlock, limit: int) -> AnyBlock:
    """Return ``block`` with at most ``limit`` characters of each text in it."""
    changes: dict[str, Any] = {}
    for field in fields(block):
        value = getattr(block, field.name)
        if isinstance(value, Text | Code | Refusal):
            changes[field.name] = shorten_part(value, limit)
        elif isinstance(value, tuple) and value and not isinstance(value[0], str):
            changes[field.name] = tuple(shorten_part(part, limit) for part in value)
        elif isinstance(value, ToolOutput):
            changes[field.name] = shorten(value, limit)
    return replace(block, **changes) if changes else block
