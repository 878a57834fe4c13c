from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from agent_sessions.adapter import DjangoSession
    from agent_sessions.models import AgentSession


class AgentSessionsConfig(AppConfig):
    name = "agent_sessions"
    verbose_name = _("Agent sessions")

    def ready(self) -> None:
        from agent_sessions import checks

        checks.register_checks()

    def sdk_session(self, row: AgentSession, **options: Any) -> DjangoSession:
        """Return what AgentSession.as_sdk_session() promises."""
        from agent_sessions.adapter import DjangoSession

        return DjangoSession.from_row(row, **options)
