"""
A project unlike the tests' own; the environment says how.

PROJECT_USERS names a user model of tests.projects.people, PROJECT_ROUTER a router of
tests.projects.routers. With PROJECT_WITHOUT_SDK the SDK is not installed, with
PROJECT_ADMIN the admin is.
"""

from __future__ import annotations

import os
import sys

from tests.projects.absence import Absence
from tests.settings import DATABASES as DATABASES

if "PROJECT_WITHOUT_SDK" in os.environ:
    sys.meta_path.insert(0, Absence("agents", "openai"))
if "OTHER_DATABASE_NAME" in os.environ:
    DATABASES["other"]["NAME"] = os.environ["OTHER_DATABASE_NAME"]
if "PROJECT_ROUTER" in os.environ:
    DATABASE_ROUTERS = [f"tests.projects.routers.{os.environ['PROJECT_ROUTER']}"]

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "tests.projects.people",
    "agent_sessions",
]
if "PROJECT_ADMIN" in os.environ:
    INSTALLED_APPS = ["django.contrib.admin", *INSTALLED_APPS]
AUTH_USER_MODEL = os.environ.get("PROJECT_USERS", "auth.User")
SECRET_KEY = "for tests only"
# The admin alone, as a part of the tests: nobody opens its pages.
SILENCED_SYSTEM_CHECKS = [
    f"admin.E{number}" for number in (403, 404, 406, 408, 409, 410)
]
USE_TZ = True
