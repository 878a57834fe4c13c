from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

from django.contrib.auth.models import User
from django.test import TestCase, override_settings
from django.urls import reverse
from django.utils import timezone

from agent_sessions import store
from agent_sessions.models import AgentSession
from support_desk.demo_users import create_demo_users
from support_desk.tests.cases import FAST


@override_settings(PASSWORD_HASHERS=FAST)
class PageTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        create_demo_users()
        cls.alice, cls.bob, cls.support = User.objects.order_by("username")
        cls.row = store.create_session(cls.alice)
        store.append_items(
            cls.row,
            [
                {"role": "user", "content": "<script>1</script>"},
                {"role": "assistant", "content": "Hello & welcome"},
            ],
        )

    def setUp(self):
        self.client.force_login(self.alice)
        self.url = reverse("session", args=[self.row.pk])

    def change(self, **values):
        url = reverse("change", args=[self.row.pk])
        response = self.client.post(url, values, follow=True)
        self.row.refresh_from_db()
        return response

    def test_what_people_write_is_escaped(self):
        response = self.client.get(self.url)
        self.assertNotContains(response, "<script>1")
        self.assertContains(response, "&lt;script&gt;1&lt;/script&gt;")
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'self'")

    def test_somebody_elses_session_is_not_found(self):
        for client in (self.client_class(), self.client):
            if client is self.client:
                client.force_login(self.bob)
            assert client.get(self.url).status_code == 404
            self.assertNotContains(client.get(reverse("home")), self.url)
            for name in ("change", "delete", "send", "edit", "retry", "stop"):
                url = reverse(name, args=[self.row.pk])
                data = {"text": "Hi", "title": "Mine", "run": str(uuid4())}
                data |= {"turn": 1, "seen": 2}
                assert client.post(url, data).status_code == 404
        assert AgentSession.objects.get().title == ""

    def test_a_session_is_renamed_archived_and_deleted(self):
        self.assertContains(self.change(title="My lamp"), "My lamp")
        assert self.row.title == "My lamp"
        self.change(archived="yes")
        assert self.row.archived_at
        self.assertNotContains(self.client.get(reverse("home")), "My lamp")
        archived = self.client.get(reverse("home"), {"archived": "yes"})
        self.assertContains(archived, "My lamp")
        self.change(archived="no")
        assert (self.row.title, self.row.archived_at) == ("My lamp", None)
        self.client.post(reverse("delete", args=[self.row.pk]))
        assert not AgentSession.objects.exists()

    def test_a_title_that_cannot_be_is_refused_with_the_reason(self):
        self.assertContains(self.change(title="x" * 201), "at most 200 characters")

    def test_the_list_is_searched_by_title_and_first_words(self):
        store.create_session(self.alice, title="About a Pico lamp")
        home = reverse("home")
        found = self.client.get(home, {"q": "pico"}).context["sessions"]
        assert [row.title for row in found] == ["About a Pico lamp"]
        found = self.client.get(home, {"q": "SCRIPT"}).context["sessions"]
        assert found == [self.row]
        self.assertContains(self.client.get(home, {"q": "zebra"}), "No session has")

    def test_the_list_goes_on_where_its_page_ends(self):
        now = timezone.now()
        for number in range(45):
            row = store.create_session(self.alice, title=f"number {number:02}")
            # As an import would: several at one moment.
            AgentSession.objects.filter(pk=row.pk).update(
                updated_at=now - timedelta(hours=1 + number // 5)
            )
        seen, query = [], {"part": "list"}
        while query:
            response = self.client.get(reverse("home"), query)
            seen += response.context["sessions"]
            older = response.context["older"]
            query = {"part": "list", "before": older} if older else None
        assert len(seen) == len(set(seen)) == 46
        assert seen == list(AgentSession.objects.newest_first())

    def test_a_page_that_cannot_be_is_a_bad_request(self):
        for url, query in (
            (reverse("home"), {"before": "yesterday"}),
            (reverse("home"), {"before": "2026-01-01T00:00:00Z,7"}),
            (self.url, {"earlier": "x"}),
        ):
            assert self.client.get(url, query).status_code == 400

    def test_a_long_session_is_read_in_pages(self):
        said = [{"role": "user", "content": f"words {n:03}."} for n in range(150)]
        store.append_items(self.row, said)
        response = self.client.get(self.url)
        self.assertNotContains(response, "words 049.")
        self.assertContains(response, "words 149.")
        older = self.client.get(self.url, {"earlier": response.context["older_items"]})
        self.assertContains(older, "words 049.")
        # What can be done at the session's end is there alone.
        self.assertContains(response, "Ask again")
        self.assertNotContains(older, "Ask again")
        self.assertContains(older, "Later in this session")
        self.assertContains(
            older, f"{reverse('transcript', args=[self.row.pk])}?earlier="
        )

    def test_words_may_be_changed_and_pictures_not(self):
        picture = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
        words = {"type": "input_text", "text": "What is this?"}
        said = [{"role": "user", "content": [words, picture]}]
        said.append({"role": "user", "content": [words]})
        store.append_items(self.row, said)
        page = self.client.get(self.url)
        self.assertContains(page, 'class="edit"', count=2)
        self.assertContains(page, 'name="turn" value="1"')
        self.assertContains(page, 'name="turn" value="3"')

    def test_older_versions_go_with_the_session(self):
        older = store.fork_session(self.row)
        store.update_session(older, archived=True)
        own_way = store.fork_session(self.row)
        self.client.post(reverse("delete", args=[self.row.pk]))
        assert list(AgentSession.objects.all()) == [own_way]

    def test_one_click_logs_in_only_with_debug(self):
        self.client.logout()
        click = {"username": "alice"}
        assert self.client.post(reverse("demo_login"), click).status_code == 404
        self.assertNotContains(self.client.get(reverse("login")), "Log in as")
        with override_settings(DEBUG=True):
            self.assertContains(self.client.get(reverse("login")), "Log in as alice")
            response = self.client.post(reverse("demo_login"), click)
        self.assertRedirects(response, reverse("home"))

    def test_staff_find_the_admin_and_the_api(self):
        self.assertNotContains(self.client.get(reverse("home")), "/admin/")
        self.client.force_login(self.support)
        home = self.client.get(reverse("home"))
        for name in ("admin:agent_sessions_agentsession_changelist", "api_docs"):
            self.assertContains(home, reverse(name))
            assert self.client.get(reverse(name)).status_code == 200
