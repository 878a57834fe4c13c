from __future__ import annotations

from agent_sessions.admin import accesses, sessions, users

__all__ = ["accesses", "sessions", "users"]
