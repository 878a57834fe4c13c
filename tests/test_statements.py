"""What a statement that waited for a lock does with what it could not see."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any
from unittest import mock, skipIf

from django.contrib.auth import get_user_model
from django.db import connection, connections, transaction
from django.test import TransactionTestCase
from django.test.utils import CaptureQueriesContext

from agent_sessions import DjangoSession, store
from agent_sessions.conf import conf
from agent_sessions.models import AgentSession, SessionItem
from agent_sessions.store import batches

User = get_user_model()

NO_POSTGRESQL = connection.vendor != "postgresql"


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


class WaitingTests(TransactionTestCase):
    """Another transaction holds the session, and commits while a verb waits for it."""

    @contextmanager
    def waiting(self, verb: Callable[[], Any]):
        """Begin ``verb`` in a thread inside the block's transaction, end it after."""
        results: list[Any] = []

        def run() -> None:
            try:
                results.append(verb())
            finally:
                connections.close_all()

        thread = threading.Thread(target=run)
        with transaction.atomic():
            yield results
            thread.start()
            # Long enough to reach the lock; if it is slower it waits all the same.
            time.sleep(0.3)
        thread.join()

    def assert_counted(self) -> None:
        row = AgentSession.objects.get()
        live = SessionItem.objects.live()
        assert row.item_count == live.count()
        assert row.turn_count == live.filter(role="user").count()
        first = live.in_order().filter(role="user").first()
        assert row.preview == (first.data["content"] if first else "")

    def test_a_pop_behind_a_compaction_takes_the_summary(self):
        store.append_items("s", [user("a"), user("b")])
        with self.waiting(lambda: store.pop_item("s")) as popped:
            store.replace_tail("s", [0, 1], [{"role": "assistant", "content": "sum"}])
        assert popped == [{"role": "assistant", "content": "sum"}]
        assert SessionItem.objects.replaced().count() == 2

    def test_a_clear_behind_a_compaction_leaves_nothing(self):
        store.append_items("s", [user("a"), user("b")])
        with self.waiting(lambda: store.clear_session("s")):
            store.replace_tail("s", [0, 1], [user("sum")])
        assert not SessionItem.objects.exists()
        self.assert_counted()

    def test_a_clear_behind_an_append_leaves_right_counts(self):
        store.append_items("s", [user("a")])
        with self.waiting(lambda: store.clear_session("s")):
            store.append_items("s", [user("b"), user("c")])
        self.assert_counted()

    def test_an_append_behind_an_append_comes_after_it(self):
        store.append_items("s", [user("a")])
        with self.waiting(lambda: store.append_items("s", [user("c")])):
            store.append_items("s", [user("b")])
        assert [item["content"] for item in store.read_items("s")] == list("abc")
        self.assert_counted()


class FirstStatementTests(TransactionTestCase):
    """Who writes first is SQLite's writer at once, or waits for its turn."""

    def test_the_first_statement_of_a_write_is_a_write(self):
        alice = User.objects.create(username="alice")
        hers = store.create_session(alice, session_id="hers")
        store.append_items("nobody's", [user("a")])
        unknown = store.session_handle("unknown", user=alice)
        assert store.read_items(unknown) == []
        for write in (
            lambda: store.create_session(alice),
            lambda: store.append_items("new", [user("a")], user=alice),
            # PostgreSQL asks first whether the user exists; it has no such lock.
            *([lambda: store.append_items(unknown, [user("a")])] * NO_POSTGRESQL),
            lambda: store.claim_session("nobody's", alice),
            lambda: store.update_user_metadata({"a": 1}, user=alice),
            lambda: store.update_session("hers", user=alice, title="New"),
            lambda: store.replace_items(hers, [user("b")]),
            lambda: store.append_items("hers", [user("c")], user=alice),
            lambda: store.pop_item("hers", user=alice),
            lambda: store.clear_session("hers", user=alice),
            lambda: store.delete_session("hers", user=alice),
        ):
            with transaction.atomic(), CaptureQueriesContext(connection) as queries:
                write()
            statements = [query["sql"] for query in queries]
            first = next(sql for sql in statements if not sql.startswith("SAVEPOINT"))
            assert not first.startswith("SELECT"), first


@skipIf(NO_POSTGRESQL, "Each database has its own words for its plans")
class PlanTests(TransactionTestCase):
    def test_a_session_is_found_by_its_id_in_a_young_table_too(self):
        alice = User.objects.create(username="alice")
        plans: list[str] = []

        def explain(execute: Any, sql: str, params: Any, *rest: Any) -> Any:
            if sql.startswith(("WITH", "SELECT", "UPDATE")):
                with connection.connection.cursor() as cursor:
                    cursor.execute(f"EXPLAIN {sql}", params)
                    plans.extend(row[0] for row in cursor.fetchall())
            return execute(sql, params, *rest)

        for _ in range(20):
            store.create_session(alice)
        store.append_items("s", [user("a"), user("b")], user=alice)
        with connection.execute_wrapper(explain):
            store.append_items("s", [user("c")], user=alice)
            store.read_items("s", user=alice, limit=10)
            store.pop_item("s", user=alice)
            store.clear_session("s", user=alice)
            store.update_session("s", user=alice, title="New")
        assert any("agent_sessions_session_id" in line for line in plans)
        assert not any("agent_sessions_user_recent" in line for line in plans)


@skipIf(connection.vendor != "mysql", "Other snapshots are whole")
@skipIf(conf.AGENT_SESSIONS_PORTABLE, "Plain ORM has no header to compare with")
class SnapshotTests(TransactionTestCase):
    def test_a_read_that_misses_a_counted_item_is_made_again(self):
        store.append_items("s", [user("a"), user("b"), user("c")])
        missed = SessionItem.objects.get(position=1)
        for limit in (None, 3):
            reads: list[str] = []
            key = missed.pk
            missed.delete()

            def execute(
                execute: Any, sql: str, *rest: Any, reads: Any = reads, key: Any = key
            ) -> Any:
                result = execute(sql, *rest)
                reads.append(sql)
                if len(reads) == 1:
                    missed.pk = key
                    missed.save(force_insert=True)
                return result

            with connection.execute_wrapper(execute):
                items = store.read_items("s", limit=limit)
            assert [item["content"] for item in items] == ["a", "b", "c"]
            with self.assertNumQueries(1):
                store.read_items("s", limit=limit)
        with self.assertNumQueries(1):
            assert len(store.read_items("s", limit=2)) == 2


class OwnCommitTests(TransactionTestCase):
    def test_a_caller_who_commits_by_itself_is_served(self):
        connection.set_autocommit(False)
        try:
            store.append_items("s", [user("a")])
            store.append_items("s", [user("b")])
            connection.commit()
        finally:
            connection.set_autocommit(True)
        assert len(store.read_items("s")) == 2


class HandleTests(TransactionTestCase):
    def test_a_call_keeps_to_the_handle_that_it_began_with(self):
        # Another thread's call pins the handle while this one makes its statement.
        session = DjangoSession("s")
        handle = session._resolve()
        store.append_items("s", [user("a")])
        pk = AgentSession.objects.get().pk
        encode = batches.batch_preview

        def pin_meanwhile(batch: Any) -> str:
            handle.pin(pk)
            return encode(batch)

        for module in ("postgresql", "sqlite", "mariadb", "portable"):
            name = f"agent_sessions.store.statements.{module}.batch_preview"
            with mock.patch(name, pin_meanwhile):
                store.append_items(handle, [user("b")])
        assert len(store.read_items("s")) == 5
