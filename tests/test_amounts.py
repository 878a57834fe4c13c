from __future__ import annotations

import pytest
from django.utils import translation

from agent_sessions.amounts import shorten_amount, spell_amount


@pytest.mark.parametrize(
    ("count", "short"),
    [
        (0, "0"),
        (999, "999"),
        (9_999, "9,999"),
        (10_000, "10.0k"),
        (12_345, "12.3k"),
        (99_950, "100k"),
        (999_499, "999k"),
        (999_500, "1.00M"),
        (1_234_567, "1.23M"),
        (12_345_678, "12.3M"),
        (999_999_999, "1.00B"),
        (1_234_567_890_123, "1,230B"),
    ],
)
def test_large_numbers_are_short(count, short):
    assert shorten_amount(count) == short


def test_numbers_are_spelled_in_the_readers_language():
    with translation.override("de"):
        assert spell_amount(1_234_567) == "1.234.567"
        assert shorten_amount(1_234_567) == "1,23\xa0Mio"
    with translation.override("es"):
        assert shorten_amount(12_345) == "12,3\xa0mil"
