"""What the tests of imports have in common."""

from __future__ import annotations

import tempfile
from io import StringIO
from pathlib import Path

from django.core.management import call_command
from django.core.management.base import CommandError

from agent_sessions.importers.opening import open_source
from agent_sessions.imports import import_sessions
from agent_sessions.models import AgentSession, SessionItem


class ImportCase:
    def setUp(self):
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self.path = Path(folder) / "source.db"

    def run_import(self, *arguments, source=None):
        output = StringIO()
        call_command(
            "import_agent_sessions",
            str(source or self.path),
            *arguments,
            stdout=output,
            stderr=StringIO(),
        )
        return output.getvalue()

    def assert_fails(self, *arguments, source=None, saying=""):
        with self.assertRaisesMessage(CommandError, saying) as caught:
            self.run_import(*arguments, source=source)
        assert "secret" not in str(caught.exception)
        return str(caught.exception)

    def outcomes(self, **options):
        return list(import_sessions(open_source(str(self.path)), **options))


def snapshot():
    return (
        list(AgentSession.objects.order_by("session_id").values()),
        list(SessionItem.objects.order_by("session_id", "position").values()),
    )
