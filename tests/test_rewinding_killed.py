"""Who takes a session back, and is killed in the middle of it."""

from __future__ import annotations

import os
import signal
from typing import Any

from django.db import connection
from django.test import TransactionTestCase

from agent_sessions import store
from agent_sessions.models import AgentSession
from tests.processes import start


def take_back_and_die(statements: int) -> None:
    """Kill this process before so many and one statements."""
    left = statements

    def count(execute: Any, *arguments: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return execute(*arguments)

    with connection.execute_wrapper(count):
        store.rewind_session("s", before_turn=2)


class KilledTests(TransactionTestCase):
    def test_a_session_is_taken_back_whole_or_not_at_all(self):
        turns = [[{"role": role, "content": "a"}] for role in ("user", "assistant")] * 2
        for items in turns:
            store.append_items("s", items)
        for statements in range(50):
            code = f"from {__name__} import take_back_and_die as f; f({statements})"
            process = start(code)
            _, errors = process.communicate(timeout=60)
            row = AgentSession.objects.get()
            assert list(store.check_sessions()) == []
            if process.returncode == 0:
                break
            assert process.returncode == -signal.SIGKILL, errors
            assert len(store.read_items("s")) == 4, statements
            assert row.rewound_before == 0
        assert statements > 5
        assert (len(store.read_items("s")), row.rewound_before) == (2, 3)
