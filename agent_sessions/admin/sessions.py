from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest

from agent_sessions.admin.actions import SessionActions
from agent_sessions.admin.reports import SessionReports
from agent_sessions.admin.session_list import SessionList
from agent_sessions.admin.transcripts import TranscriptAdmin
from agent_sessions.models import AgentSession


@admin.register(AgentSession)
class AgentSessionAdmin(  # type: ignore[misc]
    SessionList,
    SessionActions,
    SessionReports,
    TranscriptAdmin,
):
    def has_add_permission(self, request: HttpRequest) -> bool:
        # Sessions begin with what agents say, and nobody puts words into their mouths.
        return False
