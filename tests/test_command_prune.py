from __future__ import annotations

from datetime import timedelta
from functools import partial
from io import StringIO
from unittest import mock

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import TestCase, override_settings
from django.utils import timezone

from agent_sessions import store
from agent_sessions.exceptions import InvalidCriteria
from agent_sessions.models import AgentSession, SessionItem
from agent_sessions.store import pruning, selections
from tests.projects.cases import say

User = get_user_model()


def create(session_id, *, days=0, items=1, user=None, using=None, **columns):
    """Create a session whose last activity was so many days ago."""
    row = store.create_session(user, session_id=session_id, using=using)
    store.append_items(row, [say("secret")] * items)
    moment = timezone.now() - timedelta(days=days)
    rows = AgentSession.objects.using(using).filter(pk=row.pk)
    rows.update(updated_at=moment, **columns)
    return rows.get()


def left(using=None):
    ids = AgentSession.objects.using(using).values_list("session_id", flat=True)
    return set(ids)


def prune(*arguments):
    output = StringIO()
    call_command("prune_agent_sessions", *arguments, stdout=output)
    return output.getvalue()


class PruneTests(TestCase):
    databases = {"default", "other"}

    @classmethod
    def setUpTestData(cls):
        cls.ann = User.objects.create(username="ann")
        cls.bob = User.objects.create(username="bob")
        for days in (1, 10, 100):
            create(f"ann-{days}", days=days, user=cls.ann, items=2)
        create("bob-10", days=10, user=cls.bob)
        create("bob-archived", days=100, user=cls.bob, archived_at=timezone.now())
        create("visitor-1", days=1)
        create("visitor-100", days=100, items=0)
        create("orphan-1", days=1, owned_at=timezone.now())
        create("orphan-100", days=100, owned_at=timezone.now())
        cls.all = left()

    def pruned(self, *arguments):
        prune(*arguments)
        return self.all - left()

    def test_old_sessions_go_with_their_items(self):
        items = SessionItem.objects.count()
        output = prune("--older-than", "30")
        assert output == "Pruned 4 session(s) with 4 item(s).\n"
        gone = {"ann-100", "bob-archived", "visitor-100", "orphan-100"}
        assert self.all - left() == gone
        assert SessionItem.objects.count() == items - 4

    def test_archived(self):
        assert self.pruned("--archived") == {"bob-archived"}

    def test_orphaned(self):
        assert self.pruned("--orphaned") == {"orphan-1", "orphan-100"}

    def test_anonymous(self):
        assert self.pruned("--anonymous") == {"visitor-1", "visitor-100"}

    def test_empty(self):
        assert self.pruned("--empty") == {"visitor-100"}

    def test_the_newest_of_each_user_and_sessions_without_one_are_kept(self):
        gone = {"ann-10", "ann-100", "bob-archived"}
        assert self.pruned("--keep-latest", "1") == gone

    def test_keeping_none_spares_only_sessions_without_a_user(self):
        owned = {name for name in self.all if name[:3] in ("ann", "bob")}
        assert self.pruned("--keep-latest", "0") == owned

    def test_of_equally_old_sessions_so_many_are_kept(self):
        AgentSession.objects.update(updated_at=timezone.now() - timedelta(days=1))
        gone = self.pruned("--keep-latest", "2")
        newest = AgentSession.objects.for_user(self.ann).newest_first()
        assert len(gone) == 1 and gone < {"ann-1", "ann-10", "ann-100"}
        assert newest.count() == 2

    def test_criteria_narrow_each_other(self):
        assert self.pruned("--older-than", "30", "--orphaned") == {"orphan-100"}
        gone = self.pruned("--older-than", "5", "--keep-latest", "2")
        assert gone == {"orphan-100", "ann-100"}

    def test_more_than_a_database_counts_is_all(self):
        assert self.pruned("--keep-latest", "9" * 20) == set()

    def test_a_dry_run_counts_and_deletes_nothing(self):
        output = prune("--older-than", "30", "--dry-run")
        assert output == "Would prune 4 session(s) with 4 item(s).\n"
        assert left() == self.all

    def test_without_criteria_nothing_is_done(self):
        with self.assertRaisesMessage(CommandError, "Say which sessions to prune"):
            prune()
        with self.assertRaises(InvalidCriteria):
            store.prune_sessions()
        assert left() == self.all

    @override_settings(AGENT_SESSIONS_RETENTION_DAYS=30)
    def test_the_setting_is_the_default_age(self):
        assert self.pruned("--orphaned") == {"orphan-100"}
        assert store.prune_sessions() == (3, 4 - 1)
        assert store.prune_sessions(older_than=timedelta(days=5)).sessions == 2

    def test_what_cannot_be_is_refused(self):
        wrong = [
            ("--older-than", "-1"),
            ("--older-than", "1_0"),
            ("--older-than", "soon"),
            ("--older-than", "9" * 30),
            ("--keep-latest", "-1"),
            ("--orphaned", "--anonymous"),
            ("--orphaned", "--keep-latest", "1"),
            ("--empty", "--database", "elsewhere"),
        ]
        for arguments in wrong:
            with self.subTest(arguments), self.assertRaises(CommandError):
                prune(*arguments)
        for criteria in (
            {"older_than": timedelta(seconds=-1)},
            {"older_than": timedelta.max},
            {"keep_latest": -1},
            {"orphaned": True, "anonymous": True},
            {"anonymous": True, "keep_latest": 1},
        ):
            with self.subTest(criteria), self.assertRaises(InvalidCriteria):
                store.prune_sessions(**criteria)
        assert left() == self.all

    def test_only_the_named_database_is_pruned(self):
        create("there", days=100, using="other")
        output = prune("--older-than", "0", "--database", "other")
        assert output == "Pruned 1 session(s) with 1 item(s).\n"
        assert left() == self.all
        assert left("other") == set()

    def test_many_sessions_go_a_hundred_at_a_time(self):
        for number in range(250):
            store.create_session(self.ann, session_id=f"more-{number}")
        with mock.patch.object(selections, "BATCH", 7):
            assert prune("--empty", "--dry-run").startswith("Would prune 251 ")
        with self.assertNumQueries(4 + 3 * 9):
            assert store.prune_sessions(empty=True) == (251, 0)
        assert left() == self.all - {"visitor-100"}

    def test_a_session_that_is_used_meanwhile_stays(self):
        append = partial(store.append_items, "ann-100", [say("hello")], user=self.ann)
        with self.meanwhile(append):
            assert store.prune_sessions(keep_latest=1).sessions == 2
        assert self.all - left() == {"ann-10", "bob-archived"}

    def test_a_session_that_no_longer_meets_the_criteria_stays(self):
        row = AgentSession.objects.get(session_id="bob-archived")
        restore = partial(store.archive_sessions, [row.pk], archived=False)
        with self.meanwhile(restore):
            assert store.prune_sessions(archived=True).sessions == 0
        assert left() == self.all

    def meanwhile(self, act):
        """Do something between the choice of sessions and their deletion."""
        choose = pruning.iterate_keys

        def choose_and_act(rows):
            keys = list(choose(rows))
            act()
            return keys

        return mock.patch.object(pruning, "iterate_keys", choose_and_act)
