"""What the tests of usage share: a price, and how to see that it was paid once."""

from __future__ import annotations

from django.test import TransactionTestCase

from agent_sessions import store
from agent_sessions.usage import TokenUsage

ONE = TokenUsage(1, 10, 4, 5, 2, 15)


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
