from __future__ import annotations

from agent_sessions.admin import accesses, erasures, sessions, users

__all__ = ["accesses", "erasures", "sessions", "users"]
