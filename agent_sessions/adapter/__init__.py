from __future__ import annotations

from agent_sessions.adapter.session import DjangoSession as DjangoSession
