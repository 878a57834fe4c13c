"""Where a session comes from and what was forked from it, on the pages of the admin."""

from __future__ import annotations

import re

from django.contrib import admin
from django.contrib.auth.models import User
from django.test import RequestFactory, TestCase, override_settings
from django.urls import reverse

from agent_sessions import store
from agent_sessions.admin import lineage
from agent_sessions.admin.lineage import find_lineage
from agent_sessions.models import AgentSession
from tests.projects.cases import say
from tests.test_access import create_staff
from tests.test_admin_sessions import LIST, PAYLOADS
from tests.test_admin_usage import page_of


class LineageCase(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.alice = User.objects.create(username="alice")
        cls.viewer = create_staff("viewer", "view_agentsession")
        cls.row = store.create_session(cls.alice, title="my secret")
        store.append_items(cls.row, [say("x"), say("y")])

    def setUp(self):
        self.client.force_login(self.viewer)

    def section(self, row):
        html = self.client.get(page_of(row)).content.decode()
        found = re.search(r'<section class="agent-lineage".*?</section>', html, re.S)
        return found[0] if found else ""


class PageTests(LineageCase):
    def test_a_session_of_its_own_has_no_section(self):
        assert self.section(self.row) == ""

    def test_both_sides_link_to_each_other(self):
        fork = store.fork_session(self.row)
        assert f'href="{page_of(fork)}"' in self.section(self.row)
        assert "just now</time>" in self.section(self.row)
        assert "Forked from" not in self.section(self.row)
        assert f'href="{page_of(self.row)}"' in self.section(fork)
        assert "just now</time>" in self.section(fork)
        assert "Forks of this session" not in self.section(fork)

    def test_the_older_course_is_marked_as_archived(self):
        store.fork_session(self.row)
        assert "archived" not in self.section(self.row)
        store.rewind_session(self.row, before_turn=2, keep=True)
        assert self.section(self.row).count("</span> archived</span>") == 1

    def test_an_origin_that_was_deleted_is_told_plainly(self):
        fork = store.fork_session(self.row)
        store.delete_session(self.row)
        assert f"{self.row.pk} (deleted)" in self.section(fork)
        assert "<a" not in self.section(fork)

    def test_an_origin_that_one_may_not_see_is_no_link_and_not_deleted(self):
        fork = store.fork_session(self.row)
        model_admin = admin.site.get_model_admin(AgentSession)
        request = RequestFactory().get("/")
        request.user = self.viewer
        visible = model_admin.get_queryset(request).exclude(pk=self.row.pk)
        found = find_lineage(visible, fork, shows_words=False)
        assert found.origin == self.row.pk
        assert not found.is_linked and not found.is_gone
        hidden = model_admin.get_queryset(request).exclude(pk=fork.pk)
        assert find_lineage(hidden, self.row, shows_words=False).forks == []

    def test_titles_of_forks_are_for_who_may_read_them(self):
        store.fork_session(self.row, title="my other secret")
        assert "secret" not in self.section(self.row)
        reader = create_staff("reader", "view_agentsession", "read_transcript")
        self.client.force_login(reader)
        assert "my other secret" in self.section(self.row)
        url = reverse("admin:agent_sessions_agentsession_reason", args=[self.row.pk])
        with override_settings(AGENT_SESSIONS_REQUIRE_REASON=True):
            assert self.section(self.row) == ""
            self.client.post(url, {"reason": "ticket 42"})
            assert "Forks of this session" in self.section(self.row)
            assert "my other secret" not in self.section(self.row)

    def test_forks_are_bounded_newest_first_and_lead_to_all(self):
        count = lineage.FORKS_SHOWN
        forks = [store.fork_session(self.row) for _ in range(count)]
        assert "All forks" not in self.section(self.row)
        forks.append(store.fork_session(self.row))
        html = self.section(self.row)
        shown = re.findall(r'<li><a href="([^"]*)"', html)
        assert shown == [page_of(fork) for fork in forks[:0:-1]]
        url = f"{LIST}?forked_from__exact={self.row.pk}"
        assert url in html
        listed = self.client.get(url).context["cl"].result_list
        assert {row.pk for row in listed} == {fork.pk for fork in forks}

    def test_it_costs_the_same_for_any_number(self):
        fork = store.fork_session(self.row)
        self.client.get(page_of(self.row))
        # The request's user and permissions; the session, its user, usage, forks.
        for _ in range(2):
            with self.assertNumQueries(4 + 4):
                self.client.get(page_of(self.row))
            for _ in range(12):
                store.fork_session(self.row)
        # And its origin.
        with self.assertNumQueries(4 + 5):
            self.client.get(page_of(fork))

    def test_titles_are_escaped(self):
        root = User.objects.create(username="root", is_staff=True, is_superuser=True)
        self.client.force_login(root)
        for payload in PAYLOADS[: lineage.FORKS_SHOWN]:
            store.fork_session(self.row, title=payload)
        html = self.section(self.row)
        for live in ("<script>alert", "<svg/onload", "<img src=x", "<a href=//"):
            assert live not in html


class ListTests(LineageCase):
    def states(self, **query):
        response = self.client.get(LIST, query)
        return {
            row.pk: [str(state.words) for state in row.admin_row.states]
            for row in response.context["cl"].result_list
        }

    def test_a_fork_says_that_it_is_one(self):
        store.rewind_session(self.row, before_turn=2, keep=True)
        fork = AgentSession.objects.get(forked_from=self.row.pk)
        states = self.states()
        assert "fork" not in states[self.row.pk]
        assert states[fork.pk][:2] == ["archived", "fork"]

    def test_a_filter_tells_forks_and_others_apart(self):
        fork = store.fork_session(self.row)
        assert set(self.states(fork="yes")) == {fork.pk}
        assert set(self.states(fork="no")) == {self.row.pk}
        assert set(self.states(fork="x")) == {fork.pk, self.row.pk}
