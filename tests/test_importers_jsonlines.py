from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from io import StringIO

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import TestCase

from agent_sessions import store
from agent_sessions.exceptions import InvalidSource
from agent_sessions.importers.opening import open_source
from agent_sessions.models import AgentSession
from agent_sessions.outcomes import Kind
from agent_sessions.usage import TokenUsage
from tests.imports import ImportCase
from tests.nasty import NASTY_ITEMS

User = get_user_model()


# Columns that came later.
NEWER = r'"(rewound_before|forked_from|forked_at)":("[^"]*"|\w+),'


class JSONLinesTests(ImportCase, TestCase):
    databases = {"default", "other"}

    def setUp(self):
        super().setUp()
        self.ann = User.objects.create(username="ann")
        owned = store.create_session(
            self.ann, session_id="owned", title="Zoë", metadata={"a": [1e16, "é"]}
        )
        store.append_items(owned, list(NASTY_ITEMS.values()))
        store.pop_item(owned)
        store.replace_tail(owned, [17, 18], [{"role": "user", "content": "sum"}])
        store.update_session(owned, archived=True)
        row = store.create_session(None, session_id="visitor")
        used = TokenUsage(1, 10, 0, 5, 0, 15)
        store.append_items(row, [{"role": "user", "content": "x"}] * 4, usage=used)
        store.rewind_session(row, before_turn=4)
        AgentSession.objects.filter(pk=row.pk).update(
            forked_from=owned.pk, forked_at=owned.created_at
        )
        row.items.filter(position=1).update(data='{"broken')
        store.create_session(self.ann, session_id="orphan")
        AgentSession.objects.filter(session_id="orphan").update(user=None)

    def export(self, name="first", *arguments):
        path = self.path.with_name(f"{name}.jsonl")
        call_command(
            "export_agent_sessions",
            "--output",
            str(path),
            *arguments,
            stderr=StringIO(),
        )
        return path

    def test_export_import_export_gives_the_same_bytes(self):
        path = self.export()
        AgentSession.objects.all().delete()
        assert "3 imported" in self.run_import(source=path)
        assert store.get_usage_by_turn("visitor") == {4: TokenUsage(1, 10, 0, 5, 0, 15)}
        assert self.export("second").read_bytes() == path.read_bytes()
        assert "3 already there" in self.run_import(source=path)
        assert self.export("third").read_bytes() == path.read_bytes()

    def test_a_project_without_time_zones_says_in_which_its_times_are(self):
        with self.settings(USE_TZ=False, TIME_ZONE="Asia/Tokyo"):
            path = self.export()
            AgentSession.objects.all().delete()
            assert "3 imported" in self.run_import(source=path)
            assert self.export("second").read_bytes() == path.read_bytes()
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines[1:-1]:
            values = line.get("session") or line["item"]
            assert values["created_at"].endswith("+09:00")

    def test_gaps_between_positions_are_kept(self):
        row = AgentSession.objects.get(session_id="visitor")
        rows = AgentSession.objects.filter(pk=row.pk)
        rows.update(next_position=2**31 - 1)
        row.items.filter(position=2).update(position=2**31 - 2)
        path = self.export()
        AgentSession.objects.all().delete()
        self.run_import(source=path)
        assert self.export("second").read_bytes() == path.read_bytes()
        assert "3 already there" in self.run_import(source=path)

    def test_an_export_from_before_there_were_rewinds_is_read(self):
        path = self.export()
        AgentSession.objects.all().delete()
        path.write_text(re.sub(NEWER, "", path.read_text()))
        assert "3 imported" in self.run_import(source=path)
        assert not AgentSession.objects.exclude(rewound_before=0).exists()

    def test_another_database_gets_the_same(self):
        path = self.export()
        User.objects.using("other").create(pk=self.ann.pk, username="ann")
        self.run_import("--database", "other", source=path)
        other = self.export("other", "--database", "other")
        assert other.read_bytes() == path.read_bytes()

    def test_owners_are_found_by_their_user_name(self):
        path = self.export()
        AgentSession.objects.all().delete()
        self.ann.delete()
        ann = User.objects.create(username="ann")
        self.run_import(source=path)
        assert AgentSession.objects.for_user(ann).get().session_id == "owned"
        assert AgentSession.objects.orphaned().get().session_id == "orphan"

    def test_a_session_of_somebody_unknown_stays_out(self):
        path = self.export()
        AgentSession.objects.all().delete()
        self.ann.delete()
        self.assert_fails(source=path, saying="2 imported, 1 refused")
        assert not AgentSession.objects.filter(session_id="owned").exists()

    def test_a_copy_has_keys_of_its_own(self):
        path = self.export()
        store.append_items("visitor", [{"content": "here"}])
        AgentSession.objects.filter(session_id="visitor").update(
            created_at=datetime.now(UTC)
        )
        assert "1 renamed" in self.run_import("--on-conflict", "rename", source=path)
        copy = AgentSession.objects.get(session_id="visitor~1")
        assert copy.item_count == 3
        assert "3 already there" in self.run_import(
            "--on-conflict", "rename", source=path
        )

    def test_what_was_cut_off_stays_out(self):
        lines = self.export().read_bytes().splitlines(keepends=True)
        AgentSession.objects.all().delete()
        self.path.write_bytes(b"".join(lines[:10]) + lines[10][:-5])
        self.assert_fails(saying="1 refused")
        self.path.write_bytes(b"".join(lines[:10]))
        self.assert_fails(saying="1 refused")
        assert not AgentSession.objects.exists()
        # Between two sessions: those before come in, and the rest is missed.
        whole = [n for n, line in enumerate(lines) if line.startswith(b'{"session"')]
        self.path.write_bytes(b"".join(lines[: whole[2]]))
        self.assert_fails(saying="The source was cut off")
        assert AgentSession.objects.count() == 2

    def test_a_file_that_is_changed_meanwhile_gives_nobody_anothers_items(self):
        path = self.export()
        source = open_source(str(path))
        sessions = list(source.sessions())
        path.write_bytes(path.read_bytes() + b"\n")
        for session in sessions:
            with self.assertRaisesMessage(InvalidSource, "was changed"):
                list(source.items(session))

    def test_what_cannot_be_read_twice_is_explained(self):
        os.mkfifo(self.path)
        self.assert_fails("--format", "jsonl", saying="no file that can be read twice")

    def test_an_owner_without_a_name_does_not_make_it_anonymous(self):
        lines = self.export().read_text().replace('"username":"ann"', '"username":""')
        AgentSession.objects.all().delete()
        self.path.write_text(lines)
        self.assert_fails(saying="1 refused")
        assert not AgentSession.objects.filter(session_id="owned").exists()

    def test_what_we_never_wrote_is_refused_by_line(self):
        lines = self.export().read_text().splitlines()
        AgentSession.objects.all().delete()
        header, session, item = lines[0], lines[1], lines[2]
        end = json.dumps({"end": {"sessions": 1}})

        def change(line, kind, **values):
            return json.dumps({kind: {**json.loads(line)[kind], **values}})

        for broken in (
            "secret",
            '{"secret": 1}',
            '{"session": []}',
            change(session, "session", id="secret"),
            change(session, "session", item_count=-1),
            change(session, "session", item_count=True),
            change(session, "session", created_at=None),
            change(session, "session", metadata=["secret"]),
            change(session, "session", preview="secret" * 100),
            change(session, "session", preview="secret\ud800"),
            change(session, "session", created_at="0001-01-01T00:00:00+23:59"),
            change(session, "session", owned_at="9999-12-31T23:59:59-23:59"),
            change(session, "session", usage="secret"),
            change(session, "session", usage=[[1, "secret", *[0] * 6]]),
            change(session, "session", usage=[[-1, "2026-01-01", *[0] * 6]]),
            change(session, "session", usage=[[1, "2026-01-01", *[0] * 5]]),
            change(session, "session", usage=[[1, "2026-01-01", *[0] * 5, -1]]),
            # Two of them no database could add up.
            change(session, "session", usage=[[1, "2026-01-01", *[0] * 5, 2**62]]),
            change(session, "session", usage=[[1, "2026-01-01", *[0] * 6]] * 2),
        ):
            with self.subTest(broken[:60]):
                self.path.write_text(f"{header}\n{broken}\n{item}\n")
                self.assert_fails(saying="Line 2 ")
        for broken in (
            change(item, "item", position="secret"),
            change(item, "item", position=2**31),
            change(item, "item", position=1000),
            change(item, "item", type="secret" * 20),
            change(item, "item", type="secret\ud800"),
            change(item, "item", role="secret\0"),
            change(item, "item", data=["secret"]),
            change(item, "item", data="secret\0"),
            change(item, "item", data="secret\ud800"),
            change(item, "item", created_at="0001-01-01T00:00:00+23:59"),
            change(item, "item", replaced_at="9999-12-31T23:59:59-23:59"),
            change(item, "item", created_at="secret"),
            '{"item": 1}',
        ):
            with self.subTest(broken[:60]):
                text = broken.replace('{"item": ', '{"item":', 1)
                self.path.write_text(f"{header}\n{session}\n{text}\n{end}\n")
                (outcome,) = self.outcomes()
                assert outcome.kind == Kind.REFUSED
                assert outcome.note.startswith("Line 3 ")
                assert "secret" not in outcome.note
        assert not AgentSession.objects.exists()

    def test_other_files_are_not_taken_for_exports(self):
        self.path.write_text('{"format": "agent_sessions", "version": 99}\n')
        self.assert_fails(saying="has version 99")
        self.path.write_text('{"role": "user", "content": "secret"}\n')
        self.assert_fails(saying="not an export")
