"""Sessions seen from their users: on a user's page, by user, and when one goes."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.test import RequestFactory, TestCase, override_settings
from django.urls import reverse

from agent_sessions import store
from agent_sessions.admin import reports
from agent_sessions.admin.users import AgentSessionsUserAdminMixin
from agent_sessions.models import AgentSession, SessionItem
from tests.admin_site import site
from tests.projects.cases import say
from tests.test_access import create_staff
from tests.test_admin_sessions import LIST, PAYLOADS


class PlainUserAdmin(AgentSessionsUserAdminMixin, admin.ModelAdmin):
    pass


# Of Django's own question: the request's five, and one for each model of any app that
# points at users, of which AgentUser is ours.
QUERIES = 5 + 5

USERS = reverse("admin:agent_sessions_agentsession_users")


def permit(user, *names):
    user.user_permissions.add(*Permission.objects.filter(codename__in=names))
    return User.objects.get(pk=user.pk)


@override_settings(ROOT_URLCONF="tests.admin_site")
class UserPageTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.alice = User.objects.create(username="alice")
        cls.staff = permit(
            create_staff("staff"), "view_user", "change_user", "delete_user"
        )
        store.append_items("s", [say("my secret words")], user=cls.alice)
        cls.row = AgentSession.objects.get()

    def page(self, *names):
        self.client.force_login(permit(self.staff, *names))
        url = reverse("admin:auth_user_change", args=[self.alice.pk])
        return self.client.get(url)

    def test_the_latest_sessions_stand_on_the_users_page(self):
        for number in range(12):
            store.append_items(f"s{number}", [say("hi")], user=self.alice)
        response = self.page("view_agentsession")
        self.assertContains(response, "/agentsession/0", 10)
        self.assertContains(response, f"{LIST}?user__exact={self.alice.pk}")
        self.assertNotContains(response, str(self.row.pk))

    def test_words_only_for_who_may_read_them(self):
        response = self.page("view_agentsession")
        self.assertContains(response, str(self.row.pk))
        self.assertNotContains(response, "secret")
        response = self.page("view_agentsession", "read_transcript")
        self.assertContains(response, "my secret words")
        with override_settings(AGENT_SESSIONS_REQUIRE_REASON=True):
            self.assertNotContains(self.page(), "secret")

    def test_who_may_not_see_sessions_sees_none(self):
        for names in ((), ("read_transcript",)):
            response = self.page(*names)
            assert response.status_code == 200
            self.assertNotContains(response, "secret")
            self.assertNotContains(response, str(self.row.pk))

    def test_a_user_without_sessions_has_a_page_too(self):
        store.delete_session(self.row)
        self.assertContains(self.page("view_agentsession"), "None yet.")

    def test_the_page_to_add_a_user_is_as_before(self):
        self.client.force_login(permit(self.staff, "add_user"))
        assert self.client.get(reverse("admin:auth_user_add")).status_code == 200

    def test_an_admin_without_fieldsets_shows_them_once(self):
        request = RequestFactory().get("/")
        request.user = permit(self.staff, "view_agentsession")
        plain = PlainUserAdmin(User, site)
        fieldsets = plain.get_fieldsets(request, self.alice)
        names = [name for _, options in fieldsets for name in options["fields"]]
        assert names.count("latest_agent_sessions") == 1
        request.user = User.objects.create(username="x", is_staff=True)
        fieldsets = plain.get_fieldsets(request, self.alice)
        names = [name for _, options in fieldsets for name in options["fields"]]
        assert "latest_agent_sessions" not in names

    def test_what_people_write_is_escaped(self):
        for payload in PAYLOADS:
            row = store.create_session(self.alice, title=payload)
            store.append_items(row, [say(payload)])
        html = self.page("view_agentsession", "read_transcript").content.decode()
        for live in ("<script>alert", "<svg/onload", "<img src=x", "<a href=//"):
            assert live not in html


@override_settings(ROOT_URLCONF="tests.admin_site")
class UserDeletionTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.alice = User.objects.create(username="alice")
        cls.staff = permit(
            create_staff("staff"),
            "view_user",
            "delete_user",
            "view_agentsession",
        )
        store.update_user_metadata({"a": 1}, user=cls.alice)

    def setUp(self):
        self.client.force_login(self.staff)
        self.url = reverse("admin:auth_user_delete", args=[self.alice.pk])

    def fill(self, count):
        for _ in range(count):
            row = store.create_session(self.alice)
            store.append_items(row, [say("x"), say("y")])

    def test_keeping_their_sessions_asks_for_none_of_them(self):
        self.fill(1)
        with self.assertNumQueries(QUERIES):
            self.client.get(self.url)
        self.fill(20)
        with self.assertNumQueries(QUERIES):
            response = self.client.get(self.url)
        for row in AgentSession.objects.all():
            self.assertNotContains(response, str(row.pk))
        self.client.post(self.url, {"post": "yes"})
        assert not User.objects.filter(pk=self.alice.pk).exists()
        assert AgentSession.objects.orphaned().count() == 21

    @override_settings(AGENT_SESSIONS_ON_USER_DELETE="delete")
    def test_deleting_their_sessions_counts_instead_of_loading(self):
        self.client.force_login(permit(self.staff, "delete_agentsession"))
        for size in (1, 20):
            AgentSession.objects.all().delete()
            self.fill(size)
            with self.assertNumQueries(QUERIES + 1):
                response = self.client.get(self.url)
            self.assertContains(response, f"Agent sessions: {size}")
            self.assertContains(response, f"Session items: {2 * size}")
        self.client.post(self.url, {"post": "yes"})
        assert not User.objects.filter(pk=self.alice.pk).exists()
        assert not AgentSession.objects.exists() and not SessionItem.objects.exists()

    @override_settings(AGENT_SESSIONS_ON_USER_DELETE="delete")
    def test_deleting_their_sessions_needs_the_permission(self):
        self.fill(1)
        self.assertContains(self.client.get(self.url), "Cannot delete user")
        assert self.client.post(self.url, {"post": "yes"}).status_code == 403
        assert AgentSession.objects.count() == 1

    @override_settings(AGENT_SESSIONS_ON_USER_DELETE="delete")
    def test_several_users_are_deleted_with_their_sessions(self):
        self.fill(2)
        self.client.force_login(permit(self.staff, "delete_agentsession"))
        data = {
            "action": "delete_selected",
            "_selected_action": [self.alice.pk],
            "post": "yes",
        }
        self.client.post(reverse("admin:auth_user_changelist"), data)
        assert not User.objects.filter(pk=self.alice.pk).exists()
        assert not AgentSession.objects.exists()


class ByUserTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.viewer = create_staff("viewer", "view_agentsession")
        for number in range(3):
            user = User.objects.create(username=f"user{number}")
            for _ in range(3 - number):
                row = store.create_session(user)
                store.append_items(row, [say("secret")] * (number + 1))
        store.append_items("anonymous", [say("x")])

    def rows(self, **query):
        self.client.force_login(self.viewer)
        response = self.client.get(USERS, query)
        assert response.status_code == 200
        return [
            (row["name"], row["sessions"], row["items"])
            for row in response.context["rows"]
        ]

    def test_users_by_number_of_sessions_and_by_activity(self):
        expected = [("user0", 3, 3), ("user1", 2, 4), ("user2", 1, 3)]
        assert self.rows() == self.rows(o="nonsense", p="x") == expected
        assert self.rows(o="activity") == expected[::-1]

    def test_pages_cost_the_same(self):
        self.client.force_login(self.viewer)
        per_page = reports.USERS_PER_PAGE
        try:
            reports.USERS_PER_PAGE = 2
            for page, names in ((1, 2), (2, 1), (3, 0)):
                # The request's user and permissions; users, items, names.
                with self.assertNumQueries(4 + 3 if names else 4 + 1):
                    response = self.client.get(USERS, {"p": page})
                assert len(response.context["rows"]) == names
                assert response.context["older"] == (2 if page == 1 else None)
        finally:
            reports.USERS_PER_PAGE = per_page

    def test_the_page_leads_to_a_users_sessions(self):
        self.client.force_login(self.viewer)
        user = User.objects.get(username="user1")
        response = self.client.get(USERS)
        link = f"{LIST}?user__exact={user.pk}"
        self.assertContains(response, link)
        self.assertNotContains(response, "secret")
        assert len(self.client.get(link).context["cl"].result_list) == 2

    def test_who_may_not_see_sessions_is_refused(self):
        self.client.force_login(create_staff("nobody", "read_transcript"))
        assert self.client.get(USERS).status_code == 403

    def test_names_are_escaped(self):
        for payload in PAYLOADS:
            store.create_session(User.objects.create(username=payload))
        self.client.force_login(self.viewer)
        html = self.client.get(USERS).content.decode()
        for live in ("<script>alert", "<svg/onload", "<img src=x", "<a href=//"):
            assert live not in html
        assert "&lt;script&gt;alert(1)" in html


class AgentUserPageTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.alice = User.objects.create(username="alice", email="a@example.com")
        store.update_user_metadata({"plan": "<b>secret</b>"}, user=cls.alice)
        cls.list = reverse("admin:agent_sessions_agentuser_changelist")
        cls.page = reverse("admin:agent_sessions_agentuser_change", args=[cls.alice.pk])

    def test_what_agents_know_needs_the_permission_to_read(self):
        self.client.force_login(create_staff("viewer", "view_agentuser"))
        for url in (self.list, f"{self.list}?q=a@example", self.page):
            response = self.client.get(url)
            self.assertContains(response, "alice")
            self.assertNotContains(response, "secret")
        reader = create_staff("reader", "view_agentuser", "read_transcript")
        self.client.force_login(reader)
        self.assertContains(self.client.get(self.page), "&lt;b&gt;secret")
        for setting in ({"SHOW_CONTENT": False}, {"REQUIRE_REASON": True}):
            settings = {f"AGENT_SESSIONS_{key}": on for key, on in setting.items()}
            with override_settings(**settings):
                self.assertNotContains(self.client.get(self.page), "secret")

    def test_an_address_cannot_ask_what_agents_know(self):
        self.client.force_login(create_staff("viewer", "view_agentuser"))
        for lookup in ("metadata__icontains", "metadata__plan__startswith"):
            response = self.client.get(self.list, {lookup: "<b>"})
            assert response.status_code == 400, lookup

    def test_nobody_writes_it_by_hand(self):
        root = User.objects.create(username="root", is_staff=True, is_superuser=True)
        self.client.force_login(root)
        add = reverse("admin:agent_sessions_agentuser_add")
        assert self.client.get(add).status_code == 403
        answer = self.client.post(self.page, {"metadata": "{}"})
        assert answer.status_code == 403
        assert store.read_user_metadata(self.alice) == {"plan": "<b>secret</b>"}
