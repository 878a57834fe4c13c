from __future__ import annotations

import json
import tempfile
from pathlib import Path

from django.db import connection
from django.test import TransactionTestCase

from agent_sessions.models import AgentSession
from tests.benchmark.importing import run
from tests.sources import write_rows

ITEMS = 1_200


class MemoryTests(TransactionTestCase):
    def test_a_session_of_images_and_many_sessions_are_never_held_at_once(self):
        image = json.dumps({"role": "user", "content": "x" * 100_000})
        sessions = {f"s{number}": [image] for number in range(ITEMS)}
        with tempfile.TemporaryDirectory() as folder:
            for name, given in (("one", {"one": [image] * ITEMS}), ("many", sessions)):
                path = Path(folder) / f"{name}.db"
                write_rows(path, given)
                # Written, and then compared.
                for expected in (ITEMS, 0):
                    items, _, _, before, after = run(
                        path, connection.settings_dict["NAME"]
                    )
                    assert items == expected
                    # Megabytes, of the 120 that there are.
                    assert after - before < 60, name
        assert AgentSession.objects.count() == ITEMS + 1
