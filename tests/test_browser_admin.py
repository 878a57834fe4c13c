"""The list, the users and the overview in a browser: nothing runs, all can use them."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import override_settings
from django.urls import reverse

from agent_sessions import store
from agent_sessions.models import AgentSession
from agent_sessions.usage import TokenUsage
from tests.browsers import BrowserCase, serious_findings
from tests.test_browser_transcript import PAYLOADS

pytestmark = pytest.mark.browser

LIST = "/admin/agent_sessions/agentsession/"
# Payloads that no database or field would take are not about these pages.
STORABLE = [p for p in PAYLOADS if p.isprintable() and "\ud800" not in p]
CHECK = """() => {
    const bad = window.ran ? ['it ran'] : [];
    for (const one of document.querySelectorAll('#content *, .messagelist *')) {
        for (const {name, value} of one.attributes) {
            if (name.startsWith('on') || name === 'style' || name === 'srcdoc')
                bad.push(one.outerHTML);
            if (/^\\s*(javascript|data):/i.test(value)
                && ['href', 'src', 'action', 'formaction'].includes(name))
                bad.push(one.outerHTML);
        }
        one.dispatchEvent(new MouseEvent('mouseover', {bubbles: true}));
        if (one.matches('iframe,object,embed,style,base,meta,video,audio,math'))
            bad.push(one.outerHTML);
    }
    return bad;
}"""


@override_settings(
    MIDDLEWARE=[*settings.MIDDLEWARE, "tests.browsers.strict_policy"],
    ROOT_URLCONF="tests.admin_site",
)
class AdminBrowserTests(BrowserCase):
    def setUp(self):
        cache.clear()
        self.addCleanup(cache.clear)
        self.root = User.objects.create(
            username="root", is_staff=True, is_superuser=True
        )

    def fill(self, words):
        for number, word in enumerate(words):
            user = User.objects.create(
                username=f"{word}{number}"[:150], email=f"{number}@example.com"
            )
            row = store.create_session(
                user, session_id=f"{word.strip()} {number}", metadata={word: word}
            )
            store.append_items(row, [{"role": "user", "content": word}])
            used = TokenUsage(1, 2, 0, 3, 0, 10_005)
            store.append_items(row, [{"type": word[:60], "name": word}], usage=used)
            if number % 2:
                store.update_session(row, title=word[:200])
        self.user = User.objects.get(email="1@example.com")
        self.row = AgentSession.objects.latest("created_at")
        # Not more than a page of the list holds, with the others.
        for word in words[:8]:
            store.fork_session(self.row, title=word[:200])

    def pages(self):
        return [
            LIST,
            f"{LIST}?q=example.com",
            f"{LIST}?q=text:window",
            f"{LIST}users/",
            f"{LIST}overview/",
            f"{LIST}{self.row.pk}/change/",
            reverse("admin:auth_user_change", args=[self.user.pk]),
            reverse("admin:auth_user_delete", args=[self.user.pk]),
            "/admin/agent_sessions/sessionaccess/",
        ]

    def test_nothing_that_people_wrote_runs(self):
        self.fill(STORABLE)
        assert len(STORABLE) > 30
        searches = [f"{LIST}?q={one.replace('#', '')}" for one in STORABLE[:10]]

        def look(page):
            bad = []
            for url in [*self.pages(), *searches]:
                page.goto(self.live_server_url + url)
                bad += page.evaluate(CHECK)
            page.goto(f"{self.live_server_url}{LIST}")
            page.locator("#action-toggle").check()
            page.select_option("select[name=action]", "delete_selected")
            page.locator("button[name=index]").first.click()
            bad += page.evaluate(CHECK)
            page.locator("input[type=submit][value=Delete]").click()
            page.wait_for_load_state()
            return bad + page.evaluate(CHECK)

        assert self.visit(self.root, look) == []
        assert self.dialogs == self.foreign_requests() == self.complaints == []
        assert not AgentSession.objects.exists()

    def test_everybody_can_use_the_pages(self):
        self.fill(["Where is my order?", "مرحبا، أين طلبي؟", "And now?"])
        store.append_items("anonymous", [{"role": "user", "content": "x"}])
        store.archive_sessions([AgentSession.objects.last().pk])

        def look(page):
            bad = []
            session = f"{LIST}{self.row.pk}/change/"
            for url in (LIST, f"{LIST}users/", f"{LIST}overview/", session):
                page.goto(self.live_server_url + url)
                bad += serious_findings(page)
            user = reverse("admin:auth_user_change", args=[self.user.pk])
            page.goto(self.live_server_url + user)
            for ours in ("latest_agent_sessions_in_words", "agent_sessions_usage"):
                bad += serious_findings(page, within=f".field-{ours}")
            page.goto(self.live_server_url + LIST)
            page.locator("#action-toggle").check()
            page.select_option("select[name=action]", "delete_selected")
            page.locator("button[name=index]").first.click()
            return bad + serious_findings(page)

        for scheme in ("light", "dark"):
            found = self.visit(self.root, look, color_scheme=scheme, bypass_csp=True)
            assert found == [], scheme

    def test_actions_work_without_javascript(self):
        self.fill(["one", "two"])

        def act(page):
            page.goto(f"{self.live_server_url}{LIST}")
            page.locator("input.action-select").first.check()
            page.select_option("select[name=action]", "remove_owner_selected")
            page.locator("button[name=index]").first.click()
            page.locator("input[type=submit]").last.click()
            return page.locator(".messagelist").inner_text()

        told = self.visit(self.root, act, java_script_enabled=False)
        assert "1 session has no owner any more." in told
        assert AgentSession.objects.orphaned().count() == 1
