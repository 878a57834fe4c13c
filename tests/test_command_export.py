from __future__ import annotations

import json
import tempfile
from io import StringIO
from pathlib import Path
from unittest import mock

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import TestCase, override_settings

from agent_sessions import exports, jsonlines, store
from agent_sessions.models import AgentSession, SessionAccess
from tests.projects.cases import say
from tests.test_command_prune import create

User = get_user_model()


def export(*arguments):
    output, errors = StringIO(), StringIO()
    call_command("export_agent_sessions", *arguments, stdout=output, stderr=errors)
    return output.getvalue(), errors.getvalue()


class ExportTests(TestCase):
    databases = {"default", "other"}

    @classmethod
    def setUpTestData(cls):
        cls.ann = User.objects.create(username="ann")
        cls.bob = User.objects.create(username="bob")
        create("ann-new", user=cls.ann, items=2, title="Zoë")
        create("ann-old", days=100, user=cls.ann)
        create("bob-old", days=100, user=cls.bob)
        create("visitor")

    def exported(self, *arguments):
        output, _ = export(*arguments)
        lines = [json.loads(line) for line in output.splitlines()]
        # Those of one millisecond have no order that a test could know.
        return sorted(
            line["session"]["session_id"] for line in lines if "session" in line
        )

    def test_without_criteria_everything_is_written(self):
        output, errors = export()
        keys = AgentSession.objects.order_by("pk").values_list("pk", flat=True)
        lines = b"".join(jsonlines.dump_sessions(keys, using="default"))
        assert output == lines.decode()
        assert errors == "Exported 4 session(s).\n"

    def test_criteria_narrow_each_other(self):
        assert self.exported("--user", "ann") == ["ann-new", "ann-old"]
        assert self.exported("--user-id", str(self.bob.pk)) == ["bob-old"]
        assert self.exported("--older-than", "30") == ["ann-old", "bob-old"]
        assert self.exported("--newer-than", "30") == ["ann-new", "visitor"]
        given = ("--session", "visitor", "--session", "bob-old")
        assert self.exported(*given) == ["bob-old", "visitor"]
        assert self.exported(*given, "--newer-than", "30") == ["visitor"]

    def test_every_exported_session_is_recorded_and_no_other(self):
        export("--user", "ann", "--reason", "ticket 42")
        records = SessionAccess.objects.all()
        keys = set(AgentSession.objects.for_user(self.ann).values_list("pk", flat=True))
        assert {record.session for record in records} == keys
        facts = {(r.action, r.channel, r.user_id, r.reason) for r in records}
        assert facts == {("exported", "command", None, "ticket 42")}

    def test_markdown_is_to_read(self):
        output, _ = export("--user", "ann", "--format", "markdown")
        assert output.startswith("# Zoë\n")
        assert output.count("- Session id: ") == 2
        assert output.count("secret") == 3
        assert SessionAccess.objects.count() == 2

    def test_a_file_is_private_and_whole(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "ann.jsonl"
            output, errors = export("--user", "ann", "--output", str(path))
            assert (output, errors) == ("", "Exported 2 session(s).\n")
            assert path.read_text() == export("--user", "ann")[0]
            assert path.stat().st_mode & 0o777 == 0o600

    def test_a_file_that_is_there_stays_as_it_is(self):
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"precious")
            file.flush()
            with self.assertRaisesMessage(CommandError, "Not exported"):
                export("--output", file.name)
            assert Path(file.name).read_bytes() == b"precious"

    def test_of_a_full_disk_no_half_file_stays(self):
        def fill(*arguments, **options):
            yield b"header"
            raise OSError(28, "No space left on device")

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "all.jsonl"
            with (
                mock.patch.object(exports, "dump_sessions", fill),
                self.assertRaisesMessage(CommandError, "No space left on device"),
            ):
                export("--output", str(path))
            assert not path.exists()

    def test_what_is_not_there_is_said(self):
        for arguments in (
            ("--user", "nobody"),
            ("--user", "Ann"),
            ("--user-id", "0"),
            ("--user-id", "x"),
            ("--session", "unknown"),
            ("--session", " visitor"),
            ("--older-than", "9" * 30),
            ("--database", "other"),
            ("--user", "ann", "--user-id", "1"),
        ):
            with self.subTest(arguments), self.assertRaises(CommandError):
                export(*arguments)
        assert not SessionAccess.objects.exists()

    @override_settings(AGENT_SESSIONS_REQUIRE_REASON=True)
    def test_without_a_required_reason_there_is_no_file(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "all.jsonl"
            with self.assertRaisesMessage(CommandError, "without a reason"):
                export("--output", str(path))
            assert not path.exists()
            export("--output", str(path), "--reason", "ticket 42")
            assert path.exists()

    def test_another_database_is_exported_and_recorded_there(self):
        create("there", using="other")
        assert self.exported("--database", "other") == ["there"]
        assert SessionAccess.objects.using("other").count() == 1
        assert not SessionAccess.objects.exists()

    def test_many_sessions_are_recorded_page_by_page(self):
        for number in range(150):
            store.append_items(f"more-{number}", [say("hello")])
        assert len(self.exported()) == 154
        assert SessionAccess.objects.count() == 154
