"""The wheel has all that the package needs, and a new project runs on it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from zipfile import ZipFile

from django.test import SimpleTestCase

from tests.catalogs import LANGUAGES

ROOT = Path(__file__).parent.parent

CONVERSATION = """
import asyncio
from pathlib import Path

import agent_sessions
from agent_sessions import DjangoSession, store
from django.contrib.auth import get_user_model

assert Path(agent_sessions.__file__).is_relative_to({packages!r})
user = get_user_model().objects.create_user("alice")
hello = {{"role": "user", "content": "hello"}}
store.append_items("support", [hello], user=user)


async def main():
    session = DjangoSession("support", user=user)
    await session.add_items([{{"role": "assistant", "content": "hi"}}])
    print(len(await session.get_items()))


asyncio.run(main())
"""


def run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tracked_files() -> set[str]:
    """Return the package's files that are under version control."""
    files = run("git", "ls-files", "-z", "agent_sessions", cwd=ROOT)
    return set(files.rstrip("\0").split("\0"))


class WheelTests(SimpleTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name).resolve()
        build = (sys.executable, "-m", "build", "--wheel", "--no-isolation")
        run(*build, "--outdir", folder.name, cwd=ROOT)
        (cls.wheel,) = cls.folder.glob("*.whl")
        cls.names = set(ZipFile(cls.wheel).namelist())

    def test_every_file_of_the_package_is_inside(self):
        tracked = tracked_files()
        assert "agent_sessions/py.typed" in tracked
        assert "agent_sessions/migrations/0001_initial.py" in tracked
        assert tracked - self.names == set()

    def test_the_catalogs_are_inside(self):
        for language in LANGUAGES:
            catalog = f"agent_sessions/locale/{language}/LC_MESSAGES/django"
            assert {f"{catalog}.po", f"{catalog}.mo"} <= self.names

    def test_nothing_else_is_inside(self):
        top = {name.split("/")[0] for name in self.names}
        top.remove("agent_sessions")
        (info,) = top
        assert info.endswith(".dist-info")
        assert {f"{info}/METADATA", f"{info}/licenses/LICENSE"} <= self.names

    def test_a_new_project_runs_on_it(self):
        packages, project = self.folder / "packages", self.folder / "project"
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install")
        target = ("--no-deps", "--no-index", "--target", str(packages))
        run(*pip, *target, str(self.wheel), cwd=self.folder)
        project.mkdir()
        admin = (sys.executable, "-m", "django", "startproject", "shop", str(project))
        run(*admin, cwd=self.folder, DJANGO_SETTINGS_MODULE="")
        with (project / "shop" / "settings.py").open("a") as settings:
            settings.write('INSTALLED_APPS += ["agent_sessions"]\n')
        environment = {
            "DJANGO_SETTINGS_MODULE": "shop.settings",
            "PYTHONPATH": str(packages),
        }
        manage = (sys.executable, "manage.py")
        run(*manage, "check", "--fail-level", "WARNING", cwd=project, **environment)
        run(*manage, "migrate", cwd=project, **environment)
        code = CONVERSATION.format(packages=str(packages))
        answer = run(*manage, "shell", "-c", code, cwd=project, **environment)
        assert answer.splitlines()[-1] == "2"
