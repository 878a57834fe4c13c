"""Who takes a session back, or copies it, and is killed in the middle of it."""

from __future__ import annotations

import os
import signal
from typing import Any

from django.db import connection
from django.test import TransactionTestCase

from agent_sessions import store
from agent_sessions.models import AgentSession
from tests.processes import start


def do_and_die(verb: str, statements: int) -> None:
    """Kill this process before so many and one statements."""
    left = statements

    def count(execute: Any, *arguments: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return execute(*arguments)

    with connection.execute_wrapper(count):
        if verb == "rewind":
            store.rewind_session("s", before_turn=2, keep=True)
        else:
            store.fork_session("s", before_turn=2)


class KilledTests(TransactionTestCase):
    def setUp(self):
        turns = [[{"role": role, "content": "a"}] for role in ("user", "assistant")] * 2
        for items in turns:
            store.append_items("s", items)

    def kill_until_done(self, verb: str) -> AgentSession:
        """Kill it later and later, until it ends; return what it has made."""
        for statements in range(50):
            code = f"from {__name__} import do_and_die as f; f({verb!r}, {statements})"
            process = start(code)
            _, errors = process.communicate(timeout=60)
            assert list(store.check_sessions()) == []
            if process.returncode == 0:
                break
            assert process.returncode == -signal.SIGKILL, errors
            row = AgentSession.objects.get()
            assert len(store.read_items("s")) == 4, statements
            assert row.rewound_before == 0
        assert statements > 5
        return AgentSession.objects.exclude(session_id="s").get()

    def test_a_session_is_taken_back_whole_or_not_at_all(self):
        kept = self.kill_until_done("rewind")
        row = AgentSession.objects.get(session_id="s")
        assert (len(store.read_items("s")), row.rewound_before) == (2, 3)
        assert len(store.read_items(kept)) == 4

    def test_a_fork_is_there_whole_or_not_at_all(self):
        fork = self.kill_until_done("fork")
        assert len(store.read_items("s")) == 4
        assert len(store.read_items(fork)) == 2
