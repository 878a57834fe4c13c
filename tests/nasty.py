"""Items that stores get wrong."""

from __future__ import annotations

from typing import Any


def nested(depth: int) -> Any:
    value: Any = "deep"
    for _ in range(depth // 2):
        value = [{"below": value}]
    return value


NASTY_ITEMS: dict[str, dict[str, Any]] = {
    "plain message": {"role": "user", "content": "hello"},
    "key order": {"zeta": 1, "role": "user", "alpha": 2, "content": "x"},
    "nul": {"role": "user", "content": "a\0b"},
    "lone surrogates": {"role": "user", "content": "\ud83d and \ude00"},
    "surrogate key": {"role": "user", "content": "", "\udcff": 1},
    "non-Latin text": {"role": "user", "content": "こんにちは שלום 👩‍👩‍👧‍👦 é é"},
    "control characters": {"role": "user", "content": "\x01\x1f\x7f\r\n\t "},
    "quotes": {"role": "user", "content": """ ' '' " \\ \\' %s %% :x ? ${} """},
    "negative zero": {"type": "number", "value": -0.0},
    "large integers": {"type": "number", "value": [2**64 + 1, -(2**80), 10**400]},
    "floats": {"type": "number", "value": [1e16, 1e-320, 0.1, 1.0, 1e308]},
    "booleans": {"type": "flags", "value": [True, False, None, 1, 0]},
    "null content": {"role": "assistant", "content": None},
    "empty values": {"role": "user", "content": [], "": {}, "s": ""},
    "depth 400": {"type": "tree", "value": nested(400)},
    "unknown type": {"type": "telepathy_call_v9", "payload": {"a": [1, {"b": 2}]}},
    "odd type and role": {"type": ["x"], "role": {"y": 1}, "content": 3},
    "long type": {"type": "t" * 500, "role": "r" * 500},
    "nul type": {"type": "a\0b", "role": "\ud800"},
    "encrypted envelope": {"__enc__": 1, "v": 1, "kid": "hkdf-v1", "payload": "gA=="},
    "image": {
        "role": "user",
        "content": [
            {
                "type": "input_image",
                "image_url": "data:image/png;base64," + "iVBORw0KGgo" * 476_000,
            }
        ],
    },
}
