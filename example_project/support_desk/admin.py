from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User

from agent_sessions.admin.users import AgentSessionsUserAdminMixin

admin.site.unregister(User)


@admin.register(User)
class DeskUserAdmin(AgentSessionsUserAdminMixin, UserAdmin):
    """Users, each with their latest sessions."""
