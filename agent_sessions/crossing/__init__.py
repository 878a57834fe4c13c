"""
From async code to the synchronous store, once a call, on the right thread.

A request, a sync view or a test has a thread of its own, whose connection and
transaction the call must share: asgiref knows it. A bare event loop (a worker, a
script) has none; there asgiref would put every session of the process on one thread and
one connection, so a few threads of ours serve it.
"""

from __future__ import annotations

from agent_sessions.crossing.hop import cross as cross
from agent_sessions.crossing.pool import close_connections as close_connections
