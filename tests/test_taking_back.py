"""Rewinding, clearing and forking as people ask for it, beside runs and limits."""

from __future__ import annotations

import time
from datetime import timedelta

from django.contrib.auth import get_user_model
from django.test import TestCase, override_settings

from agent_sessions import store
from agent_sessions.exceptions import (
    SessionBusy,
    SessionChanged,
    SessionGone,
    SessionOwnershipError,
    TooManySessions,
    TurnGone,
)
from agent_sessions.models import AgentSession, SessionItem
from tests.test_rewinding import COMPACTION, answer, ask, called, output

User = get_user_model()

ITEMS = [ask("a"), answer("b"), ask("c"), called("1"), output("1")]


class TakingBackTests(TestCase):
    def setUp(self):
        self.alice = User.objects.create(username="alice")
        self.row = store.create_session(self.alice, session_id="s", title="Order")
        store.append_items(self.row, ITEMS)

    def stored(self):
        return AgentSession.objects.get(pk=self.row.pk)

    def test_all_that_was_done_comes_back(self):
        before = list(self.row.items.in_order())
        rewound = store.take_back_turns(self.row, before_turn=2, keep=True)
        assert rewound.items == ITEMS[2:] == rewound.opening
        assert [row.position for row in rewound.rows] == [2, 3, 4]
        assert [row.pk for row in rewound.rows] == [row.pk for row in before[2:]]
        fields = [field.attname for field in AgentSession._meta.concrete_fields]
        for row in (rewound.session, rewound.kept):
            stored = AgentSession.objects.get(pk=row.pk)
            for name in fields:
                assert getattr(row, name) == getattr(stored, name), name
        assert rewound.session.item_count == 2
        assert rewound.kept.forked_from == self.row.pk
        assert store.read_items(rewound.kept) == ITEMS
        assert store.take_back_turns("s", before_turn=1, user=self.alice).kept is None

    def test_the_row_tells_of_a_compaction_that_is_undone(self):
        store.replace_tail(self.row, [2, 3, 4], [COMPACTION])
        rewound = store.take_back_turns(self.row, before_turn=2)
        assert rewound.session.item_count == self.stored().item_count == 2
        assert rewound.session.preview == self.stored().preview == "a"

    def test_a_row_that_does_not_decode_is_told_of(self):
        SessionItem.objects.filter(session=self.row, position=3).update(data="{")
        with self.assertLogs("agent_sessions", "WARNING"):
            rewound = store.take_back_turns(self.row, before_turn=2)
        assert [row.position for row in rewound.rows] == [2, 3, 4]
        assert rewound.items == [ITEMS[2], ITEMS[4]]
        assert rewound.session.item_count == 2

    @override_settings(AGENT_SESSIONS_MAX_SESSIONS=1)
    def test_a_row_that_stays_is_not_told_to_be_removed(self):
        SessionItem.objects.filter(session=self.row, position=3).update(data="{")
        with self.assertNoLogs("agent_sessions"), self.assertRaises(TooManySessions):
            store.take_back_turns(self.row, before_turn=2, keep=True)

    def test_while_a_run_holds_the_session_people_wait(self):
        lease = store.acquire_lease(self.row)
        for verb in (
            lambda: store.take_back_turns(self.row, before_turn=1, keep=True),
            lambda: store.clear_session(self.row, unless_leased=True),
        ):
            with self.assertRaises(SessionBusy):
                verb()
        assert store.read_items(self.row) == ITEMS
        assert AgentSession.objects.count() == 1
        # Copying takes nothing away from it, and its own code is not kept out.
        store.fork_session(self.row)
        store.rewind_session(self.row, before_turn=2)
        store.release_lease(self.row, lease)
        store.take_back_turns(self.row, before_turn=1)
        assert store.read_items(self.row) == []

    def test_a_lease_that_has_ended_holds_nothing(self):
        moment = timedelta(seconds=1)
        store.acquire_lease(self.row, expires_in=moment)
        time.sleep(moment.total_seconds() * 1.5)
        store.take_back_turns(self.row, before_turn=2)
        store.clear_session(self.row, unless_leased=True)
        assert store.read_items(self.row) == []

    def test_no_run_goes_on_in_what_a_person_has_cleared(self):
        run = store.session_handle("s", user=self.alice)
        store.append_items(run, [ask("d"), called("2")])
        store.clear_session(self.row, unless_leased=True)
        for session in (run, self.row):
            with self.assertRaises(TurnGone):
                store.append_items(session, [output("2")])
        with self.assertRaises(TurnGone):
            store.append_items(run, [answer("d")])
        assert self.stored().item_count == 0
        store.append_items(run, [ask("e")])
        store.append_items(run, [answer("f")])
        assert [turn.number for turn in store.get_turns(self.row)] == [4]

    def test_what_was_changed_since_is_left_alone(self):
        store.update_session(self.row, title="Other")
        for verb in (
            lambda old: store.take_back_turns(
                self.row, before_turn=2, revisions=old, keep=True
            ),
            lambda old: store.fork_session(self.row, revisions=old),
            lambda old: store.clear_session(self.row, revisions=old),
        ):
            count = AgentSession.objects.count()
            for old in ({0}, set()):
                with self.assertRaises(SessionChanged):
                    verb(old)
            assert AgentSession.objects.count() == count
            verb({0, 1})
        assert self.stored().item_count == 0
        assert self.stored().revision == 1

    @override_settings(AGENT_SESSIONS_MAX_SESSIONS=2)
    def test_what_people_keep_counts(self):
        store.take_back_turns(self.row, before_turn=2, keep=True)
        with self.assertRaises(TooManySessions):
            store.take_back_turns(self.row, before_turn=1, keep=True)
        assert store.read_items(self.row) == ITEMS[:2]
        assert AgentSession.objects.count() == 2
        store.take_back_turns(self.row, before_turn=1)

    def test_it_is_for_whom_the_session_is(self):
        bob = User.objects.create(username="bob")
        for user in (bob, None):
            with self.assertRaises(SessionOwnershipError):
                store.take_back_turns("s", before_turn=1, user=user)
            with self.assertRaises(SessionOwnershipError):
                store.clear_session("s", unless_leased=True, user=user)
        with self.assertRaises(TurnGone):
            store.take_back_turns(self.row, before_turn=3)
        with self.assertRaises(SessionGone):
            store.take_back_turns("unknown", before_turn=1)
        for turn in (0, -1):
            with self.assertNumQueries(0), self.assertRaises(ValueError):
                store.take_back_turns(self.row, before_turn=turn)
        store.clear_session("unknown", unless_leased=True)
        assert self.stored().item_count == len(ITEMS)
