"""What is inside a block: words, code and what stands in for data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from agent_sessions.transcript.spelling import (
    base64_size,
    data_url,
    read_json,
    spell_json,
    spell_text,
)
from agent_sessions.transcript.words import attachment_word

# How much of a long text is shown at first.
HEAD_LENGTH = 2000
GIST_LENGTH = 90

# URLs and names are for people to recognize, not to follow.
_NAME_LENGTH = 300


@dataclass(frozen=True, slots=True)
class Words:
    """``length`` is that of the whole text, of which ``text`` may be the start."""

    kind: ClassVar[str]
    text: str
    length: int

    @property
    def head(self) -> str:
        """Return what is shown at first, cut between words where there are any."""
        # The last tenth is not worth a click.
        if len(self.text) <= HEAD_LENGTH * 1.1:
            return self.text
        start = self.text[:HEAD_LENGTH]
        for space in ("\n\n", "\n", " "):
            end = start.rfind(space, HEAD_LENGTH // 2)
            if end > 0:
                return start[:end]
        return start

    @property
    def rest(self) -> str:
        """Return what follows the head."""
        return self.text[len(self.head) :]

    @property
    def is_cut(self) -> bool:
        return len(self.text) < self.length


@dataclass(frozen=True, slots=True)
class Citation:
    title: str
    target: str


@dataclass(frozen=True, slots=True)
class Text(Words):
    kind = "text"
    citations: tuple[Citation, ...] = ()


@dataclass(frozen=True, slots=True)
class Code(Words):
    kind = "code"
    language: str = ""


@dataclass(frozen=True, slots=True)
class Refusal(Words):
    kind = "refusal"


@dataclass(frozen=True, slots=True)
class Attachment:
    """
    Data that is not shown: ``type`` is "image", "audio" or "file".

    ``size`` is in bytes, None if the data is elsewhere; ``reference`` then says where.
    """

    kind: ClassVar[str] = "attachment"
    type: str
    media_type: str = ""
    size: int | None = None
    name: str = ""
    reference: str = ""

    @property
    def label(self) -> str:
        return attachment_word(self.type)


Part: TypeAlias = Text | Code | Refusal | Attachment

_TEXTS = {"input_text", "output_text", "reasoning_text", "summary_text", "text"}
_IMAGES = {"computer_screenshot", "image", "image_url", "input_image"}
_FILES = {"file", "input_file"}
_AUDIO = {"audio", "input_audio", "output_audio"}


def text_part(text: str, citations: tuple[Citation, ...] = ()) -> Text:
    text = spell_text(text)
    return Text(text, len(text), citations)


def code_part(text: str, language: str = "") -> Code:
    text = spell_text(text)
    return Code(text, len(text), language)


def json_part(value: Any) -> Code:
    text = spell_json(value)
    return Code(text, len(text), "json")


def read_arguments(value: Any) -> tuple[Part, ...]:
    """Return what a tool was called with: JSON if it is some, else as it stands."""
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        found = read_json(value)
        return (code_part(value) if found is None else json_part(found),)
    return (json_part(value),)


def read_content(value: Any) -> tuple[Part, ...]:
    """Return the parts of a message's content or a tool's output."""
    if value is None or value == "":
        return ()
    if isinstance(value, list):
        return tuple(part for one in value for part in read_part(one))
    return read_part(value)


def read_output(value: Any) -> tuple[Part, ...]:
    """Return the parts of a tool's output, where a text may be JSON or an image."""
    if isinstance(value, str):
        if data_url(value):
            return (read_image({"image_url": value}),)
        found = read_json(value)
        if found is not None:
            return (json_part(found),)
    return read_content(value)


def read_part(value: Any) -> tuple[Part, ...]:
    if isinstance(value, str):
        return (text_part(value),)
    if not isinstance(value, dict):
        return (json_part(value),)
    type = word(value.get("type"))
    text = value.get("text")
    if type in _TEXTS and isinstance(text, str):
        return (text_part(text, read_citations(value.get("annotations"))),)
    refusal = value.get("refusal")
    if type == "refusal" and isinstance(refusal, str):
        refusal = spell_text(refusal)
        return (Refusal(refusal, len(refusal)),)
    if type in _IMAGES:
        return (read_image(value),)
    if type in _FILES:
        return (read_file(value),)
    if type in _AUDIO:
        return (read_audio(value),)
    if "stdout" in value or "stderr" in value:
        return read_shell(value)
    return (json_part(value),)


def read_image(value: dict[str, Any]) -> Attachment:
    url = value.get("image_url") or value.get("url") or value.get("file_url")
    if isinstance(url, dict):
        url = url.get("url")
    return _attachment(
        "image",
        value,
        url=url,
        # MCP's way to say it.
        data=value.get("data"),
        media_type=value.get("mimeType") or value.get("media_type"),
    )


def read_file(value: dict[str, Any]) -> Attachment:
    # Chat completions put all into a field of its own.
    inner = value.get("file")
    fields = {**value, **inner} if isinstance(inner, dict) else value
    return _attachment(
        "file", fields, url=fields.get("file_url"), data=fields.get("file_data")
    )


def read_audio(value: dict[str, Any]) -> Attachment:
    inner = value.get("input_audio") or value.get("audio")
    fields = {**value, **inner} if isinstance(inner, dict) else value
    format = word(fields.get("format"))
    return _attachment(
        "audio",
        fields,
        url=fields.get("audio_url"),
        data=fields.get("data"),
        media_type=f"audio/{format}" if format else fields.get("mimeType"),
    )


def read_shell(value: dict[str, Any]) -> tuple[Part, ...]:
    parts: list[Part] = []
    for name in ("stdout", "stderr"):
        text = value.get(name)
        if isinstance(text, str) and text:
            parts.append(code_part(text, name))
        elif text:
            parts.append(json_part(text))
    outcome = value.get("outcome")
    if isinstance(outcome, dict) and outcome.get("exit_code") != 0:
        parts.append(json_part(outcome))
    return tuple(parts)


def read_citations(value: Any) -> tuple[Citation, ...]:
    found = []
    for one in value if isinstance(value, list) else []:
        if isinstance(one, dict):
            title = word(one.get("title")) or word(one.get("filename"))
            target = word(one.get("url")) or word(one.get("file_id"))
            if title or target:
                found.append(Citation(title or target, target if title else ""))
    return tuple(found)


def word(value: Any) -> str:
    """Return a name, an id or a URL for people to recognize; "" if it is no text."""
    if not isinstance(value, str):
        return ""
    line = " ".join(spell_text(value[: _NAME_LENGTH * 2]).split())
    return line if len(line) <= _NAME_LENGTH else line[: _NAME_LENGTH - 1] + "…"


def gist(parts: tuple[Part, ...]) -> str:
    """Return the start of the parts on one line, for who looks for a place."""
    texts = (
        part.label if isinstance(part, Attachment) else part.text[: GIST_LENGTH * 4]
        for part in parts
    )
    line = " ".join(" ".join(texts).split())
    return line if len(line) <= GIST_LENGTH else line[: GIST_LENGTH - 1] + "…"


def shorten_part(part: Part, limit: int) -> Part:
    """Return ``part`` with at most ``limit`` characters of its text."""
    if isinstance(part, Attachment) or len(part.text) <= limit:
        return part
    if isinstance(part, Text):
        return Text(part.text[:limit], part.length, part.citations)
    if isinstance(part, Code):
        return Code(part.text[:limit], part.length, part.language)
    return Refusal(part.text[:limit], part.length)


def _attachment(
    type: str,
    fields: dict[str, Any],
    *,
    url: Any,
    data: Any,
    media_type: Any = None,
) -> Attachment:
    found_type, size, reference = word(media_type), None, word(fields.get("file_id"))
    for value in (data, url):
        if not isinstance(value, str) or not value:
            continue
        if inline := data_url(value):
            found_type, size = inline[0] or found_type, inline[1]
        elif value is data:
            size = base64_size(value)
        else:
            reference = word(value)
    return Attachment(
        type,
        media_type=word(found_type),
        size=size,
        name=word(fields.get("filename")),
        reference=reference,
    )
