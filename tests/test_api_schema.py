"""The OpenAPI schema: whole, stable, and only where drf-spectacular is installed."""

from __future__ import annotations

import jsonschema
import yaml

from agent_sessions import store
from tests.api_cases import SESSIONS, ApiTestCase, session_url
from tests.openapi import PATH, generate, render
from tests.processes import finish, start
from tests.test_rewinding import answer, ask, called, output
from tests.usage_cases import ONE

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


def plain(schema):
    """Return an OpenAPI schema as JSON Schema, strict about fields of objects."""
    if isinstance(schema, list):
        return [plain(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: plain(value) for name, value in schema.items() if name != "nullable"}
    if found.get("type") == "object":
        found.setdefault("additionalProperties", False)
    return {"anyOf": [found, {"type": "null"}]} if schema.get("nullable") else found


class AnswerTests(ApiTestCase):
    """What schemathesis does not reach, because it knows of nothing that was said."""

    def assert_described(self, response, path, verb, status):
        assert response.status_code == status, response.content
        schema = generate()
        operation = schema["paths"][f"/api/{path}"][verb]
        content = operation["responses"][str(status)]["content"]
        described = content["application/json"]["schema"]
        # Its references are to what is beside it.
        whole = {**plain(described), "components": plain(schema["components"])}
        jsonschema.validate(response.json(), whole)

    def test_answers_about_turns_are_as_described(self):
        row = store.create_session(self.alice)
        store.append_items(row, [ask("a"), called("1"), output("1")], usage=ONE)
        store.append_items(row, [ask("b"), answer("c")], usage=ONE)
        below = "sessions/{session}/"
        for url, path in (
            (session_url(row, "turns"), f"{below}turns/"),
            (session_url(row, "usage"), f"{below}usage/"),
            ("/api/usage/", "usage/"),
        ):
            response = self.api.get(url, {"limit": 1})
            self.assert_described(response, path, "get", 200)
        one = "sessions/{id}/"
        fork = self.api.post(session_url(row, "fork"))
        self.assert_described(fork, f"{one}fork/", "post", 201)
        url = session_url(row, "rewind")
        for body in ({"before_turn": 2, "keep": True}, {"before_turn": 1}):
            response = self.api.post(url, body, format="json")
            assert response.json()["removed"]
            self.assert_described(response, f"{one}rewind/", "post", 200)
        response = self.api.post(url, {"before_turn": 1}, format="json")
        self.assert_described(response, f"{one}rewind/", "post", 409)
        self.assert_described(self.api.get(SESSIONS), "sessions/", "get", 200)
        store.acquire_lease(row)
        response = self.api.post(session_url(row, "clear"))
        self.assert_described(response, f"{one}clear/", "post", 409)
