from __future__ import annotations

import json
from io import StringIO
from unittest import mock

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import DataError, OperationalError
from django.test import TestCase

from agent_sessions import store
from agent_sessions.management.commands import erase_agent_user
from agent_sessions.models import AgentSession, ErasureReceipt
from tests.projects.cases import say
from tests.scanning import find_words

User = get_user_model()


def erase(*arguments, answer=None, **options):
    """Return what the command wrote on stdout and stderr."""
    output, errors = StringIO(), StringIO()
    if answer is None:
        arguments = (*arguments, "--no-input")
    with mock.patch("builtins.input", side_effect=[answer]):
        call_command(
            "erase_agent_user", *arguments, stdout=output, stderr=errors, **options
        )
    return output.getvalue(), errors.getvalue()


class EraseCommandTests(TestCase):
    databases = {"default", "other"}

    @classmethod
    def setUpTestData(cls):
        cls.ann = User.objects.create(username="ann")
        cls.bob = User.objects.create(username="bob")
        for user in (cls.ann, cls.bob):
            store.append_items(f"{user}'s", [say("sesame"), say("b")], user=user)

    def assert_nothing_is_lost(self):
        assert AgentSession.objects.count() == 2
        assert not ErasureReceipt.objects.exists()

    def test_the_receipt_is_printed_as_json(self):
        output, errors = erase("--user", "ann", "--by", "the officer")
        receipt = ErasureReceipt.objects.get()
        assert json.loads(output) == {
            "id": str(receipt.pk),
            "erased_user": str(self.ann.pk),
            "asked_by": "the officer",
            "started_at": receipt.started_at.isoformat(),
            "finished_at": receipt.finished_at.isoformat(),
            "sessions": 1,
            "items": 2,
            "agent_users": 0,
            "accesses": 0,
            "sessions_digest": receipt.sessions_digest,
            "database": "default",
        }
        assert errors == ""
        assert AgentSession.objects.get().user == self.bob

    def test_by_key_and_by_whoever_runs_it(self):
        with mock.patch("getpass.getuser", return_value="deploy"):
            output, _ = erase("--user-id", str(self.ann.pk))
        assert json.loads(output)["asked_by"] == "deploy"
        assert AgentSession.objects.get().user == self.bob

    def test_who_asks_has_to_be_said_where_the_system_does_not_know(self):
        with (
            mock.patch("getpass.getuser", side_effect=KeyError("uid 1000")),
            self.assertRaisesMessage(CommandError, "--by"),
        ):
            erase("--user", "ann")
        self.assert_nothing_is_lost()

        for blank in ("", " ", "\ud800"):
            with self.assertRaisesMessage(CommandError, "--by"):
                erase("--user", "ann", "--by", blank)
        self.assert_nothing_is_lost()

    def test_a_key_is_taken_only_as_keys_are_spelled(self):
        key = str(self.ann.pk)
        arabic = key.translate({48 + digit: 0x660 + digit for digit in range(10)})
        for spelled in (f"0_{key}", f"+{key}", f" {key}", arabic):
            with (
                self.subTest(spelled),
                self.assertRaisesMessage(CommandError, "not a user's key"),
            ):
                erase("--user-id", spelled)
        self.assert_nothing_is_lost()

    def test_a_name_that_no_database_takes_is_nobodys(self):
        # What Python makes of an argument that is not UTF-8.
        with self.assertRaisesMessage(CommandError, "There is no such user"):
            erase("--user", "ann\udcff")
        self.assert_nothing_is_lost()

    def test_a_receipt_that_cannot_be_printed_is_kept_and_named(self):
        full = mock.Mock(write=mock.Mock(side_effect=OSError(28, "No space left")))
        with self.assertRaisesMessage(CommandError, "No space left") as caught:
            call_command("erase_agent_user", user="ann", interactive=False, stdout=full)
        assert str(ErasureReceipt.objects.get().pk) in str(caught.exception)

    def test_it_asks_first(self):
        for answer in ("no", "", "y"):
            with self.assertRaisesMessage(CommandError, "Nothing was done."):
                erase("--user", "ann", answer=answer)
        with self.assertRaisesMessage(CommandError, "--no-input"):
            erase("--user", "ann", answer=EOFError)
        self.assert_nothing_is_lost()
        output, errors = erase("--user-id", str(self.ann.pk), answer="yes")
        assert errors.startswith(
            "Erase of 'ann' in database 'default': 1 session(s) with 2 item(s), "
        )
        assert json.loads(output)["sessions"] == 1

    def test_a_dry_run_counts_and_erases_nothing(self):
        output, _ = erase("--user", "ann", "--dry-run")
        assert json.loads(output) == {
            "sessions": 1,
            "items": 2,
            "agent_users": 0,
            "accesses": 0,
            "database": "default",
        }
        self.assert_nothing_is_lost()

    def test_the_wrong_user_or_database_is_said_and_nothing_is_lost(self):
        for arguments, message in (
            (("--user", "nobody"), "no such user in database 'default'"),
            (("--user", "Ann"), "no such user in database 'default'"),
            (("--user", "ann", "--database", "other"), "in database 'other'"),
            (("--user-id", "987654321"), "Nothing is stored of this user"),
            (("--user-id", str(self.ann.pk), "--database", "other"), "'other'"),
            (("--user-id", "x"), "not a user's key"),
            (("--user", "ann", "--database", "elsewhere"), "invalid choice"),
            ((), "required"),
        ):
            with (
                self.subTest(arguments),
                self.assertRaisesMessage(CommandError, message),
            ):
                erase(*arguments)
        self.assert_nothing_is_lost()

    def test_nothing_to_erase_has_a_status_of_its_own(self):
        key = str(User.objects.create(username="eve").pk)
        with self.assertRaises(CommandError) as caught:
            erase("--user-id", key)
        assert caught.exception.returncode == 3
        output, _ = erase("--user-id", key, "--allow-nothing")
        assert json.loads(output)["sessions"] == 0
        with self.assertRaises(CommandError) as caught:
            erase("--user", "nobody")
        assert caught.exception.returncode == 1

    def test_of_an_error_of_the_database_the_words_are_not_repeated(self):
        def fail(error):
            return mock.patch.object(
                erase_agent_user.store, "erase_user", side_effect=error
            )

        error = OperationalError("no connection\nDETAIL: sesame")
        message = "Not erased, or not to the end; run it again: no connection"
        with fail(error), self.assertRaises(CommandError) as caught:
            erase("--user", "ann")
        assert str(caught.exception) == message
        with fail(DataError("sesame")), self.assertRaises(CommandError) as caught:
            erase("--user", "ann")
        assert str(caught.exception).endswith("run it again: DataError.")

    def test_nothing_that_is_printed_repeats_what_was_said(self):
        output, errors = erase("--user", "ann", answer="yes")
        assert "sesame" not in output + errors
        assert find_words(["sesame"]) == {
            ("agent_sessions_agentsession", "preview"),
            ("agent_sessions_sessionitem", "data"),
        }
