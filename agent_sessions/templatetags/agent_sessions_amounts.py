from __future__ import annotations

from django import template

from agent_sessions.amounts import spell_amount

register = template.Library()

register.filter("amount", spell_amount)
