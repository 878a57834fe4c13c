"""Who takes a session back, copies it or writes to it, and is killed in the middle."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

from django.db import connection
from django.test import TransactionTestCase

from agent_sessions import store
from agent_sessions.models import AgentSession
from tests.processes import start
from tests.usage_cases import ONE


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
        match verb:
            case "rewind":
                store.rewind_session("s", before_turn=2, keep=True)
            case "fork":
                store.fork_session("s", before_turn=2)
            case "append":
                store.append_items("s", [{"role": "assistant"}] * 3, usage=ONE)
            case "lease":
                lease = store.acquire_lease("new")
                store.renew_lease("new", lease)
                store.release_lease("new", lease)


def kill_children(verb: str) -> None:
    """Do it in a fork for each number read, and print how the fork has ended."""
    for line in sys.stdin:
        child = os.fork()
        if not child:
            try:
                do_and_die(verb, int(line))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


class KilledTests(TransactionTestCase):
    def setUp(self):
        turns = [[{"role": role, "content": "a"}] for role in ("user", "assistant")] * 2
        for items in turns:
            store.append_items("s", items)

    def kill_until_done(self, verb: str, check: Callable[[], None]) -> int:
        """Kill it later and later, until it ends; return how often, each checked."""
        with start(f"from {__name__} import kill_children as f; f({verb!r})") as parent:
            assert parent.stdin and parent.stdout and parent.stderr
            for statements in range(50):
                print(statements, file=parent.stdin, flush=True)
                status = parent.stdout.readline().strip()
                assert list(store.check_sessions()) == []
                if status == "0":
                    return statements
                if status != str(-signal.SIGKILL):
                    parent.stdin.close()
                    raise AssertionError(parent.stderr.read())
                check()
        raise AssertionError("It does not end.")

    def other(self) -> AgentSession:
        return AgentSession.objects.exclude(session_id="s").get()

    def assert_untouched(self) -> None:
        row = AgentSession.objects.get()
        assert (len(store.read_items("s")), row.rewound_before) == (4, 0)
        assert not store.read_usage("s")

    def test_a_session_is_taken_back_whole_or_not_at_all(self):
        assert self.kill_until_done("rewind", self.assert_untouched) > 5
        row = AgentSession.objects.get(session_id="s")
        assert (len(store.read_items("s")), row.rewound_before) == (2, 3)
        assert len(store.read_items(self.other())) == 4

    def test_a_fork_is_there_whole_or_not_at_all(self):
        assert self.kill_until_done("fork", self.assert_untouched) > 5
        assert len(store.read_items("s")) == 4
        assert len(store.read_items(self.other())) == 2

    def test_tokens_are_counted_with_their_items_or_neither_is(self):
        self.kill_until_done("append", self.assert_untouched)
        assert len(store.read_items("s")) == 7
        assert store.get_usage_by_turn("s") == {2: ONE}

    def test_a_lease_is_held_or_not(self):
        held = []

        def check() -> None:
            rows = AgentSession.objects.filter(session_id="new")
            held.extend(row.lease and row.leased_until for row in rows)
            rows.delete()

        self.kill_until_done("lease", check)
        # Each would end by itself.
        assert held and all(held)
        assert (self.other().lease, self.other().leased_until) == (None, None)
