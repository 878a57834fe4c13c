from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import TransactionTestCase

from tests.processes import finish, start
from tests.projects.databases import empty_database

USER_MODELS = (
    "auth.User",
    "people.IntegerUser",
    "people.UUIDUser",
    "people.StringUser",
)


class ProjectTestCase(TransactionTestCase):
    def run_project(
        self, happening: Callable[..., None], *arguments: str, **environment: str
    ) -> None:
        """
        Call the function in a new project, which has two empty databases.

        ``environment`` is what tests.projects.settings asks for.
        """
        module, name = happening.__module__, happening.__name__
        with ExitStack() as stack:
            process = start(
                f"import sys; from {module} import {name}; {name}(*sys.argv[1:])",
                *arguments,
                DJANGO_SETTINGS_MODULE="tests.projects.settings",
                DATABASE_NAME=stack.enter_context(empty_database("one")),
                OTHER_DATABASE_NAME=stack.enter_context(empty_database("two")),
                **environment,
            )
            # Before its databases are dropped, however this ends.
            stack.callback(process.wait)
            stack.callback(process.kill)
            finish(process)


def set_up(alias: str = "default") -> None:
    """Do what the README tells a new project to do."""
    call_command("check", databases=[alias], fail_level="WARNING", verbosity=0)
    call_command("migrate", database=alias, verbosity=0)


def create_users(*emails: str) -> list[Any]:
    model = get_user_model()
    users = []
    for email in emails:
        user = model(**{"email": email, model.USERNAME_FIELD: email})
        if model.__name__ == "StringUser":
            user.pk = f"{email}/Ünïcode 1"
        user.save()
        users.append(user)
    return users


def say(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}
