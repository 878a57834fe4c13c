from __future__ import annotations

import datetime

import pytest
from django.test import TestCase, override_settings

from agent_sessions import store
from agent_sessions.exceptions import InvalidMetadata
from agent_sessions.metadata import clean_metadata, merge_patch
from tests.nasty import nested


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"a": [1, 2.5, True, None, {"b": "שלום"}]},
        {"deep": nested(16)},
        {"text": "x" * 16_000},
    ],
)
def test_json_objects_are_kept(metadata):
    assert clean_metadata(metadata) == metadata


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        [],
        "text",
        {"secret": "a\0b"},
        {"a\0": "secret"},
        {"secret": "\ud800"},
        {"secret": float("nan")},
        {"secret": {"x": float("inf")}},
        {1: "secret"},
        {"secret": datetime.date(2026, 1, 1)},
        {"secret": {"set"}},
        {"secret": nested(24)},
        {"secret": nested(100_000)},
        {"secret": "x" * 16_384},
        {"secret": "ש" * 8_192},
    ],
)
def test_what_some_database_cannot_keep_is_refused(metadata):
    with pytest.raises(InvalidMetadata) as caught:
        clean_metadata(metadata)
    assert isinstance(caught.value, ValueError)
    assert "secret" not in str(caught.value)
    assert caught.value.__context__ is None


def test_the_bound_is_a_setting():
    with override_settings(AGENT_SESSIONS_METADATA_MAX_BYTES=10):
        assert clean_metadata({"a": 1}) == {"a": 1}
        with pytest.raises(InvalidMetadata, match="AGENT_SESSIONS_METADATA_MAX_BYTES"):
            clean_metadata({"a": "12345"})


def test_keys_of_all_levels_are_counted():
    metadata = {"a": [{"b": 1}, {"c": {"d": 2}}]}
    with override_settings(AGENT_SESSIONS_METADATA_MAX_KEYS=4):
        assert clean_metadata(metadata) == metadata
    with (
        override_settings(AGENT_SESSIONS_METADATA_MAX_KEYS=3),
        pytest.raises(InvalidMetadata, match="has 4 keys") as caught,
    ):
        clean_metadata(metadata)
    assert "AGENT_SESSIONS_METADATA_MAX_KEYS" in str(caught.value)


def test_levels_are_counted_from_the_object_itself():
    with override_settings(AGENT_SESSIONS_METADATA_MAX_DEPTH=2):
        assert clean_metadata({"a": {"b": "c"}}) == {"a": {"b": "c"}}
        for deeper in ({"a": {"b": []}}, {"a": [[]]}):
            with pytest.raises(InvalidMetadata, match="METADATA_MAX_DEPTH"):
                clean_metadata(deeper)


class KeptTests(TestCase):
    def test_every_database_keeps_the_deepest_metadata(self):
        metadata = {"deep": nested(28)}
        with override_settings(AGENT_SESSIONS_METADATA_MAX_DEPTH=30):
            row = store.create_session(None, metadata=metadata)
        row.refresh_from_db()
        assert row.metadata == metadata


# The examples of RFC 7396, appendix A, whose result is an object.
@pytest.mark.parametrize(
    ("metadata", "changes", "merged"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_follows_its_rfc(metadata, changes, merged):
    before = repr(metadata)
    assert merge_patch(metadata, changes) == merged
    assert repr(metadata) == before
