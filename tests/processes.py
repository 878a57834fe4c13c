"""Start real processes on the database of the running test."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from django.db import connections


def start(code: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Run Python ``code`` with Django set up; its output is text."""
    return subprocess.Popen(
        [sys.executable, "-c", f"import django; django.setup()\n{code}", *arguments],
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DATABASE_NAME": str(connections["default"].settings_dict["NAME"]),
            **environment,
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], **options: Any) -> str:
    """Wait for ``process`` and return what it printed; fail if it failed."""
    output, errors = process.communicate(timeout=options.pop("timeout", 60), **options)
    assert process.returncode == 0, errors
    return output
