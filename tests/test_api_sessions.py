"""Sessions over HTTP: whose they are, in which pages, and how they change."""

from __future__ import annotations

from datetime import timedelta
from unittest import mock
from uuid import UUID

from django.contrib.auth.models import User
from django.test import modify_settings, override_settings
from django.utils import timezone
from rest_framework.settings import api_settings
from rest_framework.throttling import ScopedRateThrottle

from agent_sessions import store
from agent_sessions.api.doors import Door
from agent_sessions.api.pagination import ORDERINGS
from agent_sessions.api.viewsets import SessionViewSet
from agent_sessions.exceptions import (
    InvalidUser,
    SessionLockTimeout,
    SessionOwnershipError,
)
from agent_sessions.identifiers import uuid7
from agent_sessions.models import AgentSession, AgentUser
from tests.api_cases import CLAIM, ME, SESSIONS, ApiTestCase, escaped, session_url
from tests.projects.cases import say


def joined(pages):
    return [session_id for page in pages for session_id in page]


class RepresentationTests(ApiTestCase):
    def test_a_session_is_shown_without_its_items(self):
        shown = self.api.get(session_url(self.hers)).json()
        times = {name: shown.pop(name) for name in ("created_at", "updated_at")}
        assert all(times.values())
        assert shown == {
            "id": str(self.hers.pk),
            "session_id": "hers",
            "user": str(self.alice.pk),
            "title": "Her order",
            "preview": "my secret",
            "metadata": {"vip": True},
            "archived": False,
            "archived_at": None,
            "revision": 0,
            "item_count": 2,
            "turn_count": 1,
            "forked_from": None,
            "forked_at": None,
        }

    def test_nothing_is_left_in_caches(self):
        anonymous = self.client_class()
        for response in (
            self.api.get(SESSIONS),
            self.api.get(session_url(self.hers)),
            self.api.get(session_url(self.hers, "items")),
            self.api.get(session_url(self.hers, "export")),
            self.api.get(session_url(self.hers, "turns")),
            self.api.get(session_url(self.hers, "usage")),
            self.api.post(session_url(self.hers, "fork")),
            self.api.post(session_url(self.hers, "rewind")),
            self.api.get("/api/usage/"),
            self.api.get(ME),
            self.api.get(SESSIONS + "?bad=1"),
            anonymous.get(SESSIONS),
        ):
            assert response["Cache-Control"] == "private, no-store"

    def test_foreign_and_unknown_ids_are_told_apart_by_nothing(self):
        bob = self.client_of(self.bob)
        orphan = store.create_session(User.objects.create(username="gone"))
        orphan.user.delete()
        others = [self.hers.pk, orphan.pk, store.create_session(None).pk, uuid7()]
        for call, path, data in (
            (bob.get, "", None),
            (bob.patch, "", {"title": "mine"}),
            (bob.patch, "", {"title": 5}),
            (bob.delete, "", None),
            (bob.get, "items/", None),
            (bob.get, "items/0/", None),
            (bob.post, "clear/", {}),
            (bob.get, "transcript/", None),
            (bob.get, "export/", None),
            (bob.get, "turns/", None),
            (bob.get, "turns/?search=secret", None),
            (bob.get, "usage/", None),
            (bob.post, "rewind/", {"before_turn": 1}),
            (bob.post, "rewind/", {"before_turn": "x"}),
            (bob.post, "fork/", {}),
        ):
            answers = []
            for pk in others:
                with self.assertNumQueries(1) as queries:
                    response = call(f"{SESSIONS}{pk}/{path}", data, format="json")
                (query,) = queries.captured_queries
                sql = query["sql"].replace(pk.hex, "?").replace(str(pk), "?")
                answers.append((response.status_code, response.content, sql))
            assert len(set(answers)) == 1, answers
            assert answers[0][:2] == (404, b'{"detail":"Not found."}')
        assert AgentSession.objects.get(pk=self.hers.pk).title == "Her order"


class ListTests(ApiTestCase):
    def test_a_list_holds_the_callers_sessions_alone(self):
        store.create_session(self.bob, session_id="his")
        store.create_session(None, session_id="nobody's")
        for user, ids in ((self.alice, ["hers"]), (self.bob, ["his"])):
            assert self.ids(self.client_of(user).get(SESSIONS)) == ids

    def create(self, count, **values):
        now = timezone.now()
        rows = [
            AgentSession(
                session_id=f"s{number:03}",
                user=self.bob,
                owned_at=now,
                # Many of the same moment, as after an import.
                updated_at=now - timedelta(seconds=number // 10),
                created_at=now + timedelta(seconds=number // 7),
                **values,
            )
            for number in range(count)
        ]
        AgentSession.objects.bulk_create(rows)

    def walk(self, url, link="next"):
        pages, client = [], self.client_of(self.bob)
        while url:
            response = client.get(url)
            pages.append(self.ids(response))
            url = response.json()[link]
            last = response
        return pages, last

    def test_pages_neither_skip_nor_repeat(self):
        self.create(57)
        everything = list(
            AgentSession.objects.for_user(self.bob)
            .newest_first()
            .values_list("session_id", flat=True)
        )
        pages, last = self.walk(SESSIONS)
        assert [len(page) for page in pages] == [20, 20, 17]
        assert joined(pages) == everything
        back, first = self.walk(last.json()["previous"], "previous")
        assert joined(reversed(back)) == everything[:40]
        assert self.walk(first.json()["next"])[0][0] == everything[20:40]

    def test_every_order_is_whole_in_both_directions(self):
        self.create(31)
        orders = [o for o in ORDERINGS if o not in ("position", "turn")]
        for ordering in [*orders, *(f"-{order}" for order in orders)]:
            sign, name = ("-", ordering[1:]) if ordering[0] == "-" else ("", ordering)
            expected = list(
                AgentSession.objects.for_user(self.bob)
                .order_by(ordering, f"{sign}id")
                .values_list("session_id", flat=True)
            )
            assert name in ORDERINGS
            pages, _ = self.walk(f"{SESSIONS}?ordering={ordering}&limit=7")
            assert joined(pages) == expected

    def test_a_page_costs_one_query_however_many_there_are(self):
        self.create(5)
        client = self.client_of(self.bob)
        with self.assertNumQueries(1):
            client.get(SESSIONS)
        AgentSession.objects.for_user(self.bob).delete()
        self.create(250)
        with self.assertNumQueries(1):
            response = client.get(SESSIONS + "?limit=100")
        assert len(response.json()["results"]) == 100
        with self.assertNumQueries(1):
            client.get(response.json()["next"])

    def test_filters_narrow_the_list(self):
        his = store.create_session(
            self.bob,
            session_id="orders/1",
            title="Größe der Lampe",
            metadata={"channel": "web", "level": 3, "vip": True, "a.b": "dot"},
        )
        other = store.create_session(
            self.bob, session_id="other", title="100% fine_", metadata={"level": "3"}
        )
        store.append_items(other, [say("preview words")])
        store.update_session(his, archived=True)
        AgentSession.objects.filter(pk=his.pk).update(
            created_at="2026-01-01T00:00:00Z", updated_at="2026-01-05T00:00:00Z"
        )
        client = self.client_of(self.bob)
        for query, expected in {
            "": ["other", "orders/1"],
            "search=größe": ["orders/1"],
            "search=PREVIEW": ["other"],
            "search=100%25": ["other"],
            "search=%25": ["other"],
            "search=fine_": ["other"],
            "search=e_": ["other"],
            "search=": ["other", "orders/1"],
            "search=nothing": [],
            "archived=true": ["orders/1"],
            "archived=false": ["other"],
            "session_id=orders/1": ["orders/1"],
            "session_id=ORDERS/1": [],
            "created_before=2026-01-02": ["orders/1"],
            "created_before=2026-01-01T00:00:01Z": ["orders/1"],
            "created_after=2026-01-01T00:00:01Z": ["other"],
            "updated_after=2026-01-06T00:00:00Z": ["other"],
            "updated_before=2026-01-06T00:00:00Z": ["orders/1"],
            "updated_before=2026-01-05T00:00:00Z": [],
            "metadata.channel=web": ["orders/1"],
            "metadata.channel=WEB": [],
            "metadata.level=3": ["other", "orders/1"],
            "metadata.vip=true": ["orders/1"],
            "metadata.vip=True": [],
            "metadata.level=3&metadata.vip=true": ["orders/1"],
            "metadata.nothing=1": [],
            "metadata.level__gt=1": [],
            "metadata.channel=1e999": [],
            "metadata.channel=" + "9" * 150: [],
        }.items():
            assert self.ids(client.get(f"{SESSIONS}?{query}")) == expected, query

    def test_keys_of_metadata_may_be_in_any_script(self):
        store.create_session(
            self.bob, session_id="s", metadata={"größe": "L", "名-1": "x"}
        )
        client = self.client_of(self.bob)
        assert self.ids(client.get(SESSIONS, {"metadata.größe": "L"})) == ["s"]
        assert self.ids(client.get(SESSIONS, {"metadata.名-1": "x"})) == ["s"]

    def test_every_bad_parameter_is_named(self):
        for query, name in {
            "limit=0": "limit",
            "limit=101": "limit",
            "limit=ten": "limit",
            "limit=" + "9" * 5000: "limit",
            "archived=1": "archived",
            "archived=": "archived",
            "archived=True": "archived",
            "ordering=title": "ordering",
            "ordering=user__password": "ordering",
            "ordering=-updated_at,id": "ordering",
            "created_after=yesterday": "created_after",
            "created_after=0001-01-01T00:00:00Z": "created_after",
            "created_after=9999-12-31T23:59:59-12:00": "created_after",
            "updated_before=2026-13-01T00:00:00Z": "updated_before",
            "search=a%00b": "search",
            "search=" + "x" * 201: "search",
            "session_id=%00": "session_id",
            "cursor=x": "cursor",
            "cursor=W10": "cursor",
            "cursor=%ff": "cursor",
            "cursor=é": "cursor",
            "scope=mine": "scope",
            "page=2": "page",
            "offset=5": "offset",
            "user=1": "user",
            "user__password__startswith=p": "user__password__startswith",
            "archived=true&archived=false": "archived",
            "metadata.=x": "metadata.",
            "metadata.0=x": "metadata.0",
            "metadata.a.b=x": "metadata.a.b",
            "metadata.a%27=x": "metadata.a'",
            'metadata.a"=x': 'metadata.a"',
            "metadata.a%00=x": "...",
            "metadata.a=%00": "metadata.a",
            "metadata.a=" + "x" * 201: "metadata.a",
            "%00=1": "...",
            "x" * 100 + "=1": "...",
        }.items():
            self.assert_names(self.api.get(f"{SESSIONS}?{query}"), name)
        many = "&".join(f"metadata.k{number}=1" for number in range(6))
        self.assert_names(self.api.get(f"{SESSIONS}?{many}"), "metadata.k5")

    def test_a_cursor_is_of_use_only_in_its_own_order(self):
        self.create(3)
        client = self.client_of(self.bob)
        following = client.get(SESSIONS + "?limit=1").json()["next"]
        assert client.get(following).status_code == 200
        self.assert_names(client.get(following + "&ordering=created_at"), "cursor")

    def test_a_cursor_does_not_reach_into_anothers_list(self):
        self.create(3)
        following = self.client_of(self.bob).get(SESSIONS + "?limit=1").json()["next"]
        assert "hers" not in following
        assert set(self.ids(self.api.get(following))) <= {"hers"}

    def test_drfs_own_format_is_left_to_drf(self):
        assert self.ids(self.api.get(SESSIONS + "?format=json")) == ["hers"]
        assert self.api.get(SESSIONS + "?format=xml").status_code == 404


class CreateTests(ApiTestCase):
    def test_a_session_is_created_where_location_says(self):
        response = self.api.post(
            SESSIONS, {"title": "New", "metadata": {"a": [1]}}, format="json"
        )
        assert response.status_code == 201
        row = AgentSession.objects.get(title="New")
        assert row.user == self.alice and row.metadata == {"a": [1]}
        assert response["Location"] == f"http://testserver{session_url(row)}"
        assert response["ETag"] == '"0"'
        assert self.api.get(response["Location"]).json() == response.json()
        assert UUID(row.session_id).version == 4

    @override_settings(AGENT_SESSIONS_MAX_SESSIONS=2)
    def test_a_user_has_no_more_sessions_than_are_allowed(self):
        assert self.api.post(SESSIONS).status_code == 201
        response = self.api.post(SESSIONS)
        assert response.status_code == 403
        assert response.json()["code"] == "too_many_sessions"
        assert AgentSession.objects.for_user(self.alice).count() == 2

    def test_nothing_needs_to_be_given(self):
        for body in ({"format": "json"}, {}):
            response = (
                self.api.post(SESSIONS, {}, **body)
                if body
                else (self.api.post(SESSIONS))
            )
            assert response.status_code == 201, response.content

    def test_ids_are_made_by_the_server(self):
        response = self.api.post(SESSIONS, {"session_id": "x"}, format="json")
        self.assert_names(response, "session_id")

    def test_a_taken_id_does_not_tell_by_whom(self):
        store.create_session(self.bob, session_id="his")
        store.create_session(None, session_id="nobody's")
        with override_settings(AGENT_SESSIONS_API_CLIENT_IDS=True):
            response = self.api.post(SESSIONS, {"session_id": "x/1"}, format="json")
            assert response.json()["session_id"] == "x/1"
            answers = {
                self.api.post(SESSIONS, {"session_id": taken}, format="json").content
                for taken in ("x/1", "his", "nobody's")
            }
            assert answers == {b'{"session_id":["This session id is taken."]}'}
            for bad in ("", " x", "x" * 256, "a\nb", "\ud800", 5, None):
                self.assert_names(
                    self.api.post(SESSIONS, **escaped({"session_id": bad})),
                    "session_id",
                )

    def test_options_say_what_can_be_sent(self):
        below = ("", "items/", "turns/", "usage/", "rewind/", "fork/")
        for path in ("", *(f"{self.hers.pk}/{path}" for path in below)):
            response = self.api.options(SESSIONS + path)
            assert response.status_code == 200
            assert "Her order" not in response.content.decode()


class ChangeTests(ApiTestCase):
    def patch(self, changes, user=None, **headers):
        client = self.client_of(user or self.alice)
        return client.patch(session_url(self.hers), **escaped(changes), headers=headers)

    def test_what_is_named_changes(self):
        response = self.patch({"title": "Renamed"})
        assert response.status_code == 200
        assert response.json()["title"] == "Renamed"
        assert response.json()["metadata"] == {"vip": True}
        assert response["ETag"] == '"1"'
        response = self.patch({"archived": True, "metadata": {"vip": None, "a": {}}})
        assert response.json()["archived"] is True
        assert response.json()["archived_at"] is not None
        assert response.json()["metadata"] == {"a": {}}
        assert self.patch({"archived": False}).json()["archived_at"] is None
        assert self.api.get(session_url(self.hers)).json()["revision"] == 3

    def test_a_merge_patch_has_a_type_of_its_own(self):
        response = self.api.patch(
            session_url(self.hers),
            '{"metadata": {"a": 1}}',
            content_type="application/merge-patch+json",
        )
        assert response.json()["metadata"] == {"vip": True, "a": 1}

    def test_a_change_from_an_old_revision_is_refused(self):
        assert self.patch({"title": "1"}, **{"If-Match": '"0"'}).status_code == 200
        for stale in ('"0"', '"0", "7"', '"01x"', "nonsense", "", 'W/"0"'):
            response = self.patch({"title": "2"}, **{"If-Match": stale})
            assert response.status_code == 412, stale
            assert response.json() == {
                "detail": "The session was changed since it was read."
            }
        assert self.patch({}, **{"If-Match": '"0"'}).status_code == 412
        for fresh in ('"1"', 'W/"2"', '"9", "3"', "*"):
            response = self.patch({"title": "3"}, **{"If-Match": fresh})
            assert response.status_code == 200, fresh

    def test_an_append_of_the_agents_is_no_change(self):
        etag = self.api.get(session_url(self.hers))["ETag"]
        store.append_items(self.hers, [say("more")])
        assert self.api.get(session_url(self.hers))["ETag"] == etag
        assert self.patch({"title": "x"}, **{"If-Match": etag}).status_code == 200

    def test_the_revision_is_checked_under_the_lock(self):
        find = SessionViewSet.find_session

        def find_and_wait(view, pk):
            row = find(view, pk)
            store.update_session(row, title="meanwhile", metadata={"b": 2})
            return row

        with mock.patch.object(SessionViewSet, "find_session", find_and_wait):
            response = self.patch({"title": "late"}, **{"If-Match": '"0"'})
            assert response.status_code == 412
            response = self.patch({"metadata": {"c": 3}})
        assert response.json()["metadata"] == {"b": 2, "c": 3}
        assert response.json()["title"] == "meanwhile"

    def test_who_lost_the_session_meanwhile_finds_none(self):
        for error, status in (
            (SessionOwnershipError("no"), 404),
            (SessionLockTimeout("no"), 503),
            (InvalidUser("no"), 403),
        ):
            with mock.patch.object(store, "update_session", side_effect=error):
                response = self.patch({"title": "x"})
            assert response.status_code == status

    def test_bad_values_are_named(self):
        for changes, name in (
            ({"title": "x" * 201}, "title"),
            ({"title": "a\0b"}, "title"),
            ({"title": "a\nb"}, "title"),
            ({"title": "\ud800"}, "title"),
            ({"title": None}, "title"),
            ({"title": 5}, "title"),
            ({"title": ["x"]}, "title"),
            ({"archived": "true"}, "archived"),
            ({"archived": 1}, "archived"),
            ({"archived": None}, "archived"),
            ({"metadata": None}, "metadata"),
            ({"metadata": []}, "metadata"),
            ({"metadata": {"a": "\0"}}, "metadata"),
            ({"metadata": {"\0": 1}}, "metadata"),
            ({"metadata": {"\ud800": 1}}, "metadata"),
            ({"metadata": {"a": "x" * 20_000}}, "metadata"),
            ({"metadata": {str(number): 1 for number in range(300)}}, "metadata"),
            ({"revision": 7}, "revision"),
            ({"\ud800": 7}, "..."),
            ({"a\0": 7}, "..."),
        ):
            self.assert_names(self.patch(changes), name)
        self.assert_names(self.patch([]), "non_field_errors")
        self.hers.refresh_from_db()
        assert self.hers.revision == 0

    def test_a_patch_may_not_make_metadata_too_large(self):
        for number, status in ((1, 200), (2, 400)):
            response = self.patch({"metadata": {f"k{number}": "x" * 9000}})
            assert response.status_code == status
        self.assert_names(response, "metadata")

    def test_a_session_is_deleted_with_its_items(self):
        assert (
            self.api.delete(
                session_url(self.hers), headers={"If-Match": '"3"'}
            ).status_code
            == 412
        )
        response = self.api.delete(session_url(self.hers), headers={"If-Match": '"0"'})
        assert (response.status_code, response.content) == (204, b"")
        assert not AgentSession.objects.filter(pk=self.hers.pk).exists()
        assert self.api.delete(session_url(self.hers)).status_code == 404

    def test_a_cleared_session_stays(self):
        response = self.api.post(session_url(self.hers, "clear"))
        assert (response.status_code, response.content) == (204, b"")
        shown = self.api.get(session_url(self.hers)).json()
        assert (shown["item_count"], shown["title"]) == (0, "Her order")


class ClaimTests(ApiTestCase):
    def claim(self, token, user=None):
        client = self.client_of(user or self.alice)
        return client.post(CLAIM, **escaped({"token": token}))

    def test_a_token_makes_the_session_the_callers_once(self):
        row = store.create_session(None, session_id="visitor")
        token = store.make_claim_token(row)
        response = self.claim(token)
        assert response.status_code == 200
        assert response.json()["id"] == str(row.pk)
        assert self.api.get(session_url(row)).status_code == 200
        for user in (self.alice, self.bob):
            self.assert_names(self.claim(token, user), "token")

    def test_bad_tokens_are_all_answered_alike(self):
        row = store.create_session(None)
        used = store.make_claim_token(row)
        expired = store.make_claim_token(row, expires_in=timedelta(seconds=-1))
        assert self.claim(used, self.bob).status_code == 200
        answers = {self.claim(t).content for t in (used, expired, used + "x", "x:y:z")}
        assert answers == {
            b'{"token":["The token is not valid, has expired, or was used."]}'
        }
        for bad in ("", None, 5, "x" * 501, "a\0", "\ud800"):
            self.assert_names(self.claim(bad), "token")
        self.assert_names(self.api.post(CLAIM, {}, format="json"), "token")


class MeTests(ApiTestCase):
    def test_metadata_of_the_caller_is_patched(self):
        assert self.api.get(ME).json() == {"metadata": {}}
        assert not AgentUser.objects.exists()
        for patch in (
            {"name": "Ann", "plan": {"tier": "pro"}},
            {"plan": {"since": 2026}},
            {"name": None},
        ):
            response = self.api.patch(ME, {"metadata": patch}, format="json")
            assert response.status_code == 200
        whole = {"metadata": {"plan": {"tier": "pro", "since": 2026}}}
        assert response.json() == self.api.get(ME).json() == whole
        assert self.api.patch(ME, {}, format="json").json() == whole
        assert self.client_of(self.bob).get(ME).json() == {"metadata": {}}

    def test_bad_values_are_named(self):
        for body, name in (
            ({"metadata": []}, "metadata"),
            ({"metadata": None}, "metadata"),
            ({"user": 1}, "user"),
            ({"metadata": {"a": "x" * 20_000}}, "metadata"),
        ):
            self.assert_names(self.api.patch(ME, body, format="json"), name)
        for part in ("a", "b"):
            response = self.api.patch(
                ME, {"metadata": {part: "x" * 9000}}, format="json"
            )
        self.assert_names(response, "metadata")

    def test_reading_costs_one_query(self):
        with self.assertNumQueries(1):
            self.api.get(ME)


class ProjectTests(ApiTestCase):
    """What the project has set for all of its API."""

    def test_a_project_without_rates_is_not_throttled(self):
        with mock.patch.object(Door, "throttle_classes", [ScopedRateThrottle]):
            assert self.api.get(SESSIONS).status_code == 200

    def test_a_project_with_a_rate_is_throttled(self):
        rates = {"agent_sessions": "2/day"}
        with (
            mock.patch.object(Door, "throttle_classes", [ScopedRateThrottle]),
            mock.patch.object(ScopedRateThrottle, "THROTTLE_RATES", rates),
            mock.patch.object(api_settings, "DEFAULT_THROTTLE_RATES", rates),
        ):
            statuses = [self.api.get(SESSIONS).status_code for _ in range(3)]
        assert statuses == [200, 200, 429]

    def test_pages_for_people_open(self):
        below = ("", "items/", "turns/", "usage/", "rewind/", "fork/")
        for path in ("", *(f"{self.hers.pk}/{path}" for path in below)):
            for query in ("", "?bad=1", "?limit=1"):
                response = self.api.get(
                    f"{SESSIONS}{path}{query}", headers={"Accept": "text/html"}
                )
                assert response["Content-Type"].startswith("text/html")
                assert response["Cache-Control"] == "private, no-store"
        for url in (ME, "/api/usage/"):
            assert self.api.get(url, headers={"Accept": "text/html"}).status_code == 200

    def test_a_project_without_the_pages_answers_browsers_in_json(self):
        browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
        with modify_settings(INSTALLED_APPS={"remove": ["rest_framework"]}):
            response = self.api.get(SESSIONS, headers=browser)
            refused = self.api.get(f"{SESSIONS}?bad=1", headers=browser)
        assert response["Content-Type"] == "application/json"
        assert self.ids(response) == ["hers"]
        self.assert_names(refused, "bad")
