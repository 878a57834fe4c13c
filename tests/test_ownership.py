"""The owner rule: a session's user must equal the row's, for every verb, everywhere."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any
from unittest import mock

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ObjectDoesNotExist, PermissionDenied
from django.db import connection, transaction
from django.test import AsyncRequestFactory, TestCase, TransactionTestCase
from django.utils import timezone
from django.utils.functional import SimpleLazyObject

from agent_sessions import DjangoSession, signals, store
from agent_sessions.exceptions import (
    InvalidUser,
    SessionGone,
    SessionOwnershipError,
)
from agent_sessions.models import AgentSession, AgentUser, SessionItem
from agent_sessions.store.handles import SessionHandle

User = get_user_model()


def user_item(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


async def attempts(session: DjangoSession) -> list[Exception | None]:
    """Try every verb of the SDK's contract and return what each raised."""
    raised: list[Exception | None] = []
    for verb in (
        session.get_items,
        lambda: session.get_items(5),
        lambda: session.add_items([user_item("intruder")]),
        session.pop_item,
        session.clear_session,
        lambda: session._get_compaction_snapshot(5),
        lambda: session._atomic_replace_items([user_item("intruder")]),
    ):
        try:
            await verb()
        except Exception as error:
            raised.append(error)
        else:
            raised.append(None)
    return raised


class OwnershipTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.alice = User.objects.create(username="alice")
        cls.bob = User.objects.create(username="bob", is_superuser=True, is_staff=True)

    def dump(self) -> list[Any]:
        rows = AgentSession.objects.order_by("pk").values_list()
        items = SessionItem.objects.order_by("session_id", "position").values_list()
        return [*rows, *items]

    def assert_closed(self, session_id: str, **whose: Any) -> None:
        """No verb opens the session to this user, and none leaves a trace."""

        async def try_all():
            return await attempts(DjangoSession(session_id, **whose))

        before = self.dump()
        raised = asyncio_run(try_all)
        assert [type(error) for error in raised] == [SessionOwnershipError] * 7
        # One message for all cases: it tells a stranger nothing about the owner.
        assert {str(error) for error in raised} == {
            "The session is not open to this user."
        }
        assert isinstance(raised[0], PermissionDenied)
        assert self.dump() == before
        user = whose.get("user")
        assert store.get_session(user, session_id) is None
        for verb in (
            lambda: store.update_session(session_id, user=user, title="x"),
            lambda: store.delete_session(session_id, user=user),
        ):
            with self.assertRaises(SessionOwnershipError):
                verb()
        assert self.dump() == before

    def test_another_users_session_is_closed(self):
        store.append_items("s", [user_item("a")], user=self.alice)
        self.assert_closed("s", user=self.bob)
        self.assert_closed("s", user_id=self.bob.pk)

    def test_a_forgotten_user_opens_nobodys_session(self):
        store.append_items("s", [user_item("a")], user=self.alice)
        self.assert_closed("s")
        self.assert_closed("s", user=AnonymousUser())

    def test_an_anonymous_session_is_closed_to_users(self):
        store.append_items("s", [user_item("a")])
        self.assert_closed("s", user=self.alice)

    def test_an_orphan_is_closed_to_everybody(self):
        store.append_items("s", [user_item("a")], user=self.alice)
        self.alice.delete()
        row = AgentSession.objects.get()
        assert (row.user_id, row.is_orphaned) == (None, True)
        self.assert_closed("s")
        self.assert_closed("s", user=self.bob)
        with self.assertRaises(SessionOwnershipError):
            store.claim_session("s", self.bob)

    def test_an_owner_deleted_by_raw_sql_leaves_an_orphan(self):
        store.append_items("s", [user_item("a")], user=self.alice)
        with connection.cursor() as cursor:
            cursor.execute("UPDATE agent_sessions_agentsession SET user_id = NULL")
            cursor.execute("DELETE FROM auth_user WHERE username = 'alice'")
        self.assert_closed("s")
        with self.assertRaises(SessionOwnershipError):
            store.claim_session("s", self.bob)

    def test_the_owner_gets_in_by_user_and_by_key(self):
        store.append_items("s", [user_item("a")], user=self.alice)
        for whose in (
            {"user": self.alice},
            {"user": User.objects.get(pk=self.alice.pk)},
            {"user": SimpleLazyObject(lambda: self.alice)},
            {"user_id": self.alice.pk},
            {"user_id": str(self.alice.pk)},
        ):
            session = DjangoSession("s", **whose)
            assert asyncio_run(session.get_items) == [user_item("a")]
            assert session.user_id == self.alice.pk

    def test_user_and_user_id_together_are_refused(self):
        with self.assertRaises(TypeError):
            DjangoSession("s", user=self.alice, user_id=self.alice.pk)

    def test_an_unsaved_user_is_an_error_and_never_anonymous(self):
        store.append_items("s", [user_item("a")])
        deleted = User.objects.create(username="gone")
        deleted.delete()
        for user in (User(username="new"), User(pk=99, username="made up"), deleted):
            session = DjangoSession("s", user=user)
            raised = asyncio_run(lambda s=session: attempts(s))
            assert [type(error) for error in raised] == [InvalidUser] * 7
            for verb in (store.create_session, store.get_sessions):
                with self.assertRaises(ValueError):
                    verb(user)

    def test_something_else_than_a_user_is_an_error(self):
        for user in (self.alice.pk, "alice", object()):
            with self.assertRaises(InvalidUser):
                store.read_items("s", user=user)
        with self.assertRaises(InvalidUser):
            asyncio_run(DjangoSession("s", user_id="alice").get_items)

    def test_a_user_who_is_not_in_the_database_gets_no_session(self):
        with self.assertRaises(InvalidUser):
            store.update_user_metadata({"a": 1}, user_id=987_654)
        with self.assertRaises(InvalidUser):
            asyncio_run(lambda: DjangoSession("s", user_id=987_654).add_items([{}]))
        assert not AgentUser.objects.exists()
        assert not AgentSession.objects.exists()

    def test_ids_that_look_alike_are_different_sessions(self):
        ids = [
            "ann",
            "Ann",
            "ANN",
            "änn",
            "a\u0308nn",
            "ann-",
            "ann ann",
            "ａnn",
            "ß",
            "ss",
        ]
        for number, session_id in enumerate(ids):
            user = (self.alice, self.bob)[number % 2]
            store.append_items(session_id, [user_item(session_id)], user=user)
        for number, session_id in enumerate(ids):
            user = (self.alice, self.bob)[number % 2]
            items = store.read_items(session_id, user=user)
            assert items == [user_item(session_id)]
        assert AgentSession.objects.count() == len(ids)

    def test_lists_without_a_user_are_empty(self):
        store.append_items("s", [user_item("a")])
        for user in (None, AnonymousUser()):
            assert store.get_sessions(user) == []
            assert store.get_sessions_for_user(user) == []
            assert not AgentSession.objects.for_user(user).exists()
            assert not AgentUser.objects.for_user(user).exists()

    def test_an_unknown_or_impossible_id_finds_nothing(self):
        for session_id in ("unknown", "", " x", "a\0b", "x" * 256, "\ud800"):
            assert store.get_session(self.alice, session_id) is None

    def test_a_row_opens_itself_to_trusted_code(self):
        store.append_items("owned", [user_item("a")], user=self.alice)
        store.append_items("anonymous", [user_item("a")])
        for row in AgentSession.objects.all():
            session = row.as_sdk_session(session_settings={"limit": 1})
            asyncio_run(lambda s=session: s.add_items([user_item("b")]))
            assert asyncio_run(session.get_items) == [user_item("b")]
            assert session.user_id == row.user_id
        self.alice.delete()
        orphan = AgentSession.objects.get(session_id="owned").as_sdk_session()
        assert asyncio_run(orphan.get_items) == [user_item("a"), user_item("b")]

    def test_a_row_is_not_opened_as_somebody_else(self):
        row = store.create_session(self.alice)
        self.alice.delete()
        orphan = AgentSession.objects.get()
        for user in (self.bob, AnonymousUser()):
            for session in (row, orphan):
                with self.assertRaises(SessionOwnershipError):
                    store.append_items(session, [user_item("b")], user=user)
                with self.assertRaises(SessionOwnershipError):
                    store.read_items(session, user=user)
        with self.assertRaises(TypeError):
            store.read_items(orphan, using="other")

    def test_keys_that_only_resemble_a_users_are_refused(self):
        for key in (True, 3.9, b"3", float("inf"), 10**30, -1, "x"):
            with self.assertRaises(InvalidUser):
                asyncio_run(DjangoSession("s", user_id=key).get_items)

    def test_a_trusted_session_errs_when_the_owner_changes(self):
        store.append_items("s", [user_item("a")])
        row = AgentSession.objects.get()
        session = row.as_sdk_session()
        store.claim_session("s", self.alice)
        raised = asyncio_run(lambda: attempts(session))
        assert [type(error) for error in raised] == [SessionOwnershipError] * 7

    def test_a_session_that_comes_between_two_looks_is_open(self):
        # Another request of hers makes it after this one's statement found nothing.
        for verb in (
            lambda: store.read_items("s", user=self.alice),
            lambda: store.pop_item("s", user=self.alice),
            lambda: store.clear_session("s", user=self.alice),
        ):
            AgentSession.objects.all().delete()
            look = SessionHandle.is_there

            def come_first(handle, look=look):
                owner = {"user": self.alice, "owned_at": timezone.now()}
                AgentSession.objects.get_or_create(session_id="s", defaults=owner)
                return look(handle)

            with mock.patch.object(SessionHandle, "is_there", come_first):
                verb()

    async def test_a_lazy_request_user_works_in_an_async_view(self):
        from django.contrib.auth.middleware import AuthenticationMiddleware
        from django.contrib.sessions.backends.db import SessionStore

        request = AsyncRequestFactory().get("/")
        request.session = SessionStore()
        await self.async_login(request.session)
        AuthenticationMiddleware(lambda request: None).process_request(request)
        session = DjangoSession("lazy", user=request.user)
        await session.add_items([user_item("a")])
        assert session.user_id == self.alice.pk
        row = await AgentSession.objects.aget()
        assert row.user_id == self.alice.pk

    async def async_login(self, session: Any) -> None:
        await session.aset("_auth_user_id", str(self.alice.pk))
        await session.aset(
            "_auth_user_backend", "django.contrib.auth.backends.ModelBackend"
        )
        await session.aset("_auth_user_hash", self.alice.get_session_auth_hash())
        await session.asave()


def asyncio_run(verb: Any) -> Any:
    """Await ``verb()`` from sync test code, in the test's transaction."""
    from asgiref.sync import async_to_sync

    async def call():
        return await verb()

    return async_to_sync(call)()


class GoneTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.alice = User.objects.create(username="alice")

    def test_a_session_deleted_under_a_running_agent_is_gone(self):
        session = DjangoSession("s", user=self.alice)
        store.append_items("s", [user_item("a")], user=self.alice)
        assert asyncio_run(session.get_items) == [user_item("a")]
        assert store.delete_session("s", user=self.alice)
        raised = asyncio_run(lambda: attempts(session))
        assert [type(error) for error in raised] == [SessionGone] * 7
        assert isinstance(raised[0], ObjectDoesNotExist)
        assert not AgentSession.objects.exists()

    def test_a_session_made_anew_under_the_same_id_is_another_one(self):
        session = DjangoSession("s", user=self.alice)
        store.append_items("s", [user_item("a")], user=self.alice)
        asyncio_run(session.get_items)
        store.delete_session("s", user=self.alice)
        store.append_items("s", [user_item("new")], user=self.alice)
        raised = asyncio_run(lambda: attempts(session))
        assert [type(error) for error in raised] == [SessionGone] * 7
        assert store.read_items("s", user=self.alice) == [user_item("new")]

    def test_an_empty_session_that_was_seen_is_pinned_too(self):
        store.create_session(self.alice, session_id="s")
        session = DjangoSession("s", user=self.alice)
        assert asyncio_run(session.get_items) == []
        store.delete_session("s", user=self.alice)
        with self.assertRaises(SessionGone):
            asyncio_run(lambda: session.add_items([user_item("a")]))

    def test_an_object_that_never_saw_a_row_creates_one(self):
        session = DjangoSession("s", user=self.alice)
        assert asyncio_run(session.get_items) == []
        store.append_items("s", [user_item("a")], user=self.alice)
        store.delete_session("s", user=self.alice)
        asyncio_run(lambda: session.add_items([user_item("b")]))
        assert store.read_items("s", user=self.alice) == [user_item("b")]

    def test_deleting_what_is_gone_says_so(self):
        row = store.create_session(self.alice)
        assert store.delete_session(row) is True
        assert store.delete_session(row) is False
        assert store.delete_session("never was", user=self.alice) is False


class DeletedOwnerTests(TransactionTestCase):
    def test_a_user_deleted_before_the_first_write_is_named(self):
        user = User.objects.create(username="alice")
        session = DjangoSession("s", user_id=user.pk)
        user.delete()
        with self.assertRaises(InvalidUser):
            asyncio_run(lambda: session.add_items([user_item("a")]))
        with self.assertRaises(InvalidUser):
            asyncio.run(session.add_items([user_item("a")]))
        assert not AgentSession.objects.exists()

    def test_creating_for_a_user_who_was_deleted_elsewhere_is_named(self):
        user = User.objects.create(username="alice")
        User.objects.all().delete()
        with self.assertRaises(InvalidUser):
            store.create_session(user)
        with self.assertRaises(InvalidUser):
            store.update_user_metadata({"a": 1}, user=user)
        assert not AgentSession.objects.exists()

    def tearDown(self):
        from agent_sessions.crossing import close_connections

        close_connections()


class RolledBackTests(TransactionTestCase):
    """What an object has learned in a transaction that never was it does not know."""

    def setUp(self):
        self.alice = User.objects.create(username="alice")
        self.bob = User.objects.create(username="bob")

    def test_a_rolled_back_creation_does_not_pin(self):
        session = DjangoSession("s")
        with self.assertRaises(ZeroDivisionError), transaction.atomic():
            asyncio_run(lambda: session.add_items([user_item("a")]))
            asyncio_run(lambda: session.add_items([user_item("b")]))
            assert len(asyncio_run(session.get_items)) == 2
            raise ZeroDivisionError
        assert asyncio_run(session.get_items) == []
        asyncio_run(lambda: session.add_items([user_item("c")]))
        assert store.read_items("s") == [user_item("c")]

    def test_a_row_that_was_only_read_does_not_pin_either(self):
        session = DjangoSession("s", user=self.alice)
        with self.assertRaises(ZeroDivisionError), transaction.atomic():
            store.create_session(self.alice, session_id="s")
            assert asyncio_run(session.get_items) == []
            raise ZeroDivisionError
        asyncio_run(lambda: session.add_items([user_item("a")]))
        assert store.read_items("s", user=self.alice) == [user_item("a")]

    def test_a_claim_leaves_the_session_anonymous(self):
        session = DjangoSession("s")
        asyncio_run(lambda: session.add_items([user_item("a")]))
        with self.assertRaises(ZeroDivisionError), transaction.atomic():
            asyncio_run(lambda: session.claim(self.alice))
            assert session.user_id == self.alice.pk
            assert asyncio_run(session.get_items) == [user_item("a")]
            raise ZeroDivisionError
        assert session.user_id is None
        assert asyncio_run(session.get_items) == [user_item("a")]
        asyncio_run(lambda: session.claim(self.bob))
        assert AgentSession.objects.get().user == self.bob
        assert session.user_id == self.bob.pk

    def test_a_turn_is_nobodys(self):
        session = DjangoSession("s")
        asyncio_run(lambda: session.add_items([user_item("a")]))
        with self.assertRaises(ZeroDivisionError), transaction.atomic():
            asyncio_run(lambda: session.add_items([user_item("b")]))
            raise ZeroDivisionError
        asyncio_run(lambda: session.add_items([{"role": "assistant"}]))
        store.append_items("s", [user_item("another's")])
        asyncio_run(lambda: session.add_items([{"role": "assistant"}]))
        turns = SessionItem.objects.in_order().values_list("turn", flat=True)
        assert list(turns) == [1, 1, 2, 1]

    def test_a_savepoint_takes_along_only_what_it_saw(self):
        session = DjangoSession("s")
        with transaction.atomic():
            asyncio_run(lambda: session.add_items([user_item("a")]))
            with self.assertRaises(ZeroDivisionError), transaction.atomic():
                asyncio_run(lambda: session.add_items([user_item("b")]))
                asyncio_run(lambda: session.claim(self.alice))
                raise ZeroDivisionError
            with transaction.atomic():
                asyncio_run(lambda: session.add_items([{"role": "assistant"}]))
            with self.assertRaises(ZeroDivisionError), transaction.atomic():
                asyncio_run(lambda: session.claim(self.bob))
                raise ZeroDivisionError
            pk = session.pk
        assert (session.pk, session.user_id) == (pk, None)
        assert AgentSession.objects.get(user=None).pk == pk
        turns = SessionItem.objects.in_order().values_list("turn", flat=True)
        assert list(turns) == [1, 1]

    def test_what_was_committed_stays_known(self):
        session = DjangoSession("s")
        seen = []
        with transaction.atomic():
            # Other hooks may use the session before its own have been run.
            transaction.on_commit(lambda: seen.append((session.pk, session.user_id)))
            asyncio_run(lambda: session.add_items([user_item("a")]))
            asyncio_run(lambda: session.claim(self.alice))
        row = AgentSession.objects.get()
        assert seen == [(row.pk, self.alice.pk)]
        with self.assertRaises(ZeroDivisionError), transaction.atomic():
            asyncio_run(lambda: session.add_items([user_item("b")]))
            raise ZeroDivisionError
        assert (session.pk, session.user_id) == (row.pk, self.alice.pk)
        row.delete()
        with self.assertRaises(SessionGone):
            asyncio_run(lambda: session.add_items([user_item("c")]))

    def test_a_claim_is_told_of_once_it_stands(self):
        store.append_items("s", [user_item("a")])
        session = DjangoSession("s")
        claims = []

        def note(user_id: Any, **facts: Any) -> None:
            claims.append(user_id)

        signals.session_claimed.connect(note)
        self.addCleanup(signals.session_claimed.disconnect, note)
        with self.assertRaises(ZeroDivisionError), transaction.atomic():
            asyncio_run(lambda: session.claim(self.alice))
            raise ZeroDivisionError
        assert claims == []
        with transaction.atomic():
            with self.assertRaises(ZeroDivisionError), transaction.atomic():
                asyncio_run(lambda: session.claim(self.alice))
                raise ZeroDivisionError
            asyncio_run(lambda: session.claim(self.bob))
            asyncio_run(lambda: session.claim(self.bob))
            assert claims == []
        assert claims == [self.bob.pk]


class ClaimTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.alice = User.objects.create(username="alice")
        cls.bob = User.objects.create(username="bob")

    def test_a_claimed_session_is_the_users(self):
        session = DjangoSession("s")
        asyncio_run(lambda: session.add_items([user_item("a")]))
        asyncio_run(lambda: session.claim(self.alice))
        assert session.user_id == self.alice.pk
        asyncio_run(lambda: session.add_items([user_item("b")]))
        row = AgentSession.objects.get()
        assert (row.user_id, row.item_count) == (self.alice.pk, 2)
        assert row.owned_at is not None

    def test_the_winner_may_claim_again(self):
        store.append_items("s", [user_item("a")])
        store.claim_session("s", self.alice)
        store.claim_session("s", self.alice)

    def test_nobody_else_can_claim_it(self):
        store.append_items("s", [user_item("a")])
        store.claim_session("s", self.alice)
        with self.assertRaises(SessionOwnershipError):
            store.claim_session("s", self.bob)
        assert AgentSession.objects.get().user_id == self.alice.pk

    def test_only_users_claim(self):
        store.append_items("s", [user_item("a")])
        for user in (None, AnonymousUser(), User(username="new")):
            with self.assertRaises(InvalidUser):
                store.claim_session("s", user)

    def test_what_is_not_there_cannot_be_claimed(self):
        with self.assertRaises(SessionGone):
            store.claim_session(str(uuid.uuid4()), self.alice)
        assert not AgentSession.objects.exists()
