from __future__ import annotations

from agent_sessions.shapes import (
    PREVIEW_MAX_LENGTH,
    item_role,
    item_text,
    item_type,
    preview_text,
    starts_turn,
)
from tests.nasty import NASTY_ITEMS


def test_type_and_role_are_the_items_own_words():
    assert item_type({"type": "function_call_output"}) == "function_call_output"
    assert item_role({"role": "assistant"}) == "assistant"


def test_odd_types_and_roles_are_left_out_of_the_columns():
    for odd in (None, 3, ["x"], {"y": 1}, "t" * 65, "a\0b", "\ud800", "a\nb"):
        assert item_type({"type": odd}) == ""
        assert item_role({"role": odd}) == ""


def test_a_turn_starts_at_a_user_message():
    assert starts_turn({"role": "user", "content": "hello"})
    assert starts_turn({"type": "message", "role": "user", "content": []})
    assert not starts_turn({"role": "assistant", "content": "hello"})
    assert not starts_turn({"type": "function_call", "name": "user"})
    assert not starts_turn({"__enc__": 1, "payload": "gAAA"})


def test_text_of_a_message_is_its_string_or_its_text_parts():
    assert item_text({"content": "hello"}) == "hello"
    parts = [
        {"type": "input_text", "text": "one"},
        {"type": "input_image", "image_url": "data:..."},
        "nonsense",
        {"type": "refusal", "refusal": "no"},
        {"type": "input_text", "text": None},
    ]
    assert item_text({"content": parts}) == "one\nno"
    assert item_text({"content": None}) == ""
    assert item_text({"content": 3}) == ""


def test_preview_is_one_short_line_that_any_database_can_store():
    assert preview_text({"content": "  a\0b\n\nc\ud800\t d "}) == "a b c d"
    long = preview_text({"content": "word " * 1000})
    assert len(long) <= PREVIEW_MAX_LENGTH
    assert long.endswith("word…")


def test_nothing_fails_on_any_item():
    for item in NASTY_ITEMS.values():
        for question in (item_type, item_role, item_text, preview_text, starts_turn):
            question(item)
