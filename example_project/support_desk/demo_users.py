from __future__ import annotations

from functools import partial

from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Permission, User
from django.db.models import Q

PASSWORDS = {"alice": "wonderland", "bob": "builder", "support": "helpdesk"}
STAFF = "support"
MAY = [
    "change_agentsession",
    "change_pendingapproval",
    "export_session",
    "read_transcript",
]


def create_demo_users() -> None:
    """Create who is missing; ``support`` is staff and may read what others said."""
    for username, password in PASSWORDS.items():
        defaults = {
            "is_staff": username == STAFF,
            "password": partial(make_password, password),
        }
        User.objects.get_or_create(username=username, defaults=defaults)
    helping = Q(codename__in=MAY) | Q(codename__startswith="view_")
    User.objects.get(username=STAFF).user_permissions.set(
        Permission.objects.filter(
            helping,
            content_type__app_label__in=["agent_sessions", "auth", "support_desk"],
        )
    )
