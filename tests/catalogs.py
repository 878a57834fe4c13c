"""Catalogs of translations, and the strings in the sources that belong into them."""

from __future__ import annotations

import ast
import gc
import gettext
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.utils.translation.template import templatize

import agent_sessions

PACKAGE = Path(agent_sessions.__file__).parent
LANGUAGES = ["de", "es", "fr", "tr"]

# Which arguments of a call are its context, its string and its plural.
_CALLS = {
    "gettext": (None, 0, None),
    "ngettext": (None, 0, 1),
    "pgettext": (0, 1, None),
    "npgettext": (0, 1, 2),
}
_LITERAL = r"""u?('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_TEMPLATE_CALL = re.compile(
    rf"\b(gettext|ngettext|pgettext|npgettext|_)\({_LITERAL}"
    rf"(?:,\s*{_LITERAL})?(?:,\s*{_LITERAL})?",
    re.DOTALL,
)


@dataclass(frozen=True)
class String:
    """What the sources ask to translate."""

    text: str
    plural: str | None = None
    context: str | None = None


@dataclass
class Entry:
    """What a catalog says to a string: one form, or as many as the language has."""

    string: String
    forms: list[str] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)


def extract_strings() -> set[String]:
    """Return all strings of the package that are marked, without gettext's tools."""
    found = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        found |= set(_in_python(path.read_text()))
    for path in sorted(PACKAGE.rglob("*.html")):
        found |= set(_in_template(path.read_text()))
    return found


def read_po(path: Path) -> dict[String, Entry]:
    """Return a catalog's entries; the header has the empty string."""
    entries = {}
    for block in path.read_text().split("\n\n"):
        fields: dict[str, str] = {}
        flags: set[str] = set()
        name = ""
        for line in block.splitlines():
            if line.startswith("#,"):
                flags |= {flag.strip() for flag in line[2:].split(",")}
            if line.startswith("#"):
                continue
            start, _, text = line.partition('"')
            name = start.strip() or name
            fields[name] = fields.get(name, "") + ast.literal_eval('"' + text)
        if fields:
            string = String(
                fields["msgid"], fields.get("msgid_plural"), fields.get("msgctxt")
            )
            assert string not in entries, string
            forms = [fields[name] for name in fields if name.startswith("msgstr")]
            entries[string] = Entry(string, forms, flags)
    return entries


def read_mo(path: Path) -> dict[object, str]:
    with path.open("rb") as file:
        catalog: dict[object, str] = gettext.GNUTranslations(file)._catalog
    return catalog


def compile_po(entries: dict[String, Entry]) -> dict[object, str]:
    """Return the entries as gettext reads them from a .mo."""
    compiled: dict[object, str] = {}
    for string, entry in entries.items():
        key = string.text
        if string.context is not None:
            key = f"{string.context}\x04{key}"
        if string.plural is None:
            compiled[key] = entry.forms[0]
        else:
            compiled |= {(key, n): form for n, form in enumerate(entry.forms)}
    return compiled


def count_plurals(entries: dict[String, Entry]) -> int:
    """Return how many plural forms the header says that the language has."""
    match = re.search(r"nplurals=(\d+);", entries[String("")].forms[0])
    assert match is not None
    return int(match[1])


def _in_python(source: str) -> Iterator[String]:
    # A collection in the middle fails on Python 3.11 (CPython issue 106905).
    gc.disable()
    try:
        tree = ast.parse(source)
    finally:
        gc.enable()
    names = {"_": "gettext"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                kind = re.sub("_(lazy|noop)$", "", alias.name)
                if kind in _CALLS:
                    names[alias.asname or alias.name] = kind
    for node in ast.walk(tree):
        name = getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""
        if name in names:
            context, text, plural = _CALLS[names[name]]
            if isinstance(node.args[text], ast.Name | ast.Attribute):
                # Marked where it was written, with gettext_noop().
                continue
            yield String(
                _constant(node, text), _constant(node, plural), _constant(node, context)
            )


def _constant(call: ast.Call, index: int | None) -> Any:
    if index is None:
        return None
    argument = call.args[index]
    # What is put together at run time is in no catalog.
    assert isinstance(argument, ast.Constant), ast.unparse(call)
    return argument.value


def _in_template(source: str) -> Iterator[String]:
    for match in _TEMPLATE_CALL.finditer(templatize(source)):
        name = "gettext" if match[1] == "_" else match[1]
        literals = [ast.literal_eval(text) for text in match.groups()[1:] if text]
        context, text, plural = _CALLS[name]
        yield String(
            literals[text],
            None if plural is None else literals[plural],
            None if context is None else literals[context],
        )
