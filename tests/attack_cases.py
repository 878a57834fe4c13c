"""What the tests of attacks share."""

from __future__ import annotations

import json

from django.db import transaction
from django.urls import resolve
from rest_framework.test import APIRequestFactory, force_authenticate

from agent_sessions.api.viewsets import SessionViewSet
from agent_sessions.models import AgentSession
from tests.api_cases import ApiTestCase


class FindsEverybodys(SessionViewSet):
    def get_queryset(self):
        return AgentSession.objects.all()


class AttackCase(ApiTestCase):
    def call(self, view, verb, route, user, body=None, query="", *, url=None, **more):
        """Call one action of a view as a user, or as a browser with their cookie."""
        kwargs = url or {}
        content_type = more.pop("content_type", "application/json")
        cookie = more.pop("cookie", False)
        factory = APIRequestFactory(enforce_csrf_checks=cookie)
        data = body if isinstance(body, str | bytes) else json.dumps(body or {})
        sent = {} if verb == "get" else {"data": data, "content_type": content_type}
        request = getattr(factory, verb)(f"/x/?{query}", **sent, **more)
        request.resolver_match = resolve("/api/sessions/")
        if cookie:
            request.user = user
        else:
            force_authenticate(request, user)
        response = view.as_view({verb: route}, basename="session")(request, **kwargs)
        if hasattr(response, "render"):
            response.render()
        return response

    def assert_only_careless(self, attack, careful, careless):
        """Assert that the attack succeeds on the careless copy alone."""
        outcomes = []
        for view in (careful, careless):
            with transaction.atomic():
                outcomes.append(bool(attack(view)))
                transaction.set_rollback(True)
        assert outcomes == [False, True]
