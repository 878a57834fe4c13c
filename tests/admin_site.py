"""An admin whose users have the mixin, as a project would write it."""

from __future__ import annotations

from django.contrib.admin.sites import AdminSite
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.urls import path

from agent_sessions.admin.accesses import SessionAccessAdmin
from agent_sessions.admin.sessions import AgentSessionAdmin
from agent_sessions.admin.users import AgentSessionsUserAdminMixin, AgentUserAdmin
from agent_sessions.models import AgentSession, AgentUser, SessionAccess


class ShopUserAdmin(AgentSessionsUserAdminMixin, UserAdmin):
    pass


site = AdminSite(name="admin")
site.register(User, ShopUserAdmin)
site.register(AgentSession, AgentSessionAdmin)
site.register(AgentUser, AgentUserAdmin)
site.register(SessionAccess, SessionAccessAdmin)
urlpatterns = [path("admin/", site.urls)]
