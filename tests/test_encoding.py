from __future__ import annotations

import datetime
import decimal
import json
import re
import uuid

import pytest
from pydantic import BaseModel

from agent_sessions.encoding import decode_item, decode_items, encode_item
from agent_sessions.exceptions import InvalidItem
from tests.nasty import NASTY_ITEMS, nested


def test_every_item_decodes_to_itself():
    for name, item in NASTY_ITEMS.items():
        text = encode_item(item)
        assert repr(decode_item(text)) == repr(item), name
        # What UTF-8 can hold any of the databases can hold, once NUL is escaped.
        assert "\0" not in text
        text.encode()


def test_non_latin_text_stays_readable_and_small():
    assert encode_item({"content": "שלום"}) == '{"content":"שלום"}'


CIRCLE: dict[str, object] = {}
CIRCLE["self"] = [CIRCLE]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "['a'][1] cannot be stored as JSON: it is not a finite number"),
        (float("inf"), "['a'][1] cannot be stored as JSON: it is not a finite number"),
        (datetime.datetime(2026, 1, 1), "['a'][1] cannot .* it is of type datetime"),
        (b"secret", "['a'][1] cannot .* it is of type bytes"),
        ({"secret"}, "['a'][1] cannot .* it is of type set"),
        (decimal.Decimal(1), "['a'][1] cannot .* it is of type Decimal"),
        (uuid.UUID(int=0), "['a'][1] cannot .* it is of type UUID"),
        (object, "['a'][1] cannot .* it is of type type"),
        (10**5000, "['a'][1] cannot .* the integer is too large"),
        ({("a", 1): 2}, "['a'][1] cannot .* it has a key of type tuple"),
        ({1: 2, "1": 3}, "['a'][1] cannot .* two of its keys are the same there"),
        ({"true": 2, True: 3}, "['a'][1] cannot .* two of its keys are the same there"),
        (nested(502), "item is nested more than 500 levels deep"),
        (nested(100_000), "item is a circle or nested more than 500 levels deep"),
        (CIRCLE, "item is a circle or nested more than 500 levels deep"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_json_is_refused_by_its_path(value, message):
    with pytest.raises(InvalidItem) as caught:
        encode_item({"ok": "secret", "a": [1, value]})
    pattern = ".*".join(re.escape(part) for part in message.split(".*"))
    assert re.search(pattern, str(caught.value))
    assert "secret" not in str(caught.value)
    # The cause could quote the value.
    assert caught.value.__context__ is None
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("item", ["text", b"x", None, 3, ["a"], [("a", 1)]])
def test_what_is_no_object_is_refused(item):
    with pytest.raises(InvalidItem, match="is not a JSON object but"):
        encode_item(item)


def test_pydantic_items_are_dumped_without_what_was_never_set():
    class Part(BaseModel):
        text: str
        when: datetime.date | None = None

    class Message(BaseModel):
        role: str
        content: list[Part]
        phase: str | None = None

    message = Message(
        role="user", content=[Part(text="a", when=datetime.date(2026, 1, 2))]
    )
    assert json.loads(encode_item(message)) == {
        "role": "user",
        "content": [{"text": "a", "when": "2026-01-02"}],
    }


def test_pydantic_items_that_cannot_be_dumped_tell_nothing():
    class Message(BaseModel):
        model_config = {"arbitrary_types_allowed": True}
        role: str
        content: object

    with pytest.raises(InvalidItem) as caught:
        encode_item(Message(role="user", content=type("secret", (), {})()))
    assert "secret" not in str(caught.value)
    assert caught.value.__context__ is None
    odd = Message.model_construct(role=["secret"], content="x")
    assert decode_item(encode_item(odd)) == {"role": ["secret"], "content": "x"}


def test_keys_that_are_no_strings_become_strings():
    item = {7: [{None: {}}], True: 2, 2.5: ({"2": 3},)}
    stored = {"7": [{"null": {}}], "true": 2, "2.5": [{"2": 3}]}
    assert decode_item(encode_item(item)) == stored


def test_keys_that_may_be_words_are_not_told():
    with pytest.raises(InvalidItem) as caught:
        encode_item({"ann@example.com has flu": {"content": b""}})
    assert "item[...]['content'] cannot" in str(caught.value)


def test_texts_that_are_no_object_decode_to_none():
    for text in ("", "{", "[1]", '"x"', "null", "7", '{"a":', "{'a': 1}"):
        assert decode_item(text) is None


def test_decoding_many_equals_decoding_each():
    texts = ['{"a":1}', "{broken", '{"b":', "2}", "[1]", "", '{"c":3}', "1],[2"]
    assert decode_items(texts) == [decode_item(text) for text in texts]
    assert decode_items([]) == []
    good = [encode_item(item) for item in NASTY_ITEMS.values()]
    assert repr(decode_items(good)) == repr(list(NASTY_ITEMS.values()))


def test_a_long_history_decodes_whole_whatever_is_broken_in_it():
    for length in (199, 200, 201, 1000):
        texts = [f'{{"nr":{nr}}}' for nr in range(length)]
        assert decode_items(texts) == [{"nr": nr} for nr in range(length)]
        for broken in (0, 198, 199, 200, length - 1):
            if broken < length:
                damaged = [*texts]
                damaged[broken] = '{"nr":'
                items = decode_items(damaged)
                assert items.pop(broken) is None
                assert [item["nr"] for item in items if item] == [
                    nr for nr in range(length) if nr != broken
                ]


def test_rows_that_are_whole_only_together_do_not_pass_for_items():
    # Joined with a comma these are three objects; each alone is broken.
    texts = ['{"a":1},{"b":2', '"c":3},{"d":4}']
    assert decode_items(texts) == [None, None]
    assert decode_items(['{"a":[1', "2]}", '{"b":1},{"c":2}']) == [None, None, None]
