from __future__ import annotations

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.test import TestCase, override_settings

from agent_sessions import store
from agent_sessions.exceptions import InvalidMetadata, SessionChanged, SessionGone
from agent_sessions.fields import BrokenItem
from agent_sessions.models import AgentSession, AgentUser, SessionItem
from tests.nasty import NASTY_ITEMS

User = get_user_model()


class ModelTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.alice = User.objects.create(username="alice")

    def test_names_tell_nothing_of_what_people_wrote(self):
        row = store.create_session(self.alice, title="secret", session_id="secret")
        store.append_items(row, [{"role": "user", "content": "secret"}])
        user = AgentUser.objects.create(user=self.alice, metadata={"a": "secret"})
        for instance in (row, SessionItem.objects.get(), user):
            assert "secret" not in str(instance) + repr(instance)
        assert str(row) == str(row.pk)

    def test_words_of_the_querysets(self):
        store.create_session(self.alice, session_id="hers")
        store.create_session(None, session_id="anonymous")
        bob = User.objects.create(username="bob")
        store.create_session(bob, session_id="orphan")
        bob.delete()
        store.update_session("hers", user=self.alice, archived=True)

        def ids(rows):
            return set(rows.values_list("session_id", flat=True))

        sessions = AgentSession.objects
        assert ids(sessions.for_user(self.alice)) == {"hers"}
        assert ids(self.alice.agent_sessions.all()) == {"hers"}
        assert ids(sessions.anonymous()) == {"anonymous"}
        assert ids(sessions.orphaned()) == {"orphan"}
        assert ids(sessions.archived()) == {"hers"}
        assert ids(sessions.active()) == {"anonymous", "orphan"}
        newest = sessions.newest_first().values_list("session_id", flat=True)
        assert list(newest) == ["orphan", "anonymous", "hers"]

    def test_an_owner_without_a_date_is_refused_by_the_database(self):
        # Else the session would pass for anonymous once its owner is deleted.
        with self.assertRaises(IntegrityError), transaction.atomic():
            AgentSession.objects.create(user=self.alice)

    def test_two_items_never_share_a_position(self):
        store.append_items("s", [{"role": "user"}])
        row = AgentSession.objects.get()
        with self.assertRaises(IntegrityError), transaction.atomic():
            SessionItem.objects.create(session=row, position=0, data={})

    def test_forms_and_serializers_get_a_validation_error(self):
        for session_id in (" x", "a\0b", "x" * 256):
            with self.assertRaises(ValidationError):
                AgentSession(session_id=session_id).full_clean()
        store.create_session(None, session_id="taken")
        with self.assertRaisesMessage(ValidationError, "This session id is taken."):
            AgentSession(session_id="taken").full_clean()

    def test_deleting_a_user_keeps_sessions_as_orphans(self):
        store.append_items("s", [{"role": "user"}], user=self.alice)
        store.update_user_metadata({"a": 1}, user=self.alice)
        self.alice.delete()
        row = AgentSession.objects.get()
        assert row.is_orphaned and row.items.count() == 1
        assert not AgentUser.objects.exists()

    def test_deleting_a_user_can_delete_their_sessions(self):
        store.append_items("s", [{"role": "user"}], user=self.alice)
        store.append_items("anonymous", [{"role": "user"}])
        with override_settings(AGENT_SESSIONS_ON_USER_DELETE="delete"):
            self.alice.delete()
        assert AgentSession.objects.get().session_id == "anonymous"
        assert SessionItem.objects.count() == 1

    def test_items_are_dicts_and_broken_rows_keep_their_text(self):
        store.append_items("s", NASTY_ITEMS.values())
        items = [item.data for item in SessionItem.objects.in_order()]
        assert repr(items) == repr(list(NASTY_ITEMS.values()))
        first = SessionItem.objects.in_order().first()
        SessionItem.objects.filter(pk=first.pk).update(data="{broken")
        first.refresh_from_db()
        assert isinstance(first.data, BrokenItem)
        first.save()
        first.refresh_from_db()
        assert first.data == "{broken"
        first.data = {"role": "user", "content": "mended"}
        first.save()
        first.refresh_from_db()
        assert first.data == {"role": "user", "content": "mended"}


class UpdateTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.alice = User.objects.create(username="alice")

    def test_what_people_change_raises_the_revision_alone(self):
        row = store.create_session(self.alice, session_id="s")
        before = row.updated_at
        store.update_session("s", user=self.alice, title="Order 42")
        store.update_session(row, metadata={"a": 1}, archived=True)
        store.update_session(row)
        row.refresh_from_db()
        assert (row.title, row.metadata, row.revision) == ("Order 42", {"a": 1}, 2)
        assert row.archived_at is not None
        assert row.updated_at == before
        store.update_session(row, archived=False, title="")
        row.refresh_from_db()
        assert (row.archived_at, row.title, row.revision) == (None, "", 3)

    def test_bad_values_change_nothing(self):
        row = store.create_session(self.alice)
        for bad in (
            {"title": "x" * 201},
            {"title": "a\0b"},
            {"title": "\ud800"},
            {"title": 3},
            {"metadata": []},
            {"metadata": {"a": "\0"}, "title": "fine"},
        ):
            with self.assertRaises(ValueError) as caught:
                store.update_session(row, **bad)
            assert "fine" not in str(caught.exception)
            with self.assertRaises(ValueError):
                store.create_session(self.alice, **bad)
        row.refresh_from_db()
        assert (row.title, row.metadata, row.revision) == ("", {}, 0)
        assert AgentSession.objects.count() == 1

    def test_a_patch_is_merged_into_what_the_row_has_now(self):
        row = store.create_session(self.alice, metadata={"a": 1, "b": {"c": 2}})
        stale = AgentSession.objects.get()
        store.update_session(row, metadata_patch={"b": {"d": 3}})
        changed = store.update_session(stale, metadata_patch={"a": None})
        assert changed.metadata == {"b": {"c": 2, "d": 3}}
        assert changed.revision == 2
        row.refresh_from_db()
        assert (row.metadata, row.revision) == (changed.metadata, 2)

    def test_a_patch_is_bounded_by_what_it_makes(self):
        row = store.create_session(self.alice, metadata={"a": "x" * 9000})
        with self.assertRaises(InvalidMetadata):
            store.update_session(row, metadata_patch={"b": "x" * 9000})
        with self.assertRaises(InvalidMetadata):
            store.update_session(row, metadata_patch={"b": "\0"})
        with self.assertRaises(TypeError):
            store.update_session(row, metadata={}, metadata_patch={})
        row.refresh_from_db()
        assert (list(row.metadata), row.revision) == (["a"], 0)

    def test_a_change_can_ask_for_the_revision_it_was_made_from(self):
        row = store.create_session(self.alice)
        store.update_session(row, title="first", revisions=[0])
        store.append_items(row, [{"role": "user", "content": "hello"}])
        for change in ({"title": "second"}, {}):
            with self.assertRaises(SessionChanged):
                store.update_session(row, **change, revisions=[0])
        with self.assertRaises(SessionChanged):
            store.delete_session(row, revisions=[0, 2])
        store.update_session(row, title="second", revisions=[7, 1])
        row.refresh_from_db()
        assert (row.title, row.revision) == ("second", 2)
        assert store.delete_session(row, revisions=[2]) is True

    def test_what_is_gone_cannot_be_changed(self):
        row = store.create_session(self.alice)
        store.delete_session(row)
        for session in (row, "never was"):
            with self.assertRaises(SessionGone):
                store.update_session(session, title="x")
