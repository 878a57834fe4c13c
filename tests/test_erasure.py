from __future__ import annotations

import hashlib
from collections import Counter
from functools import partial
from unittest import mock

from agents import Runner, function_tool
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connections
from django.test import TestCase
from django.urls import reverse

from agent_sessions import DjangoSession, store
from agent_sessions.exceptions import (
    InvalidUser,
    NothingToErase,
    SessionGone,
)
from agent_sessions.models import (
    AgentSession,
    AgentUser,
    ErasureReceipt,
    SessionAccess,
    SessionItem,
)
from agent_sessions.store import erasure
from tests.fakes import RUN_CONFIG, agent, call
from tests.fakes import say as say_as_agent
from tests.projects.cases import USER_MODELS, ProjectTestCase, create_users, say
from tests.scanning import find_words
from tests.test_access import create_staff

User = get_user_model()
SECRETS = ("sesame", "Zoë", "ひみつ")
ADMIN = SessionAccess.Channel.ADMIN


def speak(user, name, **options):
    """Leave words in everything that keeps words: returns the session's row."""
    row = store.create_session(
        user,
        session_id=f"{name}-sesame",
        title="Zoë's title",
        metadata={"sesame": "ひみつ"},
        **options,
    )
    store.append_items(row, [say("sesame, I said"), say("ひみつ")])
    items = store.read_tail(row, limit=10).items
    store.replace_items(row, [say("Zoë in short")]) if items else None
    store.append_items(row, [say("open sesame")])
    return row


def look(action, sessions, user, reason="Zoë asked, sesame", **options):
    store.record_access(
        action, channel=ADMIN, sessions=sessions, user=user, reason=reason, **options
    )


class ErasureTests(TestCase):
    databases = {"default", "other"}

    @classmethod
    def setUpTestData(cls):
        cls.ann = User.objects.create(username="ann")
        cls.bob = User.objects.create(username="bob")

    def fill(self):
        self.rows = [speak(self.ann, f"ann-{number}") for number in range(5)]
        store.update_session(self.rows[1], archived=True)
        store.update_user_metadata({"name": "Zoë", "word": "sesame"}, user=self.ann)
        self.bobs = store.create_session(self.bob, session_id="bob", title="mine")
        store.append_items(self.bobs, [say("hello")])
        store.update_user_metadata({"name": "Bob"}, user=self.bob)
        look("opened", [self.rows[0].pk, self.rows[1].pk], self.bob)
        look("exported", [self.rows[2].pk], self.ann)
        look("searched", [], self.ann)
        look("opened", [self.bobs.pk], self.ann)
        look("opened", [self.bobs.pk], self.bob, reason="ticket 42")

    def test_none_of_the_users_words_stay_anywhere(self):
        self.fill()
        assert SessionItem.objects.replaced().exists()
        assert len(find_words(SECRETS)) >= 6
        store.erase_user(self.ann, by="the officer")
        assert find_words(SECRETS) == set()

    def test_words_in_the_admins_own_log_would_be_found_and_are_not_there(self):
        self.fill()
        staff = create_staff(
            "eve",
            "view_agentsession",
            "change_agentsession",
            "delete_agentsession",
            "read_transcript",
        )
        self.client.force_login(staff)
        page = partial(reverse, args=[self.rows[0].pk])
        change = page("admin:agent_sessions_agentsession_change")
        data = {"title": "sesame again", "metadata": '{"Zoë": 1}', "archived_at": ""}
        data |= {"archived_at_0": "", "archived_at_1": ""}
        assert self.client.get(change).status_code == 200
        assert self.client.post(change, data).status_code == 302
        listed = reverse("admin:agent_sessions_agentsession_changelist")
        for action in ("archive_selected", "restore_selected"):
            form = {"action": action, "_selected_action": [str(self.rows[0].pk)]}
            assert self.client.post(listed, form).status_code == 302
        delete = page("admin:agent_sessions_agentsession_delete")
        assert self.client.post(delete, {"post": "yes"}).status_code == 302
        assert ("django_admin_log", "object_id") in find_words([str(self.rows[0].pk)])
        store.erase_user(self.ann, by="the officer")
        assert find_words(SECRETS) == set()

    def test_everything_of_nobody_else_stays(self):
        self.fill()
        store.erase_user(self.ann, by="the officer")
        assert AgentSession.objects.get() == self.bobs
        assert store.read_items(self.bobs) == [say("hello")]
        assert AgentUser.objects.get().user == self.bob
        assert User.objects.filter(pk=self.ann.pk).exists()

    def test_records_of_access_stay_and_tell_nothing_of_the_user(self):
        self.fill()
        store.erase_user(self.ann, by="the officer")
        facts = Counter(
            (r.user, r.action, r.session, r.owner, r.reason)
            for r in SessionAccess.objects.all()
        )
        bob = str(self.bob.pk)
        assert facts == {
            (self.bob, "opened", None, "", ""): 2,
            (None, "exported", None, "", ""): 1,
            (None, "searched", None, "", ""): 1,
            (None, "opened", self.bobs.pk, bob, ""): 1,
            (self.bob, "opened", self.bobs.pk, bob, "ticket 42"): 1,
        }

    def test_records_of_sessions_that_went_before_are_found(self):
        self.fill()
        store.delete_sessions(row.pk for row in self.rows)
        assert ("agent_sessions_sessionaccess", "reason") in find_words(SECRETS)
        receipt = store.erase_user(self.ann, by="the officer")
        assert (receipt.sessions, receipt.accesses) == (0, 5)
        assert find_words(SECRETS) == set()

    def test_the_receipt_says_how_much_it_was_and_is_kept(self):
        self.fill()
        held = store.count_holdings(self.ann)
        items = SessionItem.objects.filter(session__user=self.ann).count()
        assert held == erasure.Holdings(5, items, 1, 5)
        receipt = store.erase_user(user_id=str(self.ann.pk), by=self.bob)
        keys = sorted(str(row.pk) for row in self.rows)
        digest = hashlib.sha256("".join(f"{key}\n" for key in keys).encode())
        assert receipt.sessions_digest == digest.hexdigest()
        assert (receipt.sessions, receipt.items) == (5, items)
        assert (receipt.agent_users, receipt.accesses) == (1, 5)
        assert receipt.erased_user == str(self.ann.pk)
        assert receipt.asked_by == f"user {self.bob.pk}"
        kept = ErasureReceipt.objects.get()
        for name in receipt.__slots__:
            assert getattr(kept, name) == getattr(receipt, name), name
        assert bytes(kept.keys) == b""
        assert store.count_holdings(self.ann) == erasure.Holdings(0, 0, 0, 0)

    def test_without_anything_to_erase_it_is_refused_unless_told(self):
        with self.assertRaisesMessage(NothingToErase, "in database 'default'."):
            store.erase_user(self.ann, by="me")
        assert not ErasureReceipt.objects.exists()
        receipt = store.erase_user(self.ann, by="me", allow_nothing=True)
        assert (receipt.sessions, receipt.items, receipt.accesses) == (0, 0, 0)
        assert receipt.sessions_digest == hashlib.sha256(b"").hexdigest()
        with self.assertRaisesMessage(NothingToErase, str(receipt.id)):
            store.erase_user(self.ann, by="me")

    def test_what_comes_after_an_erasure_has_a_receipt_of_its_own(self):
        store.append_items("one", [say("a")], user=self.ann)
        first = store.erase_user(self.ann, by="me")
        store.append_items("one", [say("b"), say("c")], user=self.ann)
        second = store.erase_user(self.ann, by="me")
        assert (first.items, second.items) == (1, 2)
        assert ErasureReceipt.objects.count() == 2

    def test_only_what_belongs_to_the_user_now_is_theirs(self):
        visitor = store.create_session(None, session_id="visitor")
        orphan = store.create_session(self.ann, session_id="orphan")
        store.remove_owners([orphan.pk])
        store.create_session(self.ann, session_id="hers")
        assert store.erase_user(self.ann, by="me").sessions == 1
        assert set(AgentSession.objects.all()) == {visitor, orphan}

    def test_a_receipt_is_closed_even_if_the_user_is_gone(self):
        key = self.ann.pk
        opened = ErasureReceipt.objects.create(erased_user=str(key), asked_by="me")
        self.ann.delete()
        receipt = store.erase_user(user_id=key, by="another")
        assert (receipt.id, receipt.asked_by) == (opened.pk, "me")
        assert ErasureReceipt.objects.get().finished_at == receipt.finished_at

    def test_only_the_named_database_is_erased(self):
        there = User(pk=self.ann.pk, username="ann")
        there.save(using="other", force_insert=True)
        speak(self.ann, "here")
        speak(there, "there", using="other")
        store.erase_user(self.ann, by="me", using="other")
        assert find_words(SECRETS, using="other") == set()
        assert ErasureReceipt.objects.using("other").count() == 1
        assert AgentSession.objects.count() == 1
        assert not ErasureReceipt.objects.exists()

    def test_who_is_no_user_is_refused(self):
        for options in ({}, {"user_id": True}, {"user_id": "x"}, {"user": User()}):
            with self.subTest(options), self.assertRaises(InvalidUser):
                store.erase_user(by="me", **options)
        for by in ("", " \n", None):
            with self.subTest(by=by), self.assertRaises(ValueError):
                store.erase_user(self.ann, by=by)
        assert not ErasureReceipt.objects.exists()

    def test_an_agent_that_runs_meanwhile_brings_nothing_back(self):
        speak(self.ann, "hers")
        session = DjangoSession("hers-sesame", user=self.ann)
        add = async_to_sync(session.add_items)
        add([say("sesame")])
        store.erase_user(self.ann, by="me")
        for act in (
            partial(add, [say("sesame")]),
            async_to_sync(session.get_items),
            async_to_sync(session.pop_item),
            async_to_sync(session.clear_session),
        ):
            with self.assertRaises(SessionGone):
                act()
        assert find_words(SECRETS) == set()

    async def test_a_run_in_whose_middle_its_user_is_erased_ends(self):
        @function_tool
        async def forget() -> str:
            """Erase whoever asks."""
            await sync_to_async(store.erase_user)(self.ann, by="the user")
            return "sesame is forgotten"

        session = DjangoSession("hers", user=self.ann)
        helper = agent([call("forget")], [say_as_agent("sesame")], tools=[forget])
        with self.assertRaises(SessionGone):
            await Runner.run(helper, "sesame!", session=session, run_config=RUN_CONFIG)
        receipt = await ErasureReceipt.objects.aget()
        assert receipt.sessions == 1 and receipt.items >= 1
        assert await sync_to_async(find_words)(SECRETS) == set()

    def test_what_is_written_meanwhile_goes_as_well(self):
        self.fill()
        more = iter(range(3))
        take = erasure.take_rows

        def take_and_write(rows):
            for number in more:
                speak(self.ann, f"late-{number}")
                store.update_user_metadata({"late": "sesame"}, user=self.ann)
                look("opened", [self.rows[0].pk], self.ann)
                break
            return take(rows)

        with (
            mock.patch.object(erasure, "BATCH", 2),
            mock.patch.object(erasure, "take_rows", take_and_write),
        ):
            receipt = store.erase_user(self.ann, by="me")
        assert receipt.sessions == 8
        assert receipt.accesses == 8
        assert find_words(SECRETS) == set()

    def test_many_sessions_go_batch_by_batch(self):
        for number in range(7):
            store.append_items(f"s{number}", [say("sesame")], user=self.ann)
        with (
            mock.patch.object(erasure, "BATCH", 3),
            mock.patch.object(erasure, "take_rows", wraps=erasure.take_rows) as take,
        ):
            receipt = store.erase_user(self.ann, by="me")
        assert take.call_count == 3
        assert (receipt.sessions, receipt.items) == (7, 7)

    def test_two_runs_at_once_share_one_receipt(self):
        self.fill()
        inner = []
        with (
            mock.patch.object(erasure, "BATCH", 2),
            mock.patch.object(erasure._Job, "take", _between(inner, self.ann)),
        ):
            receipt = store.erase_user(self.ann, by="me")
        assert inner[0] == receipt
        assert receipt.sessions == 5
        assert ErasureReceipt.objects.count() == 1


def _between(inner, user):
    """Let another run erase everything after the first batch of this one."""
    take = erasure._Job.take

    def take_once(job, pk, attempt):
        closed = take(job, pk, attempt)
        if not inner:
            inner.append(None)
            inner[0] = store.erase_user(user, by="the other")
        return closed

    return take_once


def erase_users() -> None:
    """Erase a user of each kind of key, given as a row and as a key."""
    for alias in connections:
        call_command("migrate", database=alias, verbosity=0)
    ann, bob = create_users("ann@example.com", "bob@example.com")
    for user, options in ((ann, {"user": ann}), (bob, {"user_id": str(bob.pk)})):
        row = store.create_session(user, title="sesame")
        look("opened", [row.pk], ann)
        receipt = store.erase_user(by=user, **options)
        assert receipt.sessions == receipt.accesses == 1
        # Keys that are addresses are nobody's business any more.
        assert ("example.com" in str(user.pk)) == (":" in receipt.erased_user)
        assert receipt.asked_by == f"user {receipt.erased_user}"
        assert find_words(["sesame"]) == set()
    records = SessionAccess.objects.values_list("owner", flat=True)
    assert set(records) == {""}


class UserModelTests(ProjectTestCase):
    def test_users_of_every_kind_are_erased(self):
        for users in USER_MODELS:
            with self.subTest(users):
                self.run_project(erase_users, PROJECT_USERS=users)


class ReceiptPageTests(TestCase):
    def test_receipts_are_shown_and_nobody_changes_them(self):
        ann = User.objects.create(username="ann")
        store.append_items("one", [say("sesame")], user=ann)
        receipt = store.erase_user(ann, by="<b>the officer</b>")
        self.client.force_login(create_staff("eve", "view_erasurereceipt"))
        page = "admin:agent_sessions_erasurereceipt"
        listed = reverse(f"{page}_changelist")
        self.assertContains(self.client.get(listed), "&lt;b&gt;the officer")
        found = self.client.get(listed, {"q": str(ann.pk)})
        assert found.context["cl"].result_count == 1
        one = reverse(f"{page}_change", args=[receipt.id])
        self.assertContains(self.client.get(one), receipt.sessions_digest)
        assert self.client.post(one, {"asked_by": "x"}).status_code == 403
        for name, args in (("add", []), ("delete", [receipt.id])):
            url = reverse(f"{page}_{name}", args=args)
            assert self.client.get(url).status_code == 403

    def test_who_may_not_view_them_does_not(self):
        self.client.force_login(create_staff("eve", "view_agentsession"))
        listed = reverse("admin:agent_sessions_erasurereceipt_changelist")
        assert self.client.get(listed).status_code == 403
