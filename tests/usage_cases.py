"""What the tests of usage share: a price, and how to see that it was paid once."""

from __future__ import annotations

from agents import Usage
from django.test import TransactionTestCase
from openai.types.responses.response_usage import (
    InputTokensDetails,
    OutputTokensDetails,
)

from agent_sessions import store
from agent_sessions.usage import TokenUsage

ONE = TokenUsage(1, 10, 4, 5, 2, 15)
ONE_OF_THE_SDK = Usage(
    requests=1,
    input_tokens=10,
    input_tokens_details=InputTokensDetails(cached_tokens=4, cache_write_tokens=0),
    output_tokens=5,
    output_tokens_details=OutputTokensDetails(reasoning_tokens=2),
    total_tokens=15,
)


def times(count: int) -> TokenUsage:
    return TokenUsage(*(count * number for number in ONE.counts))


class UsageCase(TransactionTestCase):
    def assert_used(self, count: int, name: str = "s", **turns: int) -> None:
        """The session, and the sum of its turns, have used ``count`` times ONE."""
        assert store.read_usage(name) == times(count)
        by_turn = store.get_usage_by_turn(name)
        assert sum(by_turn.values(), TokenUsage()) == times(count)
        if turns:
            expected = {int(nr[1:]): times(it) for nr, it in turns.items()}
            assert by_turn == expected
