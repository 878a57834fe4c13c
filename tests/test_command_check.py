from __future__ import annotations

from datetime import timedelta
from io import StringIO
from unittest import mock

from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import ProgrammingError
from django.test import TestCase, override_settings
from django.utils import timezone

from agent_sessions import store
from agent_sessions.models import AgentSession
from agent_sessions.store import inspection
from tests.nasty import NASTY_ITEMS
from tests.projects.cases import say
from tests.test_command_prune import create

CALL = {
    "type": "function_call",
    "call_id": "c1",
    "name": "secret_tool",
    "arguments": "{}",
}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "secret"}
FINE = (
    "broken row: 0, wrong counter: 0, tool call without output: 0, "
    "orphaned session: 0, fixed: 0.\n"
)


def check(*arguments):
    """Return what the command printed, and its error if it failed."""
    output, failure = StringIO(), ""
    try:
        call_command("check_agent_sessions", *arguments, stdout=output)
    except CommandError as error:
        failure = str(error)
    return output.getvalue(), failure


class CheckTests(TestCase):
    databases = {"default", "other"}

    def test_what_the_database_refuses_is_said(self):
        create("a", items=1)
        refused = ProgrammingError("permission denied for table x")
        with mock.patch.object(inspection, "perform", side_effect=refused):
            assert check() == (
                "",
                "Not checked to the end: permission denied for table x",
            )

    def test_what_the_store_writes_is_fine(self):
        store.append_items("nasty", list(NASTY_ITEMS.values()))
        store.append_items("gaps", [say(str(number)) for number in range(5)])
        store.pop_item("gaps")
        store.append_items("gaps", [say("again"), CALL, OUTPUT])
        create("compacted", items=3)
        row = AgentSession.objects.get(session_id="compacted")
        store.replace_items(row, [say("summary")])
        store.append_items("cleared", [say("secret")])
        store.clear_session("cleared")
        assert check() == (FINE, "")

    def test_wrong_counters_are_found_and_fixed(self):
        row = create("wrong", items=3)
        right = AgentSession.objects.values().get()
        AgentSession.objects.update(
            item_count=7, turn_count=0, next_position=2, next_turn=1
        )
        output, failure = check()
        names = ("item_count", "turn_count", "next_position", "next_turn")
        assert output == "".join(f"{row.pk}: wrong counter, {name}\n" for name in names)
        assert "wrong counter: 4," in failure
        assert AgentSession.objects.get().item_count == 7
        output, failure = check("--fix")
        assert output.count("; fixed\n") == 4 and failure == ""
        assert AgentSession.objects.values().get() == right
        assert check() == (FINE, "")

    def test_counters_that_are_ahead_are_right(self):
        create("ahead")
        AgentSession.objects.update(next_position=10, next_turn=10)
        assert check() == (FINE, "")

    def test_what_was_no_fault_under_the_lock_is_not_fixed(self):
        create("busy")
        row = AgentSession.objects.get()
        wrong = {row.pk: ["item_count"]}
        with mock.patch.object(inspection, "_find_wrong", return_value=wrong):
            assert check("--fix") == (FINE, "")

    def test_broken_rows_are_named_by_position_and_left_alone(self):
        row = create("broken", items=2)
        row.items.filter(position=1).update(data='{"secret')
        for arguments in ((), ("--fix",)):
            output, failure = check(*arguments)
            assert output == f"{row.pk}: broken row, position 1\n"
            assert "broken row: 1," in failure

    def test_a_call_without_output_is_found_when_nothing_can_still_run(self):
        store.append_items("calling", [say("secret"), CALL])
        row = AgentSession.objects.get()
        assert check() == (FINE, "")
        AgentSession.objects.update(updated_at=timezone.now() - timedelta(hours=2))
        output, failure = check()
        assert output == f"{row.pk}: tool call without output, position 1\n"
        assert "tool call without output: 1," in failure
        store.append_items("calling", [OUTPUT])
        AgentSession.objects.update(updated_at=timezone.now() - timedelta(hours=2))
        assert check() == (FINE, "")

    def test_orphans_are_wrong_only_where_none_should_be(self):
        row = create("orphan", owned_at=timezone.now())
        output, failure = check()
        assert f"{row.pk}: orphaned session\n" in output
        assert "orphaned session: 1," in output and failure == ""
        with override_settings(AGENT_SESSIONS_ON_USER_DELETE="delete"):
            _, failure = check()
        assert "orphaned session: 1," in failure

    def test_only_the_named_database_is_checked(self):
        create("wrong", using="other")
        AgentSession.objects.using("other").update(item_count=7)
        assert check() == (FINE, "")
        assert "item_count" in check("--database", "other")[0]
        assert "; fixed" in check("--database", "other", "--fix")[0]
        assert check("--database", "other") == (FINE, "")

    def test_nothing_that_was_said_is_printed(self):
        row = create("secret-id", days=1, items=3, title="secret", preview="secret")
        store.append_items(row, [CALL])
        row.items.filter(position=1).update(data="secret")
        AgentSession.objects.update(
            item_count=9, updated_at=timezone.now() - timedelta(days=1)
        )
        output, failure = check()
        assert output.count("\n") == 3 and "secret" not in output + failure
