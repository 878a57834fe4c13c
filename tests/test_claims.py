"""Tokens that take a visitor's session along to whoever logs in."""

from __future__ import annotations

from datetime import timedelta
from unittest import mock

from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.core import signing
from django.test import TestCase, override_settings
from django.utils import timezone

from agent_sessions import DjangoSession, store
from agent_sessions.exceptions import (
    InvalidClaimToken,
    InvalidUser,
    SessionGone,
    SessionOwnershipError,
)
from agent_sessions.models import AgentSession


class ClaimTokenTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.alice = User.objects.create(username="alice")
        cls.bob = User.objects.create(username="bob")

    def setUp(self):
        self.row = store.create_session(None, session_id="a visitor's")

    def assert_refused(self, token, user=None):
        with self.assertRaises(InvalidClaimToken) as caught:
            store.claim_with_token(token, user or self.alice)
        assert str(caught.exception) == (
            "The token is not valid, has expired, or was used."
        )
        assert caught.exception.__context__ is None or (
            caught.exception.__suppress_context__
        )

    def test_a_token_works_once(self):
        token = store.make_claim_token("a visitor's")
        row = store.claim_with_token(token, self.alice)
        assert (row.pk, row.user_id) == (self.row.pk, self.alice.pk)
        assert row.owned_at is not None
        self.assert_refused(token, self.alice)
        self.assert_refused(token, self.bob)
        # Nor after its owner is gone.
        self.alice.delete()
        self.assert_refused(token, self.bob)

    def test_of_two_tokens_one_works(self):
        first, second = (store.make_claim_token(self.row) for _ in range(2))
        store.claim_with_token(second, self.bob)
        self.assert_refused(first)
        assert AgentSession.objects.get().user_id == self.bob.pk

    def test_a_token_expires(self):
        token = store.make_claim_token(self.row, expires_in=timedelta(minutes=5))
        default = store.make_claim_token(self.row)
        for after, refused in ((301, token), (3601, default)):
            later = timezone.now() + timedelta(seconds=after)
            with mock.patch("django.utils.timezone.now", return_value=later):
                self.assert_refused(refused)
        store.claim_with_token(token, self.alice)

    def test_a_token_cannot_be_forged(self):
        token = store.make_claim_token(self.row)
        other = signing.dumps({"session": self.row.pk.hex, "until": 1e12})
        for forged in ("", "x", token[:-1], token + "x", other, "\0", "é:é:é"):
            self.assert_refused(forged)
        with override_settings(SECRET_KEY="another"):
            self.assert_refused(token)
        assert AgentSession.objects.get().user_id is None

    def test_a_token_does_not_tell_the_session_id(self):
        token = store.make_claim_token(self.row)
        payload = signing.b64_decode(token.split(":")[0].encode()).decode()
        assert "visitor" not in payload

    def test_a_session_that_goes_meanwhile_is_refused(self):
        token = store.make_claim_token(self.row)
        claim = mock.patch("agent_sessions.store.claims.claim_session")
        for error in (SessionGone, SessionOwnershipError):
            with claim as claim_session:
                claim_session.side_effect = error("too late")
                self.assert_refused(token)
        store.delete_session(self.row)
        self.assert_refused(token)

    def test_only_what_is_anonymous_has_tokens(self):
        hers = store.create_session(self.alice, session_id="hers")
        for session in (hers, "hers"):
            with self.assertRaises(SessionOwnershipError):
                store.make_claim_token(session)
        with self.assertRaises(SessionGone):
            store.make_claim_token("never was")
        self.alice.delete()
        hers.refresh_from_db()
        with self.assertRaises(SessionOwnershipError):
            store.make_claim_token(hers)

    def test_only_a_user_can_use_one(self):
        token = store.make_claim_token(self.row)
        with self.assertRaises(InvalidUser):
            store.claim_with_token(token, None)

    def test_the_adapter_makes_them(self):
        session = DjangoSession("a visitor's")
        token = async_to_sync(session.make_claim_token)(
            expires_in=timedelta(seconds=30)
        )
        assert store.claim_with_token(token, self.alice).pk == self.row.pk
