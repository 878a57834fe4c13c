from __future__ import annotations

from django.contrib.auth.models import User
from django.test import TestCase
from django.urls import reverse

from agent_sessions import store
from agent_sessions.identifiers import uuid7
from agent_sessions.models import SessionAccess
from tests.test_access import create_staff

LIST = reverse("admin:agent_sessions_sessionaccess_changelist")


class AccessPageTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.ann = create_staff("ann", "view_sessionaccess")
        cls.session = uuid7()
        store.record_access(
            SessionAccess.Action.OPENED,
            channel=SessionAccess.Channel.ADMIN,
            sessions=[cls.session],
            user=cls.ann,
            reason="<b>Ticket</b> 42",
        )
        cls.record = SessionAccess.objects.get()

    def page(self, name, *args):
        return reverse(f"admin:agent_sessions_sessionaccess_{name}", args=args)

    def test_who_may_sees_every_record(self):
        self.client.force_login(self.ann)
        response = self.client.get(LIST)
        self.assertContains(response, str(self.session))
        self.assertContains(response, "&lt;b&gt;Ticket&lt;/b&gt; 42")
        response = self.client.get(self.page("change", self.record.pk))
        self.assertContains(response, str(self.session))

    def test_records_of_a_session_or_a_user_are_found(self):
        store.record_access(
            SessionAccess.Action.SEARCHED, channel=SessionAccess.Channel.ADMIN
        )
        self.client.force_login(self.ann)
        for term, count in {
            str(self.session): 1,
            self.session.hex: 1,
            "ann": 1,
            "": 2,
            str(uuid7()): 0,
            "nobody": 0,
        }.items():
            response = self.client.get(LIST, {"q": term})
            assert len(response.context["cl"].result_list) == count, term

    def test_the_list_costs_the_same_for_any_number(self):
        self.client.force_login(self.ann)
        for _ in range(2):
            with self.assertNumQueries(6):
                self.client.get(LIST)
            store.record_access(
                SessionAccess.Action.OPENED,
                channel=SessionAccess.Channel.ADMIN,
                sessions=[uuid7() for _ in range(20)],
                user=self.ann,
            )

    def test_others_do_not_see_them(self):
        self.client.force_login(create_staff("bob", "view_agentsession"))
        assert self.client.get(LIST).status_code == 403
        page = self.page("change", self.record.pk)
        assert self.client.get(page).status_code == 403

    def test_nobody_changes_them(self):
        self.client.force_login(
            User.objects.create(username="root", is_superuser=True, is_staff=True)
        )
        change = self.page("change", self.record.pk)
        for page in (
            self.page("add"),
            change,
            self.page("delete", self.record.pk),
        ):
            answer = self.client.post(page, {"reason": "none", "post": "yes"})
            assert answer.status_code == 403, page
        data = {
            "action": "delete_selected",
            "_selected_action": [self.record.pk],
            "post": "yes",
        }
        self.client.post(LIST, data)
        self.record.refresh_from_db()
        assert self.record.reason == "<b>Ticket</b> 42"
