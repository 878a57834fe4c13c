"""Tokens: counted with the items that they bought, once, whatever happens."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import pytest
from django.contrib.auth import get_user_model
from django.core import serializers
from django.db import transaction

from agent_sessions import store
from agent_sessions.exceptions import SessionGone, SessionOwnershipError
from agent_sessions.models import AgentSession, TurnUsage
from agent_sessions.usage import TokenUsage, clean_usage
from tests.usage_cases import ONE, UsageCase, times

User = get_user_model()


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


class StoreTests(UsageCase):
    def test_usage_comes_with_items(self):
        store.append_items("s", [user("a")])
        store.append_items("s", [assistant("b")], usage=ONE)
        store.append_items("s", [assistant("c"), assistant("d")], usage=ONE)
        store.append_items("s", [user("e"), assistant("f")], usage=ONE)
        store.append_items("s", [assistant("x"), user("g"), assistant("h")], usage=ONE)
        self.assert_used(4, t1=2, t2=1, t3=1)

    def test_turns_tell_what_they_used(self):
        store.append_items("s", [user("a"), assistant("b")], usage=ONE)
        store.append_items("s", [user("c")])
        store.append_items("t", [user("d")], usage=ONE)
        found = [(turn.number, turn.usage) for turn in store.get_turns("s")]
        assert found == [(1, ONE), (2, TokenUsage())]
        assert store.find_turns("s", "a")[0].usage == ONE

    def test_a_first_append_may_bring_usage(self):
        store.append_items("s", [assistant("a")], usage=ONE)
        self.assert_used(1, t0=1)
        store.append_items("t", [user("a"), assistant("b")], usage=ONE)
        self.assert_used(1, "t", t1=1)

    def test_a_long_batch_may_bring_usage(self):
        store.append_items("s", [user("a"), *[assistant("b")] * 4100], usage=ONE)
        self.assert_used(1, t1=1)

    def test_usage_outlives_items(self):
        store.append_items("s", [user("a"), assistant("b")], usage=ONE)
        store.pop_item("s")
        store.replace_items("s", [assistant("short")])
        store.clear_session("s")
        self.assert_used(1, t1=1)
        store.append_items("s", [user("a"), assistant("b")], usage=ONE)
        self.assert_used(2, t1=1, t2=1)

    def test_usage_goes_with_the_session(self):
        store.append_items("s", [user("a")], usage=ONE)
        store.append_items("t", [user("a")], usage=ONE)
        store.delete_session("s")
        assert store.read_usage("s") == TokenUsage()
        assert [row.session.session_id for row in TurnUsage.objects.all()] == ["t"]

    def test_usage_that_is_undone_is_not_counted(self):
        store.append_items("s", [user("a")])
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            store.append_items("s", [assistant("b")], usage=ONE)
            raise ZeroDivisionError
        self.assert_used(0)

    def test_usage_without_items(self):
        store.append_items("s", [user("a"), user("b")])
        store.record_usage("s", ONE)
        store.record_usage("s", ONE)
        self.assert_used(2, t2=2)
        with pytest.raises(SessionGone):
            store.record_usage("unknown", ONE)
        with pytest.raises(SessionOwnershipError):
            store.record_usage("s", ONE, user=User.objects.create_user("alice"))
        self.assert_used(2)

    def test_usage_by_day_is_the_users_own(self):
        alice = User.objects.create_user("alice")
        bob = User.objects.create_user("bob")
        moment = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
        for who, name in [(alice, "a"), (alice, "b"), (bob, "c")]:
            for days in range(3):
                now = moment + timedelta(days=days)
                with mock.patch("django.utils.timezone.now", return_value=now):
                    batch = [user("a"), assistant("b")]
                    store.append_items(name, batch, user=who, usage=ONE)
        found = store.get_usage_by_day(alice, since=moment.date() + timedelta(days=1))
        assert [(str(it.day), it.usage) for it in found] == [
            ("2026-03-02", times(2)),
            ("2026-03-03", times(2)),
        ]
        assert len(store.get_usage_by_day(bob, until=moment.date())) == 1
        assert store.get_usage_by_day(None) == []

    def test_usage_by_session_begins_with_the_most(self):
        alice = User.objects.create_user("alice")
        rows = [store.create_session(alice) for _ in range(4)]
        for row, count in zip(rows, (1, 3, 2), strict=False):
            for _ in range(count):
                store.append_items(row, [user("a")], usage=ONE)
        bob = User.objects.create_user("bob")
        store.append_items("bobs", [user("a")], user=bob, usage=times(9))
        expected = [(rows[1].pk, times(3)), (rows[2].pk, times(2)), (rows[0].pk, ONE)]
        for limit in (0, 2, 3, 20):
            found = store.get_usage_by_session(alice, limit=limit)
            assert [(it.session, it.usage) for it in found] == expected[:limit]
        today = datetime.now(UTC).date()
        week = timedelta(days=7)
        for options, count in (
            ({"since": today - week, "until": today + week}, 3),
            ({"since": today + week}, 0),
            ({"until": today - week}, 0),
        ):
            assert len(store.get_usage_by_session(alice, **options)) == count
        assert store.get_usage_by_session(None) == []
        with pytest.raises(ValueError):
            store.get_usage_by_session(alice, limit=-1)

    def test_usage_survives_a_fixture(self):
        store.append_items("s", [user("a")], usage=ONE)
        rows = [*AgentSession.objects.all(), *TurnUsage.objects.all()]
        text = serializers.serialize("json", rows)
        store.delete_session("s")
        for row in serializers.deserialize("json", text):
            row.save()
        self.assert_used(1, t1=1)

    def test_what_is_no_number_counts_as_nothing(self):
        odd = mock.Mock(requests=None, input_tokens="5", total_tokens=-3)
        odd.input_tokens_details = odd.output_tokens_details = None
        odd.output_tokens = 7
        assert clean_usage(odd) == TokenUsage(output_tokens=7)
