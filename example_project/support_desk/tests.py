from __future__ import annotations

import os
from unittest import mock

from django.contrib.auth.models import User
from django.test import TestCase, override_settings
from django.urls import reverse
from openai import OpenAIError

from agent_sessions import store
from agent_sessions.models import AgentSession
from support_desk.demo_users import create_demo_users


class SiteTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        create_demo_users()
        cls.alice, cls.bob, cls.support = User.objects.order_by("username")

    def setUp(self):
        self.enterContext(mock.patch.dict(os.environ))
        os.environ.pop("OPENAI_API_KEY", None)

    def start(self, user, text):
        self.client.force_login(user)
        response = self.client.post(reverse("start_session"), {"text": text})
        return response.url

    def test_a_session_goes_on_where_it_was(self):
        url = self.start(self.alice, "I am Alice. Where is my order #1001?")
        response = self.client.post(
            f"{url}send/", {"text": "What is my name?"}, follow=True
        )
        self.assertContains(response, "look_up_order")
        self.assertContains(response, "Your name is Alice.")
        row = AgentSession.objects.get()
        assert (row.user, row.item_count) == (self.alice, 6)

    def test_the_list_shows_only_ones_own_sessions(self):
        url = self.start(self.alice, "I am Alice.")
        self.assertContains(self.client.get(reverse("sessions")), url)
        self.client.force_login(self.bob)
        self.assertNotContains(self.client.get(reverse("sessions")), url)

    def test_somebody_elses_session_is_not_found(self):
        url = self.start(self.alice, "I am Alice.")
        self.client.force_login(self.bob)
        assert self.client.get(url).status_code == 404
        assert self.client.post(f"{url}send/", {"text": "Hi"}).status_code == 404
        assert AgentSession.objects.get().turn_count == 1

    def test_what_people_write_is_escaped(self):
        response = self.client.get(self.start(self.alice, "<script>1</script>"))
        self.assertNotContains(response, "<script>")
        self.assertContains(response, "&lt;script&gt;1&lt;/script&gt;")
        assert response.headers["Content-Security-Policy"].startswith(
            "default-src 'self'"
        )

    def test_an_empty_message_is_not_sent(self):
        url = self.start(self.alice, "I am Alice.")
        response = self.client.post(f"{url}send/", {"text": " "}, follow=True)
        self.assertContains(response, "This field is required.")
        assert AgentSession.objects.get().turn_count == 1

    def test_a_message_outlives_a_model_that_fails(self):
        failing = mock.patch(
            "support_desk.offline_model.reply", side_effect=OpenAIError
        )
        with failing, self.assertLogs("support_desk.views", "ERROR") as logs:
            url = self.start(self.alice, "I am Alice.")
        response = self.client.get(url)
        self.assertContains(response, "The model did not answer.")
        self.assertContains(response, "I am Alice.")
        assert "Alice" not in logs.output[0]

    def test_staff_read_what_others_said(self):
        self.start(self.alice, "I am Alice.")
        row = AgentSession.objects.get()
        pages = [reverse("staff_sessions"), reverse("staff_session", args=[row.pk])]
        for page in pages:
            assert self.client.get(page).status_code == 403
        self.client.force_login(self.support)
        for page in pages:
            self.assertContains(self.client.get(page), "I am Alice.")
        assert len(store.read_items(row)) == 2

    def test_pages_need_a_login(self):
        for name in ("sessions", "staff_sessions"):
            response = self.client.get(reverse(name))
            self.assertRedirects(response, f"/login/?next={reverse(name)}")

    def test_one_click_logs_in_only_with_debug(self):
        click = {"username": "alice"}
        assert self.client.post(reverse("demo_login"), click).status_code == 404
        self.assertNotContains(self.client.get(reverse("login")), "Log in as")
        with override_settings(DEBUG=True):
            self.assertContains(self.client.get(reverse("login")), "Log in as alice")
            response = self.client.post(reverse("demo_login"), click)
        self.assertRedirects(response, reverse("sessions"))

    def test_staff_open_the_admin(self):
        self.client.force_login(self.support)
        assert self.client.get(reverse("admin:index")).status_code == 200
