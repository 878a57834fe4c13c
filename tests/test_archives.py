from __future__ import annotations

import io
import json
import os
import resource
import signal
import tempfile
import zipfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import TestCase, TransactionTestCase, override_settings
from django.utils.translation import override

from agent_sessions import archives, exports, jsonlines, store
from agent_sessions.exceptions import ReasonMissing
from agent_sessions.management import outputs
from agent_sessions.management.commands import export_agent_sessions
from agent_sessions.models import AgentSession, AgentUser, SessionAccess
from tests.processes import start
from tests.projects.cases import say
from tests.test_command_prune import create

User = get_user_model()
COMMAND = SessionAccess.Channel.COMMAND


def export_to(path, *arguments):
    """Return what the command said on stderr."""
    errors = io.StringIO()
    arguments = (*arguments, "--output", str(path))
    call_command("export_agent_sessions", *arguments, stderr=errors)
    return errors.getvalue()


class ArchiveTestCase(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.ann = User.objects.create(username="Zoë")
        cls.bob = User.objects.create(username="bob")
        create("ann-1", user=cls.ann, items=2, title="Ümläut")
        create("ann-2", days=100, user=cls.ann)
        create("bob-1", user=cls.bob)
        store.update_user_metadata({"name": "Zoë"}, user=cls.ann)
        cls.rows = AgentSession.objects.for_user(cls.ann).order_by("pk")

    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.path = self.folder / "ann.zip"

    def archive(self, person=None, rows=None, **options):
        person, options = person or self.ann, {"channel": COMMAND, **options}
        rows = AgentSession.objects.all() if rows is None else rows
        parts = archives.export_archive(person, rows, **options)
        return zipfile.ZipFile(io.BytesIO(b"".join(parts)))


class ArchiveTests(ArchiveTestCase):
    def test_it_holds_all_of_one_user_and_nothing_of_others(self):
        archive = self.archive()
        assert archive.testzip() is None
        transcripts = [
            f"transcripts/{row.created_at:%Y-%m-%d}-{row.pk}.md" for row in self.rows
        ]
        fixed = ["README.txt", "user.json", "sessions.jsonl"]
        assert archive.namelist() == fixed + transcripts
        keys = [row.pk for row in self.rows]
        lines = b"".join(jsonlines.dump_sessions(keys, using="default"))
        assert archive.read("sessions.jsonl") == lines
        for row, name in zip(self.rows, transcripts, strict=True):
            assert archive.read(name) == b"".join(exports.export_markdown(row))
        kept = json.loads(archive.read("user.json"))
        assert (kept["username"], kept["metadata"]) == ("Zoë", {"name": "Zoë"})
        assert kept["updated_at"] == AgentUser.objects.get().updated_at.isoformat()
        assert "User: Zoë\n" in archive.read("README.txt").decode()
        assert "Sessions: 2\n" in archive.read("README.txt").decode()

    def test_files_in_it_are_private_and_have_their_sessions_time(self):
        archive = self.archive()
        for info in archive.infolist():
            assert info.external_attr >> 16 == 0o600
        for row, info in zip(self.rows, archive.infolist()[3:], strict=True):
            when = datetime(*info.date_time, tzinfo=UTC)
            assert abs((row.updated_at - when).total_seconds()) <= 2

    def test_times_that_a_zip_cannot_say_are_cut(self):
        for year in (1970, 2500):
            self.rows.update(updated_at=datetime(year, 6, 1, tzinfo=UTC))
            years = {info.date_time[0] for info in self.archive().infolist()[3:]}
            assert years == {min(max(year, 1980), 2107)}

    def test_it_speaks_the_readers_language(self):
        with override("de"):
            readme = self.archive().read("README.txt").decode()
        assert "Sitzungen: 2\n" in readme and "KI-Agenten" in readme

    def test_sessions_can_be_chosen(self):
        rows = AgentSession.objects.filter(session_id__in=["ann-2", "bob-1"])
        archive = self.archive(rows=rows)
        assert b"ann-2" in archive.read("sessions.jsonl")
        assert len(archive.namelist()) == 4

    def test_a_user_without_sessions_has_an_archive_too(self):
        eve = User.objects.create(username="eve")
        archive = self.archive(eve)
        assert len(archive.namelist()) == 3
        assert json.loads(archive.read("user.json"))["metadata"] == {}
        (record,) = SessionAccess.objects.all()
        assert (record.action, record.session) == ("exported", None)

    def test_each_session_is_recorded_once_before_anything_is_handed_out(self):
        parts = archives.export_archive(
            self.ann, AgentSession.objects.all(), channel=COMMAND, reason="request 7"
        )
        next(parts)
        facts = SessionAccess.objects.values_list("session", "reason").order_by("pk")
        expected = {(row.pk, "request 7") for row in self.rows}
        assert set(facts) == expected
        b"".join(parts)
        assert SessionAccess.objects.count() == 2

    @override_settings(AGENT_SESSIONS_REQUIRE_REASON=True)
    def test_without_a_required_reason_nothing_is_handed_out(self):
        for person in (self.ann, User.objects.create(username="eve")):
            with self.assertRaises(ReasonMissing):
                self.archive(person)

    def test_a_session_that_goes_meanwhile_is_left_out(self):
        parts = archives.export_archive(
            self.ann, AgentSession.objects.all(), channel=COMMAND
        )
        begun = next(parts)
        store.delete_session("ann-1", user=self.ann)
        archive = zipfile.ZipFile(io.BytesIO(begun + b"".join(parts)))
        assert len(archive.namelist()) == 4
        assert b"ann-1" not in archive.read("sessions.jsonl")

    def test_what_a_new_owner_says_is_not_handed_out(self):
        parts = archives.export_archive(
            self.ann, AgentSession.objects.all(), channel=COMMAND
        )
        content = b""
        while b"sessions.jsonl" not in content:
            content += next(parts)
        row = store.transfer_session("ann-1", self.bob, user=self.ann)
        store.append_items(row, [say("by Bob")])
        archive = zipfile.ZipFile(io.BytesIO(content + b"".join(parts)))
        assert len(archive.namelist()) == 4
        whole = b"".join(map(archive.read, archive.namelist()))
        assert b"by Bob" not in whole


class ArchiveCommandTests(ArchiveTestCase):
    def test_it_is_written_to_a_file(self):
        said = export_to(self.path, "--user", "Zoë", "--format", "zip")
        assert said == "Exported 2 session(s).\n"
        with zipfile.ZipFile(self.path) as archive:
            assert len(archive.namelist()) == 5
        assert self.path.stat().st_mode & 0o777 == 0o600
        assert os.listdir(self.folder) == ["ann.zip"]

    def test_it_is_written_to_a_pipe(self):
        binary = io.BytesIO()
        output = io.TextIOWrapper(binary)
        arguments = ("--user", "Zoë", "--format", "zip")
        errors = io.StringIO()
        call_command("export_agent_sessions", *arguments, stdout=output, stderr=errors)
        assert zipfile.ZipFile(io.BytesIO(binary.getvalue())).testzip() is None

    def test_what_agents_keep_is_reason_enough(self):
        eve = User.objects.create(username="eve")
        arguments = ("--user", "eve", "--format", "zip")
        with self.assertRaisesMessage(CommandError, "No session meets"):
            export_to(self.path, *arguments)
        store.update_user_metadata({"name": "Eve"}, user=eve)
        assert export_to(self.path, *arguments) == "Exported 0 session(s).\n"

    def test_it_is_for_one_user_and_not_for_a_terminal(self):
        with self.assertRaisesMessage(CommandError, "--user"):
            export_to(self.path, "--format", "zip")
        terminal = mock.Mock(isatty=lambda: True)
        arguments = ("--user", "Zoë", "--format", "zip")
        with self.assertRaisesMessage(CommandError, "--output"):
            call_command("export_agent_sessions", *arguments, stdout=terminal)
        assert not SessionAccess.objects.exists()
        assert os.listdir(self.folder) == []

    def test_a_file_that_comes_meanwhile_stays_as_it_is(self):
        publish = outputs._publish

        def come_first(part, path):
            path.write_text("precious")
            publish(part, path)

        with (
            mock.patch.object(outputs, "_publish", come_first),
            self.assertRaisesMessage(CommandError, "Not exported"),
        ):
            export_to(self.path)
        assert self.path.read_text() == "precious"
        assert os.listdir(self.folder) == ["ann.zip"]

    def test_a_file_system_without_links_does(self):
        with mock.patch("os.link", side_effect=OSError(95, "Not supported")):
            export_to(self.path)
        assert self.path.read_bytes().count(b'{"session"') == 3
        assert os.listdir(self.folder) == ["ann.zip"]

    def test_a_folder_that_is_not_there_is_said(self):
        with self.assertRaisesMessage(CommandError, "No such file or directory"):
            export_to(self.folder / "missing" / "ann.zip")


def export_with_limit(path: str, form: str) -> None:
    """Export where a file cannot grow any more, as on a full disk."""
    write = export_agent_sessions.write_file

    def write_with_limit(path: Path, parts: Iterable[bytes]) -> None:
        # Only now: the database may be a file as well.
        parts = list(parts)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        write(path, parts)

    export_agent_sessions.write_file = write_with_limit
    _run("export_agent_sessions", "--user=ann", f"--format={form}", f"--output={path}")


def export_and_die(path: str, form: str) -> None:
    write = outputs._publish

    def die(part: Path, target: Path) -> None:
        os.kill(os.getpid(), signal.SIGKILL)
        write(part, target)

    outputs._publish = die
    _run("export_agent_sessions", "--user=ann", f"--format={form}", f"--output={path}")


def export_to_stdout(form: str) -> None:
    _run("export_agent_sessions", "--user=ann", f"--format={form}")


def _run(*arguments: str) -> None:
    from django.core.management import execute_from_command_line

    execute_from_command_line(["manage.py", *arguments])


class DiskTests(TransactionTestCase):
    def setUp(self):
        ann = User.objects.create(username="ann")
        for number in range(5):
            # Not to be compressed away.
            text = os.urandom(10_000).hex()
            store.append_items(f"{number}", [say(text)], user=ann)
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.path = self.folder / "ann"

    def export(self, function, *arguments):
        code = f"import sys; from tests.test_archives import {function.__name__} as f"
        process = start(f"{code}; f(*sys.argv[1:])", *arguments)
        _, errors = process.communicate(timeout=60)
        return process.returncode, errors

    def test_on_a_full_disk_nothing_is_left_behind(self):
        for form in ("jsonl", "markdown", "zip"):
            status, said = self.export(export_with_limit, str(self.path), form)
            assert status == 1
            assert said.startswith("CommandError: Not exported: [Errno 27]"), said
            assert os.listdir(self.folder) == []

    def test_what_is_killed_does_not_look_whole(self):
        for form in ("jsonl", "zip"):
            status, _ = self.export(export_and_die, str(self.path), form)
            assert status == -signal.SIGKILL
            (left,) = self.folder.iterdir()
            assert left.name.startswith("ann.") and left.suffix == ".part"
            left.unlink()

    def test_a_full_device_behind_stdout_is_said(self):
        code = "from tests.test_archives import export_to_stdout as f; f('{}')"
        for form in ("jsonl", "zip"):
            full = f"import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 1)\n{code}"
            process = start(full.format(form))
            _, said = process.communicate(timeout=60)
            assert process.returncode == 1
            assert said == (
                "CommandError: Not exported: [Errno 28] No space left on device\n"
            )
