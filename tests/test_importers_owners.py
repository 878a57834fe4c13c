from __future__ import annotations

from io import StringIO
from unittest import mock

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import TestCase

from agent_sessions import store
from agent_sessions.importers.owners import parse_owner_rule
from agent_sessions.models import AgentSession
from tests.imports import ImportCase
from tests.sources import write_sqlite

User = get_user_model()


def owner_by_suffix(session):
    return User.objects.filter(username=session.session_id.rpartition("-")[2]).first()


class OwnerTests(ImportCase, TestCase):
    def setUp(self):
        super().setUp()
        self.ann = User.objects.create(username="ann", email="ann@example.com")
        self.id = f"user-{self.ann.pk}-ann"
        write_sqlite(self.path, self.id, "visitor")

    def owners(self):
        return dict(AgentSession.objects.values_list("session_id", "user_id"))

    def test_a_pattern_finds_owners(self):
        self.run_import("--map-user", r"pattern:user-(?P<user>\d+)-")
        assert self.owners() == {self.id: self.ann.pk, "visitor": None}
        row = AgentSession.objects.for_user(self.ann).get()
        assert row.owned_at == row.created_at
        self.run_import("--map-user", r"pattern:user-(?P<user>\d+)-")

    def test_a_csv_finds_owners_by_any_field(self):
        csv = self.path.with_suffix(".csv")
        csv.write_text(f"\ufeffsession_id,user\n{self.id},ann@example.com\n")
        self.run_import("--map-user", f"csv:{csv}", "--user-field", "email")
        assert self.owners() == {self.id: self.ann.pk, "visitor": None}

    def test_a_function_finds_owners(self):
        self.run_import("--map-user", f"call:{__name__}.owner_by_suffix")
        assert self.owners() == {self.id: self.ann.pk, "visitor": None}

    def test_an_unknown_user_is_named_and_their_session_stays_out(self):
        said = StringIO()
        with self.assertRaisesMessage(CommandError, "1 refused"):
            call_command(
                "import_agent_sessions",
                str(self.path),
                "--map-user",
                "pattern:user-.*-(?P<user>.*)",
                "--user-field",
                "email",
                stdout=said,
            )
        assert f"{self.id!r}: refused; No user has the email 'ann'." in said.getvalue()
        assert self.owners() == {"visitor": None}

    def test_a_value_that_no_key_can_have_names_nobody(self):
        key = str(self.ann.pk)
        for field, value in (
            ("pk", "x"),
            ("id", "x"),
            ("pk", "9" * 30),
            ("pk", f"0_{key}"),
            ("pk", key.translate({48 + digit: 0x660 + digit for digit in range(10)})),
        ):
            with self.subTest(value):
                (outcome, *_) = self.outcomes(
                    map_user=lambda session, value=value: value, user_field=field
                )
                assert outcome.is_failure

    def test_what_is_no_user_but_reads_like_a_key_names_nobody(self):
        rule = lambda session: Group(name=str(self.ann.pk))  # noqa: E731
        kinds = {it.note for it in self.outcomes(map_user=rule)}
        assert len(kinds) == 1 and "user is of type Group" in kinds.pop()

    def test_long_values_are_not_repeated(self):
        rule = lambda session: "secret" * 20  # noqa: E731
        (outcome, *_) = self.outcomes(map_user=rule, user_field="username")
        assert outcome.note == "No user has the username of 120 letters."

    def test_a_field_that_several_share_names_nobody(self):
        User.objects.create(username="other", email="ann@example.com")
        rule = lambda session: "ann@example.com"  # noqa: E731
        kinds = {it.note for it in self.outcomes(map_user=rule, user_field="email")}
        assert kinds == {"More than one user has the email 'ann@example.com'."}

    def test_anothers_session_is_a_conflict(self):
        store.create_session(None, session_id=self.id)
        self.assert_fails(
            "--map-user", r"pattern:user-(?P<user>\d+)-", saying="1 conflict"
        )
        self.assert_fails(saying="1 conflict")

    def test_wrong_rules_are_explained(self):
        csv = self.path.with_suffix(".csv")
        for rule, saying in (
            ("ann", "is none of csv:FILE"),
            ("pattern:(", "is not a regular expression"),
            ("pattern:x", "has no group"),
            ("call:no.such", "No module named"),
            ("call:tests.fakes.RUN_CONFIG", "cannot be called"),
            (f"csv:{csv}", "The owners cannot be read"),
        ):
            with self.subTest(rule):
                self.assert_fails("--map-user", rule, saying=saying)
        csv.write_text("id,owner\n")
        self.assert_fails(
            "--map-user", f"csv:{csv}", saying="the columns are session_id and"
        )
        csv.write_text("session_id,user,user\na,1,2\n")
        self.assert_fails(
            "--map-user", f"csv:{csv}", saying="the columns are session_id and"
        )
        csv.write_text('session_id,user\n"a\n,1\n')
        self.assert_fails(
            "--map-user", f"csv:{csv}", saying="not a whole CSV file in UTF-8"
        )
        csv.write_text("session_id,user\na,1\na,2\n")
        self.assert_fails(
            "--map-user", f"csv:{csv}", saying="line 3: the session has two"
        )
        csv.write_text("session_id,user\na,Doe, Jane\n")
        self.assert_fails(
            "--map-user", f"csv:{csv}", saying="line 2: there are more columns"
        )
        csv.write_bytes(b"session_id,user\n\xff,1\n")
        self.assert_fails(
            "--map-user", f"csv:{csv}", saying="not a whole CSV file in UTF-8"
        )
        self.assert_fails("--user-field", "shoe_size", saying="Users have no field")
        assert not AgentSession.objects.exists()

    def test_metadata_of_the_source_can_name_the_owner(self):
        rule = parse_owner_rule("metadata:who")
        session = mock.Mock(metadata={"who": "ann"})
        assert rule(session) == "ann"
        assert rule(mock.Mock(metadata={})) is None
