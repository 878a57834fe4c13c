from __future__ import annotations

import json

from django.contrib.auth.models import User
from django.test import TestCase
from django.urls import reverse
from rest_framework.test import APIClient

from agent_sessions import store
from tests.projects.cases import say
from tests.test_access import create_staff

SESSIONS = "/api/sessions/"
ME = "/api/me/"
CLAIM = "/api/sessions/claim/"


def escaped(body):
    """Return how to send JSON with whatever is in it, half pairs too."""
    return {"data": json.dumps(body), "content_type": "application/json"}


def session_url(row, *more):
    return "/".join([f"{SESSIONS}{row.pk}", *map(str, more), ""])


class ApiTestCase(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.alice = User.objects.create(username="alice")
        cls.bob = User.objects.create(username="bob")
        cls.viewer = create_staff("viewer", "view_agentsession")
        cls.reader = create_staff("reader", "view_agentsession", "read_transcript")
        cls.hers = store.create_session(
            cls.alice, session_id="hers", title="Her order", metadata={"vip": True}
        )
        store.append_items(cls.hers, [say("my secret"), {"type": "reasoning"}])
        cls.hers.refresh_from_db()

    def client_of(self, user):
        """Return a client that is authenticated without any query."""
        client = APIClient()
        client.force_authenticate(user)
        return client

    def setUp(self):
        self.api = self.client_of(self.alice)

    def ids(self, response):
        assert response.status_code == 200, response.content
        return [row["session_id"] for row in response.json()["results"]]

    def assert_names(self, response, *names):
        """Assert that the answer is a 400 that names these fields."""
        assert response.status_code == 400, (response.status_code, response.content)
        assert sorted(response.json()) == sorted(names)


def route(name, **kwargs):
    return reverse(f"agent_sessions:{name}", kwargs=kwargs)
