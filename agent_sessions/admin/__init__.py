from __future__ import annotations

from agent_sessions.admin import accesses, sessions

__all__ = ["accesses", "sessions"]
