"""Users who are erased or merged while many processes write as them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable

from django.contrib.auth import get_user_model

from agent_sessions import store
from agent_sessions.exceptions import NothingToErase
from agent_sessions.models import AgentSession, ErasureReceipt, SessionItem
from tests.test_concurrency import (
    ConcurrencyTestCase,
    append_until_refused,
    flat,
    open_until_refused,
    words,
)


def wait_for(user_id: int, items: int, writers: int) -> None:
    """Wait for so many items, and for the first of each of append_until_refused()."""
    # A writer that came later would open a session of its own, and keep it.
    rows = SessionItem.objects.filter(session__user=user_id)
    deadline = time.monotonic() + 60
    while rows.count() < items or count_first(rows.all()) < writers:
        assert time.monotonic() < deadline


def count_first(rows: Iterable[SessionItem]) -> int:
    return sum(row.data.get("content", "").endswith("/0") for row in rows)


def erase(user_id: int, after_items: int, writers: int = 0) -> list[int]:
    wait_for(user_id, after_items, writers)
    receipt = store.erase_user(user_id=user_id, by="me")
    return [receipt.sessions, receipt.items]


def erase_if_any(user_id: int) -> list[int]:
    try:
        return erase(user_id, 0)
    except NothingToErase:
        # The others were through.
        return []


def transfer(user_id: int, to: int, after_items: int, writers: int = 0) -> int:
    wait_for(user_id, after_items, writers)
    users = get_user_model().objects.in_bulk([user_id, to])
    return store.transfer_sessions(users[user_id], users[to]).sessions


def transfer_to_and_fro(user_id: int, to: int, times: int) -> None:
    users = get_user_model().objects.in_bulk([user_id, to])
    for _ in range(times):
        store.transfer_sessions(users[user_id], users[to])


class ErasedUserTests(ConcurrencyTestCase):
    def setUp(self):
        self.alice = get_user_model().objects.create_user("alice")

    def test_agents_that_run_bring_nothing_back(self):
        *stored, (sessions, items) = self.run_together(
            (append_until_refused, 0, "shared", self.alice.pk),
            (append_until_refused, 1, "shared", self.alice.pk),
            (append_until_refused, 2, "another", self.alice.pk),
            (erase, self.alice.pk, 30, 3),
        )
        assert not AgentSession.objects.exists()
        assert not SessionItem.objects.exists()
        assert sessions == 2
        # Each item that was stored went, and is in the receipt.
        assert items == len(flat(stored)) >= 30

    def test_sessions_that_come_meanwhile_are_erased_or_whole(self):
        opened, (sessions, items) = self.run_together(
            (open_until_refused, 0, self.alice.pk, 100),
            (erase, self.alice.pk, 20),
        )
        left = set(AgentSession.objects.values_list("session_id", flat=True))
        assert len(opened) == 100
        assert sessions == items == 100 - len(left) >= 20
        # Those that are left came after the receipt was closed.
        assert sorted(left, key=opened.index) == opened[100 - len(left) :]

    def test_runs_at_once_end_with_one_receipt(self):
        for number in range(250):
            store.append_items(f"{number}", [{"role": "user"}], user=self.alice)
        results = self.run_together(*[(erase_if_any, self.alice.pk)] * 3)
        assert [250, 250] in results
        assert [result for result in results if result not in ([250, 250], [])] == []
        assert ErasureReceipt.objects.get().sessions == 250


class MergedUserTests(ConcurrencyTestCase):
    def setUp(self):
        users = get_user_model().objects
        self.alice, self.bob = map(users.create_user, ("alice", "bob"))

    def test_agents_of_the_old_owner_are_refused_and_lose_nothing(self):
        *stored, moved = self.run_together(
            (append_until_refused, 0, "shared", self.alice.pk),
            (append_until_refused, 1, "shared", self.alice.pk),
            (append_until_refused, 2, "another", self.alice.pk),
            (transfer, self.alice.pk, self.bob.pk, 30, 3),
        )
        assert moved == 2
        found = []
        for session_id in ("shared", "another"):
            session, items = self.stored(session_id)
            assert session.user == self.bob
            found += words([item.data for item in items])
        assert Counter(found) == Counter(flat(stored))

    def test_sessions_that_come_meanwhile_are_one_owners(self):
        opened, moved = self.run_together(
            (open_until_refused, 0, self.alice.pk, 100),
            (transfer, self.alice.pk, self.bob.pk, 20),
        )
        left = AgentSession.objects.for_user(self.alice).count()
        assert AgentSession.objects.for_user(self.bob).count() == moved >= 20
        assert moved + left == len(opened) == 100

    def test_merges_in_both_directions_end(self):
        for number in range(30):
            user = (self.alice, self.bob)[number % 2]
            store.append_items(f"{number}", [{"role": "user"}], user=user)
            store.update_user_metadata({f"{number}": number}, user=user)
        self.run_together(
            (transfer_to_and_fro, self.alice.pk, self.bob.pk, 10),
            (transfer_to_and_fro, self.bob.pk, self.alice.pk, 10),
        )
        owners = set(AgentSession.objects.values_list("user", flat=True))
        assert AgentSession.objects.count() == 30
        assert owners <= {self.alice.pk, self.bob.pk}
        kept = [store.read_user_metadata(user) for user in (self.alice, self.bob)]
        assert kept[0] | kept[1] == {f"{number}": number for number in range(30)}
