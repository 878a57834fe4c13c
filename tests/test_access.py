"""Who may see what others said, and that it leaves a trace."""

from __future__ import annotations

from unittest import mock

from django.contrib.auth.models import AnonymousUser, Permission, User
from django.test import RequestFactory, TestCase, override_settings

from agent_sessions import access, store
from agent_sessions.exceptions import InvalidUser, ReasonMissing
from agent_sessions.identifiers import uuid7
from agent_sessions.models import SessionAccess

Action, Channel = SessionAccess.Action, SessionAccess.Channel


def create_staff(username, *codenames):
    """Create a staff user who has these permissions of the app."""
    user = User.objects.create(username=username, is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(
            codename__in=codenames, content_type__app_label="agent_sessions"
        )
    )
    assert user.user_permissions.count() == len(codenames)
    return user


def impersonator(request):
    return request.impersonator


class PermissionTests(TestCase):
    def test_reading_and_exporting_are_permissions_of_their_own(self):
        viewer = create_staff("viewer", "view_agentsession", "change_agentsession")
        reader = create_staff("reader", "read_transcript")
        taker = create_staff("taker", "export_session")
        exporter = create_staff("exporter", "read_transcript", "export_session")
        admin = User.objects.create(username="admin", is_superuser=True)
        readers = {reader, exporter, admin}
        for user in (viewer, reader, taker, exporter, admin, AnonymousUser()):
            assert access.may_read(user) is (user in readers)
            assert access.may_export(user) is (user in readers - {reader})

    def test_a_setting_shows_content_to_nobody(self):
        admin = User.objects.create(username="admin", is_superuser=True)
        with override_settings(AGENT_SESSIONS_SHOW_CONTENT=False):
            assert not access.may_read(admin)
            assert not access.may_export(admin)


class RecordTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.zoe = create_staff("zoe")

    def request(self, **attributes):
        request = RequestFactory().get("/")
        for name, value in attributes.items():
            setattr(request, name, value)
        return request

    def test_a_record_says_who_did_what_to_which_session(self):
        row = store.create_session(None)
        request = self.request(user=self.zoe)
        access.record_access(
            request, Action.OPENED, sessions=[row.pk], reason=" Ticket\n 42\0 "
        )
        record = SessionAccess.objects.get()
        assert (record.user, record.session) == (self.zoe, row.pk)
        assert (record.action, record.channel) == ("opened", "admin")
        assert record.reason == "Ticket 42"
        assert record.created_at is not None

    def test_a_record_outlives_session_and_user(self):
        row = store.create_session(self.zoe)
        store.record_access(
            Action.EXPORTED, channel=Channel.API, sessions=[row.pk], user=self.zoe
        )
        store.delete_session(row)
        self.zoe.delete()
        record = SessionAccess.objects.for_session(row.pk).get()
        assert record.user is None
        assert "zoe" not in repr(vars(record))

    def test_each_session_has_its_record(self):
        keys = [uuid7() for _ in range(100)]
        with self.assertNumQueries(4):
            store.record_access(
                Action.EXPORTED, channel=Channel.ADMIN, sessions=keys, user=self.zoe
            )
        stored = SessionAccess.objects.values_list("session", flat=True)
        assert set(stored) == set(keys)

    def test_a_search_has_no_session(self):
        store.record_access(Action.SEARCHED, channel=Channel.ADMIN, user=self.zoe)
        assert SessionAccess.objects.get().session is None

    def test_a_long_reason_is_cut(self):
        store.record_access(
            Action.SEARCHED, channel=Channel.COMMAND, user=self.zoe, reason="x" * 600
        )
        assert SessionAccess.objects.get().reason == "x" * 500

    def test_the_newest_record_comes_first(self):
        for second in range(3):
            with mock.patch("time.time_ns", return_value=second * 10**9):
                store.record_access(
                    Action.SEARCHED, channel=Channel.ADMIN, reason=str(second)
                )
        for records in (
            SessionAccess.objects.all(),
            SessionAccess.objects.newest_first(),
        ):
            reasons = records.values_list("reason", flat=True)
            assert list(reasons) == ["2", "1", "0"]

    @override_settings(AGENT_SESSIONS_REQUIRE_REASON=True)
    def test_a_setting_refuses_an_access_without_a_reason(self):
        request = self.request(user=self.zoe)
        for blank in ("", " \n", "\0"):
            with self.assertRaises(ReasonMissing):
                access.record_access(request, Action.OPENED, reason=blank)
        assert not SessionAccess.objects.exists()
        access.record_access(request, Action.OPENED, reason="asked to")
        assert SessionAccess.objects.get().reason == "asked to"

    @override_settings(AGENT_SESSIONS_ACCESS_USER="tests.test_access.impersonator")
    def test_a_hook_names_who_really_looks(self):
        boss = create_staff("boss")
        request = self.request(user=self.zoe, impersonator=boss)
        access.record_access(request, Action.SEARCHED)
        assert SessionAccess.objects.get().user == boss

    def test_a_user_who_is_not_saved_leaves_no_record(self):
        with self.assertRaises(InvalidUser):
            store.record_access(
                Action.SEARCHED, channel=Channel.ADMIN, user=User(username="x")
            )
