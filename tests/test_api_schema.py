"""The OpenAPI schema: whole, stable, and only where drf-spectacular is installed."""

from __future__ import annotations

import yaml

from tests.openapi import PATH, generate, render
from tests.processes import finish, start

OPERATIONS = {
    "claim_session",
    "clear_session",
    "create_session",
    "delete_session",
    "export_session",
    "fork_session",
    "list_items",
    "list_sessions",
    "list_turns",
    "read_item",
    "read_me",
    "read_session",
    "read_session_usage",
    "read_transcript",
    "read_usage",
    "rewind_session",
    "update_me",
    "update_session",
}


def operations(schema):
    return [
        operation for path in schema["paths"].values() for operation in path.values()
    ]


def test_the_schema_is_the_one_that_is_kept():
    # After a change on purpose: python -m tests.openapi
    assert yaml.safe_load(render(generate())) == yaml.safe_load(PATH.read_text())


def test_operations_keep_their_names():
    names = [operation["operationId"] for operation in operations(generate())]
    assert sorted(names) == sorted(OPERATIONS)


def test_every_operation_says_what_it_does_and_how_it_fails():
    for operation in operations(generate()):
        assert operation["description"]
        assert {"400", "401", "403", "406", "429"} <= set(operation["responses"])


def test_no_body_takes_other_fields():
    schemas = generate()["components"]["schemas"]
    changes = {"PatchedSessionChanges", "PatchedUserChanges"}
    for name in {"NewSession", "NewFork", "Rewind", "ClaimToken", *changes}:
        assert schemas[name]["additionalProperties"] is False


def test_drf_spectacular_is_imported_only_where_it_is_installed():
    code = (
        "import sys, agent_sessions.api.urls\n"
        "print('drf_spectacular' in sys.modules, 'agents' in sys.modules)"
    )
    for settings, imported in (
        ("tests.projects.settings", "False"),
        ("tests.settings", "True"),
    ):
        process = start(code, DJANGO_SETTINGS_MODULE=settings)
        assert finish(process).split() == [imported, "False"]
