"""
What happened to sessions, told after the commit and without any content.

Receivers get ``sender=AgentSession``, ``session`` (the row's UUID), ``session_id``,
``user_id`` and ``using`` (the database alias). ``items_added`` also has
``first_position`` and ``count``, ``session_rewound`` has ``before_turn`` and ``count``.
A receiver that raises is logged by Django and hinders
neither the write nor the other receivers.
"""

from __future__ import annotations

from django.dispatch import Signal

items_added = Signal()
session_claimed = Signal()
session_cleared = Signal()
session_created = Signal()
session_rewound = Signal()
