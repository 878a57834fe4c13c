from __future__ import annotations

from contextlib import contextmanager
from typing import Any

from django.contrib.auth import get_user_model
from django.db import transaction
from django.test import TransactionTestCase

from agent_sessions import signals, store
from agent_sessions.models import AgentSession

User = get_user_model()
NAMES = ["items_added", "session_claimed", "session_cleared", "session_created"]


@contextmanager
def recorded():
    sent: list[tuple[str, dict[str, Any]]] = []
    receivers = {}
    for name in NAMES:

        def receive(sender: Any, signal: Any, name: str = name, **facts: Any) -> None:
            assert sender is AgentSession
            sent.append((name, facts))

        receivers[name] = receive
        getattr(signals, name).connect(receive)
    try:
        yield sent
    finally:
        for name, receive in receivers.items():
            getattr(signals, name).disconnect(receive)


class SignalTests(TransactionTestCase):
    def setUp(self):
        self.alice = User.objects.create(username="alice")

    def test_what_happened_is_told_without_content(self):
        item = {"role": "user", "content": "secret"}
        with recorded() as sent:
            store.append_items("s", [item, item])
            store.append_items("s", [item])
            store.claim_session("s", self.alice)
            store.clear_session("s", user=self.alice)
            store.create_session(self.alice, session_id="t", title="secret")
            store.append_items("t", [], user=self.alice)
            store.pop_item("t", user=self.alice)
        assert [name for name, _ in sent] == [
            "session_created",
            "items_added",
            "items_added",
            "session_claimed",
            "session_cleared",
            "session_created",
        ]
        row = AgentSession.objects.get(session_id="s")
        base = {"session": row.pk, "session_id": "s", "using": "default"}
        assert sent[1][1] == {**base, "user_id": None, "first_position": 0, "count": 2}
        assert sent[2][1] == {**base, "user_id": None, "first_position": 2, "count": 1}
        assert sent[3][1] == {**base, "user_id": self.alice.pk}
        assert "secret" not in repr(sent)

    def test_they_wait_for_the_commit(self):
        with recorded() as sent:
            with transaction.atomic():
                store.append_items("s", [{"role": "user"}])
                assert sent == []
            assert [name for name, _ in sent] == ["session_created", "items_added"]

    def test_a_rollback_is_not_told(self):
        with (
            recorded() as sent,
            self.assertRaises(ZeroDivisionError),
            transaction.atomic(),
        ):
            store.append_items("s", [{"role": "user"}])
            raise ZeroDivisionError
        assert sent == []

    def test_a_receiver_that_fails_hinders_nothing(self):
        def fail(**facts: Any) -> None:
            raise ZeroDivisionError

        signals.items_added.connect(fail)
        try:
            with recorded() as sent, self.assertLogs("django.dispatch", "ERROR"):
                store.append_items("s", [{"role": "user", "content": "a"}])
        finally:
            signals.items_added.disconnect(fail)
        assert len(sent) == 2
        assert len(store.read_items("s")) == 1
