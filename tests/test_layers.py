"""The arrows of the design: every module imports only what lies below it."""

from __future__ import annotations

import ast
import gc
from functools import cache
from pathlib import Path

import agent_sessions

ROOT = Path(agent_sessions.__file__).parent

# From the ground up. A module may import from its own row's package and from lower
# rows.
ROWS = [
    {"amounts", "exceptions", "paging", "shapes", "usage"},
    {"conf", "identifiers", "encoding", "signals", "streaming"},
    {"metadata", "fields", "markdown", "transcript"},
    {"models"},
    {"checks"},
    {"store"},
    {"access", "jsonlines", "refusals"},
    {"exports", "importers", "outcomes"},
    {"archives", "arrivals"},
    {"verification"},
    {"imports"},
    {"crossing"},
    {"templatetags"},
    {"adapter"},
    {"admin"},
    {"api"},
    {"management"},
    {"apps"},
]
FRONT_DOORS = {"adapter", "admin", "api", "management"}
# Frozen history and the root, which hands out the adapter on request.
EXEMPT = {"migrations", "__init__"}


def rooms() -> dict[str, set[str]]:
    """Return for each room of the package the rooms that it imports at run time."""
    found: dict[str, set[str]] = {}
    for path in ROOT.rglob("*.py"):
        room = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if room not in EXEMPT:
            imported = found.setdefault(room, set())
            imported |= {name for name in imports(path) if name != room}
    return found


@cache
def parse(path: Path) -> ast.Module:
    # A collection in the middle fails on Python 3.11 (CPython issue 106905).
    gc.disable()
    try:
        return ast.parse(path.read_text())
    finally:
        gc.enable()


def imports(path: Path) -> set[str]:
    names = set()
    typing_only: set[ast.AST] = set()
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            typing_only |= set(ast.walk(node))
        if node in typing_only or not isinstance(node, ast.ImportFrom):
            continue
        if node.module == "agent_sessions":
            names |= {alias.name for alias in node.names}
        elif node.module and node.module.startswith("agent_sessions."):
            names.add(node.module.split(".")[1])
    return names


def test_every_room_has_its_row():
    assert set(rooms()) <= set().union(*ROWS)


def test_arrows_point_down():
    level = {room: number for number, row in enumerate(ROWS) for room in row}
    upward = [
        (room, name)
        for room, names in rooms().items()
        for name in names
        if level[name] >= level[room]
    ]
    assert upward == []


def test_no_front_door_opens_another():
    for room, names in rooms().items():
        if room in FRONT_DOORS:
            assert not names & FRONT_DOORS


def test_only_the_api_imports_rest_framework():
    for path in ROOT.rglob("*.py"):
        room = path.relative_to(ROOT).parts[0]
        modules = {
            name.split(".")[0]
            for node in ast.walk(parse(path))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in [
                getattr(node, "module", None) or "",
                *(alias.name for alias in node.names),
            ]
        }
        if room != "api":
            assert not modules & {"rest_framework", "drf_spectacular"}, path


def test_nothing_imports_the_sdk_at_module_level():
    for path in ROOT.rglob("*.py"):
        for node in parse(path).body:
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            else:
                continue
            assert not {module.split(".")[0] for module in modules} & {
                "agents",
                "openai",
            }, path
