from __future__ import annotations

import json

from django.contrib.auth import get_user_model
from django.test import TestCase

from agent_sessions import jsonlines, store
from agent_sessions.identifiers import uuid7
from agent_sessions.models import AgentSession, SessionItem
from tests.nasty import NASTY_ITEMS
from tests.projects.cases import say


class DumpTests(TestCase):
    def dump(self, *keys):
        lines = list(jsonlines.dump_sessions(keys, using="default"))
        assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)
        return [json.loads(line) for line in lines]

    def test_a_session_is_dumped_with_all_that_it_has(self):
        alice = get_user_model().objects.create(username="alice")
        row = store.create_session(alice, title="Zoë", metadata={"a": "é"})
        store.append_items(row, [say("hello")])
        row.refresh_from_db()
        header, session, item, end = self.dump(row.pk, uuid7())
        assert header == {"format": "agent_sessions", "version": 1}
        assert end == {"end": {"sessions": 1}}
        dumped = session["session"]
        columns = {field.name for field in AgentSession._meta.fields}
        # Who is at it just now is nothing to take along.
        columns -= {"lease", "leased_until"}
        assert set(dumped) == columns | {"username", "usage"}
        assert (dumped["id"], dumped["user"]) == (str(row.pk), str(alice.pk))
        assert (dumped["title"], dumped["metadata"]) == ("Zoë", {"a": "é"})
        assert dumped["updated_at"] == row.updated_at.isoformat()
        columns = {field.name for field in SessionItem._meta.fields} - {"session"}
        assert set(item["item"]) == columns
        assert item["item"]["data"] == say("hello")

    def test_items_are_dumped_to_the_letter(self):
        store.append_items("s", list(NASTY_ITEMS.values()))
        row = AgentSession.objects.get()
        _, _, *items, _ = self.dump(row.pk)
        assert repr([line["item"]["data"] for line in items]) == repr(
            list(NASTY_ITEMS.values())
        )

    def test_rows_that_json_would_change_are_dumped_as_text(self):
        odd = ['{"broken', "[1, 2]", '{"a":  1}', '{"a":1,"a":2}', '{"a":\n1e5}']
        store.append_items("s", [say("x")] * len(odd))
        row = AgentSession.objects.get()
        for position, text in enumerate(odd):
            row.items.filter(position=position).update(data=text)
        _, _, *items, _ = self.dump(row.pk)
        assert [line["item"]["data"] for line in items] == odd

    def test_long_sessions_are_read_page_by_page(self):
        store.append_items("long", [say(str(n)) for n in range(201)])
        store.append_items("short", [say("x")])
        rows = {row.session_id: row for row in AgentSession.objects.all()}
        with self.assertNumQueries(2 + 3 + 1):
            lines = self.dump(rows["long"].pk, rows["short"].pk)
        positions = [line["item"]["position"] for line in lines if "item" in line]
        assert positions == [*range(201), 0]
