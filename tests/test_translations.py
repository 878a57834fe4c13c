from __future__ import annotations

import gettext
import re
from pathlib import Path

from django.utils.translation import override

import agent_sessions
from agent_sessions.models import AgentSession

LOCALE = Path(agent_sessions.__file__).parent / "locale"


def test_the_models_speak_german():
    with override("de"):
        assert str(AgentSession._meta.verbose_name) == "Agentensitzung"
        field = AgentSession._meta.get_field("updated_at")
        assert str(field.verbose_name) == "letzte Aktivität"


def test_every_string_in_the_source_is_translated_and_compiled():
    strings = set()
    for path in LOCALE.parent.rglob("*.py"):
        strings |= set(re.findall(r'\b_\("([^"]+)"\)', path.read_text()))
    assert len(strings) > 25
    for path in LOCALE.glob("*/LC_MESSAGES/django.mo"):
        with path.open("rb") as file:
            catalog = gettext.GNUTranslations(file)._catalog
        assert strings - set(catalog) == set(), path
