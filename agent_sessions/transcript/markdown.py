"""
A transcript as Markdown, for a ticket.

Whatever people and models wrote stands inside fences that it cannot close, so nothing
in it is read as Markdown or HTML.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import singledispatch

from django.utils.translation import gettext, ngettext

from agent_sessions.transcript.blocks import (
    Approval,
    Block,
    Broken,
    Compaction,
    Encrypted,
    Handoff,
    Message,
    Reasoning,
    Reference,
    ToolCall,
    ToolList,
    ToolOutput,
    Unknown,
)
from agent_sessions.transcript.parts import Attachment, Code, Part, Refusal, Text


def write_markdown(
    heading: str, facts: Iterable[tuple[str, str]], blocks: Iterable[Block]
) -> Iterator[str]:
    """Yield a document: the heading, a list of names and values, then the blocks."""
    yield f"# {_inline(heading)}\n\n"
    for name, value in facts:
        yield f"- {_inline(name)}: {inline_code(value)}\n"
    turn: int | None = None
    replaced_at: datetime | None = None
    for block in blocks:
        if block.replaced_at != replaced_at:
            replaced_at = block.replaced_at
            yield f"\n---\n\n{_inline(_replacement(replaced_at))}\n"
        if block.turn != turn:
            turn = block.turn
            yield f"\n## {_inline(_turn_heading(block))}\n"
        yield write_block(block)


def write_block(block: Block) -> str:
    """Return one block, which begins with an empty line."""
    return "".join(_write(block))


def fence(text: str, language: str = "") -> str:
    """Return ``text`` as a code block that nothing in it can end."""
    ticks = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, ticks + 1)
    end = "" if text.endswith("\n") else "\n"
    return f"\n{fence}{language}\n{text}{end}{fence}\n"


def inline_code(text: str) -> str:
    """Return ``text`` on one line, as code that nothing in it can end."""
    text = " ".join(text.split())
    if not text:
        return ""
    ticks = max((len(run) for run in re.findall("`+", text)), default=0)
    mark = "`" * (ticks + 1)
    pad = " " if "`" in text else ""
    return f"{mark}{pad}{text}{pad}{mark}"


@singledispatch
def _write(block: Block) -> Iterator[str]:
    yield _head(block, block.kind)


@_write.register
def _(block: Message) -> Iterator[str]:
    yield _head(block, block.speaker, *block.remarks)
    yield from _parts(block.parts)
    if block.extra is not None:
        yield fence(block.extra.text, "json")


@_write.register
def _(block: Reasoning) -> Iterator[str]:
    yield _head(block, gettext("Reasoning"), _encrypted(block.encrypted_length))
    yield from _parts(block.parts)


@_write.register
def _(block: ToolCall) -> Iterator[str]:
    name = f"{block.namespace} {block.name}".strip()
    yield _head(block, block.tool, block.state, code=name)
    yield from _parts(block.input)
    yield from _parts(block.results)
    if block.error is not None:
        yield _note(gettext("Error"))
        yield fence(block.error.text, block.error.language)
    yield from _answer(block)


@_write.register
def _(block: Handoff) -> Iterator[str]:
    yield _head(block, gettext("Handoff to"), code=block.target)
    yield from _parts(block.input)


@_write.register
def _(block: Approval) -> Iterator[str]:
    name = f"{block.namespace} {block.name}".strip()
    yield _head(block, gettext("Approval asked for"), code=name)
    yield from _parts(block.input)
    yield from _answer(block)


@_write.register
def _(block: ToolOutput) -> Iterator[str]:
    yield _head(block, gettext("Output"), block.tool, block.state)
    if block.call_position is None:
        yield _note(gettext("Its call is not among the items before."))
    yield from _parts(block.parts)


@_write.register
def _(block: ToolList) -> Iterator[str]:
    yield _head(block, gettext("Tools on offer"), code=block.server)
    yield fence("\n".join(block.names))
    if block.error is not None:
        yield fence(block.error.text, block.error.language)


@_write.register
def _(block: Compaction) -> Iterator[str]:
    yield _head(block, gettext("Summary for the model"))
    yield _note(_encrypted(block.encrypted_length))


@_write.register
def _(block: Reference) -> Iterator[str]:
    yield _head(block, gettext("Item kept elsewhere"), code=block.id)


@_write.register
def _(block: Encrypted) -> Iterator[str]:
    yield _head(block, gettext("Encrypted item"), code=block.key_id)
    yield _note(_encrypted(block.length))


@_write.register
def _(block: Unknown) -> Iterator[str]:
    yield _head(block, gettext("Unknown item"), code=block.type)
    yield fence(block.data.text, "json")


@_write.register
def _(block: Broken) -> Iterator[str]:
    yield _head(block, gettext("Broken row"))
    yield fence(block.data.text)


def _head(block: Block, what: str, *details: str, code: str = "") -> str:
    more = ", ".join(_inline(detail) for detail in details if detail)
    words = f"**{_inline(what)}**"
    if code:
        words += f" {inline_code(code)}"
    if more:
        words += f" ({more})"
    return f"\n{words} · {_moment(block.created_at)} · #{block.position}\n"


def _parts(parts: tuple[Part, ...]) -> Iterator[str]:
    for part in parts:
        match part:
            case Text():
                yield fence(part.text)
                for citation in part.citations:
                    target = inline_code(citation.target)
                    yield f"\n- {inline_code(citation.title)} {target}".rstrip() + "\n"
            case Code():
                yield fence(part.text, part.language)
            case Refusal():
                yield _note(gettext("Refusal"))
                yield fence(part.text)
            case Attachment():
                yield _attachment(part)


def _answer(block: ToolCall) -> Iterator[str]:
    if block.output is not None:
        status = block.output.state
        label = gettext("Output")
        yield _note(
            f"{label}: {status} · #{block.output.position}"
            if status
            else f"{label} · #{block.output.position}"
        )
        yield from _parts(block.output.parts)
    elif not block.is_answered:
        yield _note(gettext("No output among the items that follow."))


def _attachment(part: Attachment) -> str:
    size = ngettext("%(count)s byte", "%(count)s bytes", part.size or 0)
    facts = [part.media_type, part.name, part.reference]
    if part.size is not None:
        facts.append(size % {"count": part.size})
    spelled = " ".join(inline_code(fact) for fact in facts if fact)
    return f"\n*{_inline(part.label)}* {spelled}".rstrip() + "\n"


def _note(text: str) -> str:
    return f"\n*{_inline(text)}*\n" if text else ""


def _encrypted(length: int) -> str:
    if not length:
        return ""
    words = ngettext(
        "encrypted, %(count)s character", "encrypted, %(count)s characters", length
    )
    return words % {"count": length}


def _replacement(replaced_at: datetime | None) -> str:
    if replaced_at is None:
        return gettext("From here on the agent reads the items.")
    words = gettext("Replaced by compaction at %(time)s; the agent no longer reads it.")
    return words % {"time": _moment(replaced_at)}


def _turn_heading(block: Block) -> str:
    if not block.turn:
        return gettext("Before the first turn")
    words = gettext("Turn %(number)s · %(time)s")
    return words % {"number": block.turn, "time": _moment(block.created_at)}


def _moment(moment: datetime) -> str:
    return moment.isoformat(sep=" ", timespec="seconds")


def _inline(text: str) -> str:
    # Roles and states are somebody's words where they are not ours.
    line = " ".join(text.split())
    return re.sub(r"([\\`*_{}\[\]<>()#+!|&~:$@-])", r"\\\1", line)
