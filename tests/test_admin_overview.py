from __future__ import annotations

import re
from datetime import UTC, timedelta
from unittest import mock

from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import SimpleTestCase, TestCase, override_settings
from django.urls import reverse
from django.utils import timezone

from agent_sessions import store
from agent_sessions.admin import statistics
from agent_sessions.admin.charts import draw
from agent_sessions.models import AgentSession, SessionItem, TurnUsage
from agent_sessions.usage import TokenUsage
from tests.projects.cases import say
from tests.test_access import create_staff
from tests.test_admin_sessions import PAYLOADS, call
from tests.usage_cases import ONE, times

OVERVIEW = reverse("admin:agent_sessions_agentsession_overview")


class OverviewTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.viewer = create_staff("viewer", "view_agentsession")
        cls.alice = User.objects.create(username="alice")
        cls.bob = User.objects.create(username="bob")

    def setUp(self):
        cache.clear()
        self.addCleanup(cache.clear)
        self.client.force_login(self.viewer)

    def age(self, row, days):
        AgentSession.objects.filter(pk=row.pk).update(
            created_at=row.created_at - timedelta(days=days),
            updated_at=row.updated_at - timedelta(days=days),
        )

    def test_it_counts_what_happened_in_the_period(self):
        old = store.create_session(self.bob)
        self.age(old, 40)
        last_week = store.create_session(self.bob)
        self.age(last_week, 5)
        for _ in range(2):
            row = store.create_session(self.alice)
            store.append_items(row, [{**say("x"), "type": "message"}, call()])
        store.append_items("anonymous", [say("x")] * 30)
        found = statistics.collect_statistics(30)
        today = timezone.now().astimezone(UTC).date()
        assert len(found.sessions) == len(found.items) == 30
        assert found.sessions[today] == 3
        assert found.sessions[today - timedelta(days=5)] == 1
        assert found.items[today] == 34
        assert found.types == {"message": 32, "function_call": 2}
        assert (found.active_sessions, found.stored_items) == (4, 34)
        assert found.active_users == {1: 1, 7: 2, 30: 2}
        assert found.sizes == [1, 2, 1, 0, 0]
        users = [(key, count, items) for key, count, items, _ in found.busiest]
        assert users == [(self.alice.pk, 2, 4), (self.bob.pk, 1, 0)]
        assert not found.is_cut
        found = statistics.collect_statistics(90)
        assert found.sessions[today - timedelta(days=40)] == 1

    def test_items_are_counted_within_a_bound_that_the_page_tells(self):
        for day in (3, 2, 1, 0):
            self.append_in_the_past(day, count=4)
        limit = statistics.ITEM_LIMIT
        try:
            statistics.ITEM_LIMIT = 10
            found = statistics.collect_statistics(7)
            self.assertContains(self.client.get(OVERVIEW), "Only the newest")
        finally:
            statistics.ITEM_LIMIT = limit
        assert found.is_cut
        assert 8 <= found.counted_items <= 12
        assert [*found.items.values()][-2:] == [4, 4]
        found = statistics.collect_statistics(7)
        assert [*found.items.values()] == [0, 0, 0, 4, 4, 4, 4]
        assert not found.is_cut

    def append_in_the_past(self, days, *, count):
        moment = timezone.now() - timedelta(days=days)
        nanoseconds = int(moment.timestamp() * 10**9)
        row, _ = AgentSession.objects.get_or_create(session_id="s")
        with mock.patch("time.time_ns", return_value=nanoseconds):
            SessionItem.objects.bulk_create(
                SessionItem(
                    session=row,
                    position=100 * days + number,
                    data=say("x"),
                    created_at=moment,
                )
                for number in range(count)
            )

    def use(self, user, days, usage):
        row = store.create_session(user)
        store.append_items(row, [say("x")], usage=usage)
        day = timezone.now().astimezone(UTC).date() - timedelta(days=days)
        TurnUsage.objects.filter(session=row).update(day=day)

    def test_tokens_are_counted_by_day_and_user(self):
        self.use(self.alice, 0, ONE)
        self.use(self.bob, 0, times(2))
        self.use(self.bob, 6, times(2))
        self.use(None, 6, times(100))
        for days in (7, -1):  # too old, and of a clock that is ahead
            self.use(self.alice, days, times(1000))
        self.use(self.viewer, 0, TokenUsage(requests=1))
        found = statistics.collect_statistics(7)
        assert [*found.tokens.values()] == [102 * 15, 0, 0, 0, 0, 0, 3 * 15]
        assert found.spenders == [(self.bob.pk, 60), (self.alice.pk, 15)]
        assert not found.usage_is_cut
        html = self.client.get(OVERVIEW, {"days": "7"}).content.decode()
        assert "<dt>Tokens</dt><dd>1,575</dd>" in html
        assert "<bdi>bob</bdi>" in html

    def test_tokens_are_counted_within_a_bound_that_the_page_tells(self):
        for days in (0, 1, 1, 2, 2):
            self.use(self.alice, days, ONE)
        today = timezone.now().astimezone(UTC).date()
        limit = statistics.TURN_LIMIT
        try:
            # Days are counted whole, and the newest in any case.
            for statistics.TURN_LIMIT, days in ((4, 2), (3, 2), (2, 1), (0, 1)):
                found = statistics.collect_statistics(7)
                assert found.usage_is_cut
                assert found.usage_since == today - timedelta(days=days - 1)
                counted = [15, *[30] * (days - 1), *[0] * (7 - days)]
                assert [*found.tokens.values()] == counted[::-1]
            self.assertContains(self.client.get(OVERVIEW), "Only the newest turns")
        finally:
            statistics.TURN_LIMIT = limit
        found = statistics.collect_statistics(7)
        assert found.spenders == [(self.alice.pk, 75)]

    def test_tokens_have_days_of_utc_without_time_zones_too(self):
        today = timezone.now().astimezone(UTC).date()
        for zone in ("Etc/GMT+12", "Etc/GMT-14"):
            with override_settings(USE_TZ=False, TIME_ZONE=zone):
                assert statistics.recent_days(2) == [today - timedelta(days=1), today]

    def test_it_costs_the_same_for_any_number(self):
        self.client.get(OVERVIEW)
        for size in (1, 30):
            for number in range(size):
                user = User.objects.create(username=f"{size}-{number}")
                row = store.create_session(user)
                store.append_items(row, [say("x")] * size, usage=ONE)
            cache.clear()
            # The request's user and permissions; eight of statistics, users' names.
            with self.assertNumQueries(4 + 8 + 1):
                self.client.get(OVERVIEW)
            with self.assertNumQueries(4 + 1):
                self.client.get(OVERVIEW)

    def test_each_chart_has_its_numbers_as_a_table(self):
        store.append_items("s", [say("x"), call()], user=self.alice, usage=ONE)
        html = self.client.get(OVERVIEW, {"days": "7"}).content.decode()
        html = html[html.index('id="content"') :]
        assert html.count('role="img"') == 3
        assert html.count("<rect") == 7 + 7 + 7 + 1 + 2 + 5
        assert html.count("<table") == 7
        for days in ("7", "90", "8", "x", "-1"):
            assert self.client.get(OVERVIEW, {"days": days}).status_code == 200

    def test_an_empty_site_has_an_overview_too(self):
        self.assertContains(self.client.get(OVERVIEW), "Nothing in this period.")

    @override_settings(USE_THOUSAND_SEPARATOR=True, LANGUAGE_CODE="de")
    def test_numbers_in_drawings_are_not_localized(self):
        store.append_items("s", [say("x")])
        html = self.client.get(OVERVIEW, {"days": "90"}).content.decode()
        assert 'viewBox="0 0 1080 100"' in html
        assert not re.search(r'<rect[^>]*"\d*[.,]\d', html)

    def test_it_needs_the_permission_and_shows_no_words(self):
        row = store.create_session(self.alice, title="my secret")
        store.append_items(row, [say("my secret")])
        root = User.objects.create(username="root", is_staff=True, is_superuser=True)
        self.client.force_login(root)
        self.assertNotContains(self.client.get(OVERVIEW), "secret")
        self.client.force_login(create_staff("nobody", "read_transcript"))
        assert self.client.get(OVERVIEW).status_code == 403

    def test_types_and_names_are_escaped(self):
        for number, payload in enumerate(PAYLOADS):
            user = User.objects.create(username=payload)
            store.append_items(f"{number}", [{"type": payload}], user=user)
        html = self.client.get(OVERVIEW).content.decode()
        for live in ("<script>alert", "<svg/onload", "<img src=x", "<a href=//"):
            assert live not in html
        assert "&lt;script&gt;alert(1)" in html

    def test_nothing_is_inline_or_from_outside(self):
        store.append_items("s", [say("x")], user=self.alice)
        users = reverse("admin:agent_sessions_agentsession_users")
        for page in (OVERVIEW, users):
            html = self.client.get(page).content.decode()
            content = html[html.index('id="content"') :]
            assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! src)", content)
            assert not re.search(r'(src|href)="(https?:)?//', html)


class ChartTests(SimpleTestCase):
    def test_bars_are_in_proportion_and_small_ones_show(self):
        chart = draw([("a", 1000), ("b", 500), ("c", 1), ("d", 0)])
        assert [bar.height for bar in chart.bars] == [100, 50, 1, 0]
        assert [bar.y for bar in chart.bars] == [0, 50, 99, 100]
        assert (chart.width, chart.most) == (48, 1000)

    def test_nothing_draws_nothing(self):
        assert draw([]).bars == []
        assert [bar.height for bar in draw([("a", 0)]).bars] == [0]
