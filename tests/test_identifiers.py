from __future__ import annotations

import time
import uuid

import pytest

from agent_sessions.exceptions import InvalidSessionId
from agent_sessions.identifiers import clean_session_id, new_session_id, uuid7


def test_uuid7_is_version_7_and_sorts_by_time():
    before = time.time_ns() // 1_000_000
    first = uuid7()
    while time.time_ns() // 1_000_000 <= before:
        pass
    second = uuid7()
    assert first.version == second.version == 7
    assert first.variant == uuid.RFC_4122
    assert first < second
    assert abs((first.int >> 80) - before) < 1000
    assert len({uuid7() for _ in range(10_000)}) == 10_000


def test_new_session_ids_tell_nothing():
    assert uuid.UUID(new_session_id()).version == 4


@pytest.mark.parametrize(
    "session_id", ["x", "user/1:support", "a b", "x" * 255, "שלום", "👩‍👩‍👧", "%s '\""]
)
def test_ids_of_a_projects_own_choosing_are_kept(session_id):
    assert clean_session_id(session_id) == session_id


@pytest.mark.parametrize(
    "session_id",
    [
        "",
        " ",
        " x",
        "x ",
        "x\n",
        "\u3000x",
        "a\0b",
        "a\tb",
        "\ud800",
        "a\x7f",
        "x" * 256,
    ],
)
def test_ids_that_databases_confuse_are_refused(session_id):
    with pytest.raises(InvalidSessionId) as caught:
        clean_session_id(session_id)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("session_id", [None, 3, uuid.uuid4(), b"x"])
def test_ids_that_are_no_strings_are_refused(session_id):
    with pytest.raises(TypeError):
        clean_session_id(session_id)
