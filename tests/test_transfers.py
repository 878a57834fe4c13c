from __future__ import annotations

from functools import partial
from io import StringIO
from unittest import mock

from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import OperationalError
from django.test import TestCase, override_settings

from agent_sessions import DjangoSession, store
from agent_sessions.exceptions import (
    InvalidMetadata,
    InvalidUser,
    SessionGone,
    SessionOwnershipError,
)
from agent_sessions.models import AgentSession, AgentUser, SessionAccess
from agent_sessions.store import transfers
from tests.projects.cases import say

User = get_user_model()
MOVED = ("transferred", "command")


def records():
    return [
        (record.action, record.channel, record.session, record.owner, record.reason)
        for record in SessionAccess.objects.order_by("session")
    ]


class TransferTestCase(TestCase):
    databases = {"default", "other"}

    @classmethod
    def setUpTestData(cls):
        cls.ann = User.objects.create(username="ann")
        cls.bob = User.objects.create(username="bob")
        cls.rows = [
            store.create_session(cls.ann, session_id=f"ann-{number}", title="Zoë")
            for number in range(3)
        ]
        for row in cls.rows:
            store.append_items(row, [say("sesame")])
            row.refresh_from_db()

    def owners(self):
        rows = AgentSession.objects.order_by("session_id")
        return list(rows.values_list("user__username", flat=True))

    def assert_nothing_moved(self):
        assert self.owners() == ["ann"] * 3
        assert not SessionAccess.objects.exists()


class TransferTests(TransferTestCase):
    def test_one_session_changes_hands_and_nothing_else(self):
        row = self.rows[1]
        moved = store.transfer_session(
            row, self.bob, by=self.bob, reason="a \x00ticket " + "x" * 600
        )
        assert moved == AgentSession.objects.get(pk=row.pk)
        assert self.owners() == ["ann", "bob", "ann"]
        for field in AgentSession._meta.concrete_fields:
            if field.name not in ("user", "revision"):
                name = field.attname
                assert getattr(moved, name) == getattr(row, name), name
        assert moved.revision == row.revision + 1
        assert store.read_items(moved) == [say("sesame")]
        assert store.read_items("ann-1", user=self.bob) == [say("sesame")]
        (record,) = SessionAccess.objects.all()
        assert (record.user, record.owner) == (self.bob, str(self.ann.pk))
        assert record.reason == ("a ticket " + "x" * 600)[:500]

    def test_a_session_is_named_by_its_id_and_owner_too(self):
        store.transfer_session("ann-0", self.bob, user=self.ann)
        assert self.owners() == ["bob", "ann", "ann"]
        for refused in (
            partial(store.transfer_session, "ann-0", self.bob, user=self.ann),
            partial(store.transfer_session, "ann-1", self.ann, user=self.bob),
        ):
            with self.assertRaises(SessionOwnershipError):
                refused()
        with self.assertRaises(SessionGone):
            store.transfer_session("unknown", self.bob, user=self.ann)
        assert SessionAccess.objects.count() == 1

    def test_to_its_own_owner_nothing_is_done(self):
        moved = store.transfer_session(self.rows[0], self.ann)
        assert moved.revision == self.rows[0].revision
        self.assert_nothing_moved()

    def test_what_has_no_owner_is_not_transferred(self):
        visitor = store.create_session(None)
        orphan = store.create_session(self.ann)
        store.remove_owners([orphan.pk])
        orphan.refresh_from_db()
        for session in (visitor, orphan, visitor.session_id):
            with self.assertRaises(SessionOwnershipError):
                store.transfer_session(session, self.bob)
        assert not AgentSession.objects.for_user(self.bob).exists()

    def test_nobody_is_given_nothing(self):
        ghost = User(pk=987654321)
        ghost._state.adding = False
        for to in (None, User(), ghost):
            with self.subTest(to), self.assertRaises(InvalidUser):
                store.transfer_session(self.rows[0], to)
            with self.subTest(to), self.assertRaises(InvalidUser):
                store.transfer_sessions(self.ann, to)
        for owner, to in ((None, self.bob), (self.ann, self.ann)):
            with self.assertRaises(InvalidUser):
                store.transfer_sessions(owner, to)
        self.assert_nothing_moved()

    def test_an_agent_that_still_runs_as_the_old_owner_is_refused(self):
        by_id = DjangoSession("ann-0", user=self.ann)
        async_to_sync(by_id.get_items)()
        by_row = self.rows[0].as_sdk_session()
        store.transfer_session(self.rows[0], self.bob)
        for session in (by_id, by_row, DjangoSession("ann-0", user=self.ann)):
            for call in (
                partial(session.add_items, [say("more")]),
                session.get_items,
                session.pop_item,
                session.clear_session,
            ):
                with self.assertRaises(SessionOwnershipError):
                    async_to_sync(call)()
        new = DjangoSession("ann-0", user=self.bob)
        async_to_sync(new.add_items)([say("more")])
        assert async_to_sync(new.get_items)() == [say("sesame"), say("more")]

    def test_all_sessions_of_a_merged_account_change_hands(self):
        store.update_session(self.rows[0], archived=True)
        store.create_session(self.bob, session_id="bob-0")
        visitor = store.create_session(None, session_id="visitor")
        done = store.transfer_sessions(self.ann, self.bob, by=self.bob, reason="merged")
        assert done == (3, False)
        assert self.owners() == ["bob"] * 4 + [None]
        visitor.refresh_from_db()
        assert visitor.owned_at is None
        expected = {(*MOVED, row.pk, str(self.ann.pk), "merged") for row in self.rows}
        assert set(records()) == expected
        assert store.transfer_sessions(self.ann, self.bob) == (0, False)

    def test_what_agents_keep_about_both_is_merged(self):
        store.update_user_metadata(
            {"name": "Ann", "plan": {"tier": "free", "since": 2020}}, user=self.ann
        )
        first = AgentUser.objects.get()
        store.update_user_metadata(
            {"name": "Bob", "plan": {"tier": "pro"}}, user=self.bob
        )
        assert store.transfer_sessions(self.ann, self.bob) == (3, True)
        (kept,) = AgentUser.objects.all()
        assert kept.user == self.bob
        assert kept.metadata == {"name": "Bob", "plan": {"tier": "pro", "since": 2020}}
        assert kept.created_at == first.created_at

    def test_what_agents_keep_about_the_first_alone_goes_along(self):
        store.update_user_metadata({"name": "Ann"}, user=self.ann)
        assert store.transfer_sessions(self.ann, self.bob).agent_user
        assert store.read_user_metadata(self.bob) == {"name": "Ann"}
        assert store.read_user_metadata(self.ann) == {}

    def test_what_agents_keep_can_be_left_alone(self):
        store.update_user_metadata({"name": "Ann"}, user=self.ann)
        done = store.transfer_sessions(self.ann, self.bob, metadata=False)
        assert done == (3, False)
        assert store.read_user_metadata(self.ann) == {"name": "Ann"}
        assert store.read_user_metadata(self.bob) == {}

    @override_settings(AGENT_SESSIONS_METADATA_MAX_BYTES=60)
    def test_metadata_that_becomes_too_large_stops_everything(self):
        store.update_user_metadata({"a": "a" * 30}, user=self.ann)
        store.update_user_metadata({"b": "b" * 30}, user=self.bob)
        with self.assertRaises(InvalidMetadata):
            store.transfer_sessions(self.ann, self.bob)
        self.assert_nothing_moved()
        assert AgentUser.objects.count() == 2

    def test_it_is_all_or_nothing(self):
        move, calls = transfers._Transfer.move, []

        def fail(transfer, keys, using):
            move(transfer, keys, using)
            calls.append(keys)
            raise OperationalError("the disk is full")

        store.update_user_metadata({"name": "Ann"}, user=self.ann)
        with (
            mock.patch.object(transfers._Transfer, "move", fail),
            self.assertRaises(OperationalError),
        ):
            store.transfer_sessions(self.ann, self.bob)
        assert len(calls[0]) == 3
        self.assert_nothing_moved()
        assert store.read_user_metadata(self.ann) == {"name": "Ann"}

    def test_the_former_owner_is_forgotten_with_an_erasure(self):
        store.transfer_sessions(self.ann, self.bob, reason="Ann is Bob")
        store.create_session(self.ann, session_id="z-new")
        assert store.erase_user(self.ann, by="me").accesses == 3
        assert self.owners() == ["bob"] * 3
        assert set(records()) == {(*MOVED, None, "", "")}


def transfer(*arguments, answer=None):
    output, errors = StringIO(), StringIO()
    if answer is None:
        arguments = (*arguments, "--no-input")
    with mock.patch("builtins.input", side_effect=[answer]):
        call_command(
            "transfer_agent_sessions", *arguments, stdout=output, stderr=errors
        )
    return output.getvalue(), errors.getvalue()


class TransferCommandTests(TransferTestCase):
    def test_all_sessions(self):
        store.update_user_metadata({"name": "Ann"}, user=self.ann)
        output, _ = transfer("--user", "ann", "--to", "bob", "--reason", "merged")
        assert output == "Transferred 3 session(s), and merged 1 agent user(s).\n"
        assert self.owners() == ["bob"] * 3
        assert records()[0][-1] == "merged"

    def test_one_session_between_keys(self):
        keys = ("--user-id", str(self.ann.pk), "--to-id", str(self.bob.pk))
        output, _ = transfer(*keys, "--session", "ann-1")
        assert output == "Transferred 1 session(s), and merged 0 agent user(s).\n"
        assert self.owners() == ["ann", "bob", "ann"]

    def test_it_asks_first(self):
        people = ("--user", "ann", "--to", "bob")
        with self.assertRaisesMessage(CommandError, "Nothing was done."):
            transfer(*people, answer="no")
        self.assert_nothing_moved()
        _, errors = transfer(*people, answer="yes")
        assert errors.startswith("Transfer from 'ann' to 'bob': 3 session(s), and 0 ")
        assert self.owners() == ["bob"] * 3

    def test_a_dry_run_counts_and_transfers_nothing(self):
        store.update_user_metadata({"name": "Ann"}, user=self.ann)
        people = ("--user", "ann", "--to", "bob", "--dry-run")
        for arguments, counts in (
            ((), "3 session(s), and 1 "),
            (("--no-metadata",), "3 session(s), and 0 "),
            (("--session", "ann-0"), "1 session(s), and 0 "),
        ):
            output, _ = transfer(*people, *arguments)
            assert output == f"Would transfer {counts}agent user(s) to merge.\n"
        self.assert_nothing_moved()

    def test_what_is_not_there_is_said_and_nothing_moves(self):
        for arguments, message in (
            (("--user", "nobody", "--to", "bob"), "no such user"),
            (("--user", "ann", "--to", "nobody"), "no such user"),
            (("--user", "ann", "--to-id", "0"), "no such user"),
            (("--user", "ann", "--to", "ann"), "between two users"),
            (("--user", "ann", "--to", "ann", "--session", "ann-0"), "between two"),
            (("--user", "bob", "--to", "ann"), "nothing to transfer"),
            (("--user", "bob", "--to", "ann", "--session", "ann-0"), "nothing to"),
            (("--user", "ann", "--to", "bob", "--database", "other"), "'other'"),
            (("--user", "ann"), "required"),
        ):
            with (
                self.subTest(arguments),
                self.assertRaisesMessage(CommandError, message),
            ):
                transfer(*arguments)
        self.assert_nothing_moved()
