"""What sessions have used, on the pages of the admin: for everybody who may view."""

from __future__ import annotations

import re
from datetime import timedelta

from django.contrib.auth.models import User
from django.test import TestCase, override_settings
from django.urls import reverse
from django.utils import timezone

from agent_sessions import store
from agent_sessions.models import AgentSession, TurnUsage
from agent_sessions.usage import TokenUsage
from tests.projects.cases import say
from tests.test_access import create_staff
from tests.test_admin_sessions import LIST
from tests.test_admin_users import permit
from tests.usage_cases import ONE, times

SPENT = TokenUsage(3, 1_200_000, 4_321, 34_567, 89, 1_234_567)


def page_of(row):
    return reverse("admin:agent_sessions_agentsession_change", args=[row.pk])


class ListTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.alice = User.objects.create(username="alice")
        cls.row = store.create_session(cls.alice)
        store.append_items(cls.row, [say("x")], usage=SPENT)
        store.append_items(cls.row, [say("y")], usage=ONE)

    def test_each_session_shows_the_tokens_of_its_turns(self):
        store.create_session(self.alice)
        self.client.force_login(create_staff("viewer", "view_agentsession"))
        html = self.client.get(LIST).content.decode()
        cells = re.findall(r'class="field-tokens">(.*?)</td>', html)
        assert cells == ["–", '<span title="1,234,582">1.23M</span>']

    def test_they_are_for_who_may_not_read_as_well(self):
        with override_settings(AGENT_SESSIONS_SHOW_CONTENT=False):
            self.client.force_login(create_staff("viewer", "view_agentsession"))
            self.assertContains(self.client.get(LIST), "1,234,582")

    def test_nobody_sorts_the_table_by_them(self):
        self.client.force_login(create_staff("viewer", "view_agentsession"))
        html = self.client.get(LIST, {"o": "-8"}).content.decode()
        assert "column-tokens" in html
        assert not re.search(r'class="[^"]*sortable[^"]*column-tokens', html)


class SessionPageTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.row = store.create_session(User.objects.create(username="alice"))
        store.append_items(cls.row, [say("a"), say("b")], usage=SPENT)
        store.append_items(cls.row, [say("c")])

    def page(self, *names, **query):
        self.client.force_login(
            create_staff("-".join(names), "view_agentsession", *names)
        )
        return self.client.get(page_of(self.row), query).content.decode()

    def test_the_sums_are_told_to_the_digit(self):
        html = self.page()
        found = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", html)
        assert found == [
            ("Total tokens", "1,234,567"),
            ("Requests", "3"),
            ("Input tokens", "1,200,000"),
            ("Cached input tokens", "4,321"),
            ("Output tokens", "34,567"),
            ("Reasoning tokens", "89"),
        ]

    def test_a_session_without_usage_says_nothing_of_it(self):
        TurnUsage.objects.all().delete()
        html = self.page()
        assert "<dt>" not in html
        assert '<div class="readonly">–</div>' in html

    def test_a_reason_that_is_due_hides_the_page_and_nothing_else(self):
        with override_settings(AGENT_SESSIONS_REQUIRE_REASON=True):
            assert "<dt>" not in self.page("read_transcript")
            assert "1,234,567" in self.page()

    def test_turns_tell_what_they_used(self):
        html = self.page("read_transcript")
        turns = re.findall(r"<h3>(.*?)</h3>", html, re.DOTALL)
        assert ["Tokens" in turn for turn in turns] == [False, True, False]
        assert "Tokens: 1.20M in, 34.6k out; 3 requests" in turns[1]

    def test_a_turn_that_began_on_the_page_before_tells_it_too(self):
        store.append_items(self.row, [say("d"), *[{"role": "assistant"}] * 120])
        store.record_usage(self.row, ONE)
        html = self.page("read_transcript")
        assert html.count("agent-used") == 1
        assert "Turn 4, continued" in html
        assert "Tokens: 10 in, 5 out; 1 request<" in html


class UserPageTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.alice = User.objects.create(username="alice")
        cls.staff = permit(create_staff("staff", "view_agentsession"), "view_user")
        cls.url = reverse("admin:auth_user_change", args=[cls.alice.pk])

    def setUp(self):
        self.enterContext(override_settings(ROOT_URLCONF="tests.admin_site"))
        self.client.force_login(self.staff)

    def use(self, days, usage):
        row = store.create_session(self.alice)
        store.append_items(row, [say("x")], usage=usage)
        day = timezone.now().date() - timedelta(days=days)
        TurnUsage.objects.filter(session=row).update(day=day)

    def test_the_last_days_are_added_up_and_drawn(self):
        self.use(0, ONE)
        self.use(0, times(2))
        self.use(29, times(1000))
        for days in (30, -1):  # too old, and of a clock that is ahead
            self.use(days, times(10_000))
        store.append_items("another's", [say("x")], usage=times(9))
        html = self.client.get(self.url).content.decode()
        assert "<dt>Total tokens</dt><dd>15,045</dd>" in html
        assert html.count("<rect") == 30
        values = re.findall(r'<td class="agent-number">(.*?)</td>', html)
        assert values == ["15,000", *["0"] * 28, "45"]

    def test_a_user_who_used_nothing_lately_has_a_page_too(self):
        self.use(31, ONE)
        self.assertContains(self.client.get(self.url), "None in the last 30 days.")

    def test_who_may_not_see_sessions_sees_no_usage(self):
        self.use(0, ONE)
        self.client.force_login(permit(create_staff("other"), "view_user"))
        self.assertNotContains(self.client.get(self.url), "okens")

    def test_older_versions_are_marked_among_the_latest_sessions(self):
        row = store.create_session(self.alice)
        store.append_items(row, [say("x")])
        store.rewind_session(row, before_turn=1, keep=True)
        response = self.client.get(self.url)
        self.assertContains(response, "</span> fork</span>", 1)
        self.assertContains(response, "</span> archived</span>", 1)

    def test_it_costs_the_same_for_any_number(self):
        self.client.get(self.url)
        for size in (1, 20):
            for _ in range(size):
                self.use(0, ONE)
            # The request's user and permissions, the user and theirs; sessions, usage.
            with self.assertNumQueries(4 + 3 + 2):
                self.client.get(self.url)
        assert AgentSession.objects.count() == 21
