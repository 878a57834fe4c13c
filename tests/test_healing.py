"""
What the caller does not notice: lost connections, restarts, deadlocks, other writers.

A fault is a real one where a database has it. SQLite has no server, hence no connection
that could be lost, but it has other writers.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock, skipIf, skipUnless

from agents import Usage
from django.contrib.auth import get_user_model
from django.db import OperationalError, connection, connections, transaction
from django.test import TransactionTestCase, override_settings

from agent_sessions import DjangoSession, signals, store
from agent_sessions.crossing import close_connections, cross, pool
from agent_sessions.exceptions import AgentSessionError, SessionLockTimeout
from agent_sessions.models import AgentSession, SessionItem
from agent_sessions.store import transactions
from tests.clusters import CLUSTERS
from tests.observer import observe, wait_until
from tests.processes import finish, start
from tests.usage_cases import ONE, ONE_OF_THE_SDK, times

User = get_user_model()

NO_SERVER = connection.vendor == "sqlite"
no_server = skipIf(NO_SERVER, "SQLite has no server to lose")

work_here = partial(cross, using="default")


def words(*texts: str) -> list[Any]:
    return [{"role": "user", "content": text} for text in texts]


def contents(items: list[Any]) -> list[str]:
    return [item["content"] for item in items]


def stored(session_id: str) -> list[str]:
    items = SessionItem.objects.filter(session__session_id=session_id).in_order()
    return contents([item.data for item in items])


class HealingTestCase(TransactionTestCase):
    """Gives our calls one thread, so that a test knows whose connection it is."""

    def setUp(self):
        self.observer = observe()
        self.addCleanup(self.observer.close)
        self.addCleanup(close_connections)
        settings = override_settings(AGENT_SESSIONS_THREADS=1)
        settings.enable()
        self.addCleanup(settings.disable)

    def lose(self) -> None:
        """Lose the connection of this thread and raise what its driver raises."""
        self.observer.end_mine()
        with connection.wrap_database_errors:
            if NO_SERVER:
                raise sqlite3.OperationalError("disk I/O error")
            if connection.vendor == "postgresql":
                # What the driver says when the line is cut. The server's own word that
                # it ended the connection comes only to what it has not done.
                raise connection.Database.OperationalError("connection closed")
            connection.connection.cursor().execute("SELECT 1")
        raise AssertionError("The connection is still there.")

    @contextmanager
    def in_thread(self, function: Callable[[], Any]) -> Iterator[None]:
        """Run ``function`` beside the block; raise its error at the end."""
        errors: list[BaseException] = []

        def target() -> None:
            try:
                function()
            except BaseException as error:
                errors.append(error)
            finally:
                connections.close_all()

        thread = threading.Thread(target=target, daemon=True)
        thread.start()
        yield
        thread.join(60)
        assert not thread.is_alive(), "it hangs"
        if errors:
            raise errors[0]


# Each call there is, on a session of alice's; what it returns can be compared.


async def append(session: DjangoSession, alice: Any) -> Any:
    return await session.add_items(words("c", "d"))


async def read(session: DjangoSession, alice: Any) -> Any:
    return await session.get_items()


async def read_newest(session: DjangoSession, alice: Any) -> Any:
    return await session.get_items(limit=1)


async def pop(session: DjangoSession, alice: Any) -> Any:
    return await session.pop_item()


async def clear(session: DjangoSession, alice: Any) -> Any:
    return await session.clear_session()


async def claim(session: DjangoSession, alice: Any) -> Any:
    return await DjangoSession(session.session_id).claim(alice)


async def create(session: DjangoSession, alice: Any) -> Any:
    created = await DjangoSession.create_session(alice, session_id=session.session_id)
    return created.user_id


async def find(session: DjangoSession, alice: Any) -> Any:
    found = await DjangoSession.get_session(alice, session.session_id)
    return found and found.user_id


async def find_all(session: DjangoSession, alice: Any) -> Any:
    sessions = await DjangoSession.get_sessions(alice)
    ids = await DjangoSession.get_sessions_for_user(alice)
    return len(sessions) == len(ids)


async def update(session: DjangoSession, alice: Any) -> Any:
    change = partial(store.update_session, session.session_id, user=alice, title="New")
    row = await work_here(change)
    return row.user_id, row.title, row.revision


async def delete(session: DjangoSession, alice: Any) -> Any:
    return await work_here(
        partial(store.delete_session, session.session_id, user=alice)
    )


async def rewind(session: DjangoSession, alice: Any) -> Any:
    return await session.rewind(before_turn=2)


async def retry(session: DjangoSession, alice: Any) -> Any:
    return await session.retry()


async def fork(session: DjangoSession, alice: Any) -> Any:
    return await (await session.fork()).get_items()


async def forks(session: DjangoSession, alice: Any) -> Any:
    return len(await session.forks())


async def remember(session: DjangoSession, alice: Any) -> Any:
    await session.update_user_metadata({"language": "de"})
    return await session.get_user_metadata()


# With whose the session is that the call is made on.
CALLS = {
    append: ["mine", "unknown", "anonymous", "another's", "deleted"],
    read: ["mine", "unknown", "anonymous", "another's", "deleted"],
    read_newest: ["mine"],
    pop: ["mine", "unknown", "another's", "deleted"],
    clear: ["mine", "unknown", "another's", "deleted"],
    claim: ["mine", "unknown", "anonymous", "another's"],
    create: ["mine", "unknown"],
    find: ["mine", "another's"],
    find_all: ["mine"],
    update: ["mine", "unknown", "another's"],
    delete: ["mine", "unknown", "another's"],
    rewind: ["mine", "unknown", "another's", "deleted"],
    retry: ["mine"],
    fork: ["mine", "another's"],
    forks: ["mine", "unknown", "another's"],
    remember: ["mine"],
}


@no_server
class EveryStatementTests(HealingTestCase):
    def setUp(self):
        super().setUp()
        self.alice = User.objects.create(username="alice")
        self.bob = User.objects.create(username="bob")

    def prepare(self, standing: str, session_id: str) -> DjangoSession:
        owners = {"mine": self.alice, "another's": self.bob, "deleted": self.alice}
        if standing != "unknown":
            owner = owners.get(standing)
            store.create_session(owner, session_id=session_id)
            store.append_items(session_id, words("a", "b"), user=owner)
        if standing == "deleted":
            row = AgentSession.objects.get(session_id=session_id)
            row.delete()
            row.pk = AgentSession().pk
            return row.as_sdk_session()
        return DjangoSession(session_id, user=self.alice)

    def lose_before(self, statement: int) -> list[bool]:
        """Lose our thread's connection before that statement; tell later if it was."""
        numbers = itertools.count(1)
        lost: list[bool] = []

        def execute(execute: Any, *arguments: Any) -> Any:
            if next(numbers) == statement:
                lost.append(True)
                self.observer.end_mine()
            return execute(*arguments)

        def install() -> None:
            connection.execute_wrappers[:] = [execute]

        asyncio.run(work_here(install))
        return lost

    def outcome(self, call: Any, session: DjangoSession) -> Any:
        try:
            result = asyncio.run(call(session, self.alice))
        except (AgentSessionError, OperationalError) as error:
            result = type(error)
        rows = AgentSession.objects.filter(session_id=session.session_id)
        columns = ("user", "title", "revision", "item_count", "turn_count")
        return result, stored(session.session_id), list(rows.values_list(*columns))

    def test_a_connection_may_be_lost_before_any_statement(self):
        for call, standings in CALLS.items():
            for standing in standings:
                name = f"{call.__name__} {standing}"
                self.lose_before(0)
                expected = self.outcome(call, self.prepare(standing, name))
                for statement in itertools.count(1):
                    session = self.prepare(standing, f"{name} {statement}")
                    lost = self.lose_before(statement)
                    outcome = self.outcome(call, session)
                    assert outcome == expected, (name, statement)
                    if not lost:
                        break
                assert statement > 1


@no_server
class LostConnectionTests(HealingTestCase):
    def test_a_connection_that_the_server_ended_heals(self):
        async def main() -> None:
            session = DjangoSession("one")
            await session.add_items(words("a"))
            assert self.observer.end_all() == 1
            await session.add_items(words("b"))
            assert self.observer.end_all() == 1
            assert contents(await session.get_items()) == ["a", "b"]
            assert self.observer.end_all() == 1
            assert contents([await session.pop_item()]) == ["b"]

        asyncio.run(main())
        assert stored("one") == ["a"]

    def test_a_connection_that_was_idle_for_too_long_heals(self):
        def be_impatient() -> None:
            with connection.cursor() as cursor:
                if connection.vendor == "postgresql":
                    cursor.execute("SET idle_session_timeout = '50ms'")
                else:
                    cursor.execute("SET SESSION wait_timeout = 1")

        async def main() -> None:
            session = DjangoSession("one")
            await session.add_items(words("a"))
            await work_here(be_impatient)
            await asyncio.to_thread(wait_until, lambda: not self.observer.connected())
            await session.add_items(words("b"))

        asyncio.run(main())
        assert stored("one") == ["a", "b"]

    def test_a_quiet_connection_is_checked_before_any_work_uses_it(self):
        async def main() -> None:
            await work_here(User.objects.count)
            assert self.observer.end_all() == 1
            # Not a call of the store's, so nobody tries it again.
            assert await work_here(User.objects.count) == 0

        with mock.patch.object(pool, "CHECK_AFTER_SECONDS", -1):
            asyncio.run(main())

    @override_settings(AGENT_SESSIONS_THREADS=4)
    def test_nothing_is_lost_or_doubled_while_connections_are_ended(self):
        texts = [str(number) for number in range(60)]
        written = threading.Semaphore(0)
        ended = []

        async def write(session: DjangoSession) -> None:
            for first, second in zip(texts[::2], texts[1::2], strict=True):
                await session.add_items(words(first, second))
                written.release()

        async def main() -> None:
            async with asyncio.TaskGroup() as group:
                for number in range(6):
                    group.create_task(write(DjangoSession(f"session-{number}")))

        def end_connections() -> None:
            for _ in range(6 * 30 // 6):
                for _ in range(6):
                    assert written.acquire(timeout=20)
                # On a busy machine those of the last time are not back at once.
                found = 0
                for _ in range(20):
                    if found := self.observer.end_all():
                        break
                    time.sleep(0.01)
                ended.append(found)

        with self.in_thread(end_connections):
            asyncio.run(main())
        assert sum(ended) > 30
        for number in range(6):
            assert stored(f"session-{number}") == texts

    def test_a_caller_s_transaction_is_left_alone(self):
        def main() -> None:
            with (
                self.assertRaises(OperationalError),
                mock.patch.object(transactions, "time", wraps=time) as clock,
                transaction.atomic(),
            ):
                store.append_items("one", words("lost"))
                opened = connection.connection
                self.observer.end_mine()
                for verb in store.read_items, store.pop_item, store.clear_session:
                    with self.assertRaises(OperationalError):
                        verb("one")
                with self.assertRaises(OperationalError):
                    store.append_items("one", words("lost"))
                assert connection.connection is opened
            assert not clock.sleep.called
            store.append_items("one", words("kept"))

        with self.in_thread(main):
            pass
        assert stored("one") == ["kept"]


class LostAnswerTests(HealingTestCase):
    """The connection is lost while a COMMIT is on its way, there or back."""

    def lose_answer(self) -> None:
        """Have the next COMMIT of this thread done, and its answer lost."""
        self.at_commit(lambda commit: (commit(), self.lose()))

    def lose_commit(self) -> None:
        """Have the next COMMIT of this thread lost."""
        self.at_commit(lambda commit: self.lose())

    def at_commit(self, action: Callable[[Callable[[], Any]], Any]) -> None:
        def restore() -> None:
            del connection._commit
            connection.execute_wrappers.clear()

        def commit() -> None:
            restore()
            action(connection._commit)

        def execute(execute: Any, sql: str, *arguments: Any) -> Any:
            # A statement outside a transaction commits by itself.
            if connection.in_atomic_block or sql.startswith("SELECT"):
                return execute(sql, *arguments)
            restore()
            return action(lambda: execute(sql, *arguments))

        connection.ensure_connection()
        connection._commit = commit
        if connection.vendor == "postgresql":
            connection.execute_wrappers.append(execute)

    def test_an_append_is_done_once(self):
        for lose in self.lose_answer, self.lose_commit:
            name = lose.__name__

            async def main(name: str, lose: Any) -> None:
                session = DjangoSession(name)
                await work_here(lose)
                await session.add_items(words("a", "b"))
                await work_here(lose)
                await session.add_items(words("c", "d"))
                await session.add_items(words("e"))

            asyncio.run(main(name, lose))
            assert stored(name) == ["a", "b", "c", "d", "e"]
            assert AgentSession.objects.get(session_id=name).item_count == 5

    def test_tokens_are_counted_once(self):
        for lose in self.lose_answer, self.lose_commit:
            name = lose.__name__
            store.append_items(name, words("a"), usage=ONE)

            async def main(name: str, lose: Any) -> None:
                session = DjangoSession(name)
                result = mock.Mock()
                totals = result.context_wrapper.usage = Usage()
                await session.get_items(wrapper=result.context_wrapper)
                totals.add(ONE_OF_THE_SDK)
                await work_here(lose)
                await session.add_items(words("b"), wrapper=result.context_wrapper)
                for _ in range(2):
                    totals.add(ONE_OF_THE_SDK)
                    await work_here(lose)
                    assert await session.store_run_usage(result) == ONE
                assert not await session.store_run_usage(result)

            asyncio.run(main(name, lose))
            assert store.get_usage_by_turn(name) == {1: ONE, 2: times(3)}

    def test_an_append_is_told_of_as_if_nothing_had_happened(self):
        told: list[str] = []

        def note(session_id: str, signal: Any, **facts: Any) -> None:
            told.append("created" if signal is signals.session_created else "added")

        for signal in signals.session_created, signals.items_added:
            signal.connect(note)
            self.addCleanup(signal.disconnect, note)
        for lose in self.lose_answer, self.lose_commit:
            name = lose.__name__

            async def main(name: str, lose: Any) -> None:
                session = DjangoSession(name)
                # So that the next statement is the one that makes the session.
                assert await session.get_items() == []
                await work_here(lose)
                await session.add_items(words("a", "b"))
                await work_here(lose)
                await session.add_items(words("c"))
                created = await DjangoSession.create_session(None)
                await work_here(lose)
                await created.add_items(words("a"))

            told.clear()
            asyncio.run(main(name, lose))
            assert told == ["created", "added", "added", "created", "added"]

    def test_an_append_is_done_once_though_its_start_is_gone(self):
        def remove_first() -> None:
            SessionItem.objects.filter(position=0).delete()

        def lose_answer() -> None:
            def commit_and_lose(commit: Any) -> None:
                commit()
                with self.in_thread(remove_first):
                    pass
                self.lose()

            self.at_commit(commit_and_lose)

        async def main() -> None:
            session = DjangoSession("one")
            assert await session.get_items() == []
            await work_here(lose_answer)
            await session.add_items(words("a", "b", "c", "d"))

        asyncio.run(main())
        assert stored("one") == ["b", "c", "d"]
        assert AgentSession.objects.get().next_position == 4

    def test_a_rewind_returns_what_it_has_removed(self):
        for verb in "rewind", "retry":
            for lose in self.lose_answer, self.lose_commit:
                name = f"{verb} {lose.__name__}"
                store.append_items(name, words("a", "b"))

                async def main(name: str, verb: str, lose: Any) -> list[str]:
                    session = DjangoSession(name)
                    await work_here(lose)
                    if verb == "retry":
                        return contents(await session.retry())
                    return contents(await session.rewind(before_turn=2))

                assert asyncio.run(main(name, verb, lose)) == ["b"]
                assert stored(name) == ["a"]

    def test_a_fork_is_made_once(self):
        for verb in "fork", "keep":
            for lose in self.lose_answer, self.lose_commit:
                name = f"{verb} {lose.__name__}"
                store.append_items(name, words("a", "b"))

                async def main(name: str, verb: str, lose: Any) -> None:
                    session = DjangoSession(name)
                    await work_here(lose)
                    if verb == "keep":
                        await session.retry(keep=True)
                    else:
                        await session.fork()
                    (fork,) = await session.forks()
                    assert contents(await fork.get_items()) == ["a", "b"]

                asyncio.run(main(name, verb, lose))
                assert stored(name) == (["a"] if verb == "keep" else ["a", "b"])

    def test_a_session_is_created_once(self):
        for lose in self.lose_answer, self.lose_commit:
            name = lose.__name__

            async def main(name: str, lose: Any) -> None:
                await work_here(lose)
                session = await DjangoSession.create_session(None, session_id=name)
                await session.add_items(words("a"))

            asyncio.run(main(name, lose))
            assert stored(name) == ["a"]

    def test_a_clear_may_be_done_twice(self):
        store.append_items("one", words("a"))
        for lose in self.lose_answer, self.lose_commit:

            async def main(lose: Any) -> None:
                session = DjangoSession("one")
                await work_here(lose)
                await session.clear_session()
                assert await session.get_items() == []
                await session.add_items(words("b"))

            asyncio.run(main(lose))
            assert stored("one") == ["b"]

    def test_a_claim_may_be_done_twice(self):
        alice = User.objects.create(username="alice")
        for lose in self.lose_answer, self.lose_commit:
            row = store.create_session(None)

            async def main(row: AgentSession, lose: Any) -> None:
                session = row.as_sdk_session()
                await work_here(lose)
                await session.claim(alice)
                assert session.user_id == alice.pk

            asyncio.run(main(row, lose))
            row.refresh_from_db()
            assert row.user == alice

    def test_an_update_raises_the_revision_once(self):
        for lose in self.lose_answer, self.lose_commit:
            row = store.create_session(None)

            async def main(row: AgentSession, lose: Any) -> None:
                await work_here(lose)
                await work_here(partial(store.update_session, row, title="New"))
                await work_here(lose)
                await work_here(partial(store.update_session, row, title="New"))

            asyncio.run(main(row, lose))
            row.refresh_from_db()
            assert (row.title, row.revision) == ("New", 2)

    def test_a_suffix_that_is_replaced_by_nothing_is_known_as_replaced(self):
        for lose in self.lose_answer, self.lose_commit:
            name = lose.__name__
            store.append_items(name, words("a", "b", "c"))

            async def main(name: str, lose: Any) -> None:
                session = DjangoSession(name)
                tail = await session._get_compaction_snapshot(3)
                await work_here(lose)
                assert await tail.replace_suffix(1, []) is True
                assert contents(await session.get_items()) == ["a"]
                assert await tail.replace_suffix(1, []) is False

            asyncio.run(main(name, lose))

    def test_a_claim_is_told_of_once(self):
        alice = User.objects.create(username="alice")
        told: list[str] = []

        def note(session_id: str, **facts: Any) -> None:
            told.append(session_id)

        signals.session_claimed.connect(note)
        self.addCleanup(signals.session_claimed.disconnect, note)
        for lose in self.lose_answer, self.lose_commit:
            name = lose.__name__
            store.append_items(name, words("a"))

            async def main(name: str, lose: Any) -> None:
                for _ in range(2):
                    await work_here(lose)
                    await DjangoSession(name).claim(alice)

            asyncio.run(main(name, lose))
        assert told == ["lose_answer", "lose_commit"]

    def test_a_pop_is_an_error_and_is_not_done_twice(self):
        store.append_items("one", words("a", "b", "c"))
        for lose, left in (
            (self.lose_commit, ["a", "b", "c"]),
            (self.lose_answer, ["a", "b"]),
        ):

            async def main(lose: Any) -> None:
                await work_here(lose)
                with self.assertRaises(OperationalError):
                    await DjangoSession("one").pop_item()

            asyncio.run(main(lose))
            assert stored("one") == left
        asyncio.run(DjangoSession("one").pop_item())
        assert stored("one") == ["a"]


class ConflictTests(HealingTestCase):
    """Failures of which the database says itself that a second try may mend them."""

    def driver_errors(self) -> list[Exception]:
        match connection.vendor:
            case "postgresql":
                from psycopg import errors

                return [errors.DeadlockDetected(), errors.SerializationFailure()]
            case "mysql":
                from MySQLdb import OperationalError

                return [
                    OperationalError(1213, "Deadlock found"),
                    OperationalError(1020),
                ]
        busy, locked = sqlite3.OperationalError(), sqlite3.OperationalError()
        busy.sqlite_errorcode = sqlite3.SQLITE_BUSY_SNAPSHOT
        locked.sqlite_errorcode = sqlite3.SQLITE_LOCKED
        return [busy, locked]

    def test_a_conflict_is_tried_again(self):
        session = DjangoSession("one")
        calls = {
            "add": partial(session.add_items, words("a")),
            "get": session.get_items,
            "pop": session.pop_item,
            "clear": session.clear_session,
        }
        for error, name in itertools.product(self.driver_errors(), calls):
            failing = [error] * 3

            def execute(execute: Any, *arguments: Any, failing: Any = failing) -> Any:
                if failing and connection.in_atomic_block:
                    execute(*arguments)
                if failing and arguments[0] != "BEGIN":
                    with connection.wrap_database_errors:
                        raise failing.pop()
                return execute(*arguments)

            async def main(name: str, execute: Any) -> None:
                await work_here(
                    lambda: connection.execute_wrappers.__setitem__(
                        slice(None), [execute]
                    )
                )
                await calls[name]()

            asyncio.run(main(name, execute))
            assert not failing
            assert stored("one") == (["a"] if name in ("add", "get") else [])

    def test_a_conflict_in_the_caller_s_transaction_is_the_caller_s(self):
        for error in self.driver_errors():

            def fail(*arguments: Any, error: Exception = error) -> Any:
                with connection.wrap_database_errors:
                    raise error

            with (
                self.assertRaises(OperationalError),
                mock.patch.object(transactions, "time", wraps=time) as clock,
                transaction.atomic(),
                connection.execute_wrapper(fail),
            ):
                store.read_items("one")
            assert not clock.sleep.called

    @no_server
    def test_a_deadlock_does_not_reach_the_caller(self):
        alice = User.objects.create(username="alice")

        def create() -> None:
            store.create_session(alice, session_id="one")

        with transaction.atomic():
            # The heavier of two transactions wins on MariaDB; on PostgreSQL the one
            # that waits for the other without looking.
            User.objects.bulk_create([User(username=str(it)) for it in range(50)])
            if connection.vendor == "postgresql":
                with connection.cursor() as cursor:
                    cursor.execute("SET LOCAL deadlock_timeout = '30s'")
            User.objects.select_for_update().get(pk=alice.pk)
            with mock.patch.object(
                transactions, "error_code", wraps=transactions.error_code
            ) as error_code:
                creating = self.in_thread(create)
                creating.__enter__()
                wait_until(self.observer.waiting)
                if connection.vendor == "postgresql":
                    AgentSession.objects.create(session_id="one")
                else:
                    list(AgentSession.objects.select_for_update())
                wait_until(lambda: error_code.called)
            transaction.set_rollback(True)
        creating.__exit__(None, None, None)
        assert AgentSession.objects.get(session_id="one").user == alice

    def test_serializable_transactions_do_not_fail_the_caller(self):
        finish(start(SERIALIZABLE))
        assert sorted(stored("one")) == sorted(map(str, range(100)))


SERIALIZABLE = """
import asyncio
from django.db import connection, connections
level = {"postgresql": 4, "mysql": "serializable"}.get(connection.vendor)
if level:
    connections.settings["default"]["OPTIONS"]["isolation_level"] = level
from agent_sessions import DjangoSession

async def write(session, number):
    await session.add_items([{"role": "user", "content": str(number)}])

async def main():
    await DjangoSession.create_session(None, session_id="one")
    sessions = [DjangoSession("one") for _ in range(100)]
    await asyncio.gather(*[write(it, number) for number, it in enumerate(sessions)])

asyncio.run(main())
"""

HOLD = """
import sys
from django.db import transaction
from django.db.models import F
from agent_sessions.models import AgentSession

with transaction.atomic():
    AgentSession.objects.filter(session_id="one").update(item_count=F("item_count"))
    print("held", flush=True)
    sys.stdin.readline()
"""


class OtherWriterTests(HealingTestCase):
    """Another process holds the session; under SQLite, the whole database."""

    def setUp(self):
        super().setUp()
        store.append_items("one", words("a"))

    @contextmanager
    def held(self) -> Iterator[Callable[[], None]]:
        process = start(HOLD)

        def release() -> None:
            process.stdin.write("\n")
            process.stdin.flush()

        try:
            assert process.stdout.readline() == "held\n"
            yield release
        finally:
            finish(process)

    def test_a_write_waits_for_another_s_end(self):
        async def main(release: Any) -> None:
            task = asyncio.create_task(DjangoSession("one").add_items(words("b")))
            done, _ = await asyncio.wait({task}, timeout=0.5)
            assert not done
            release()
            await task

        with self.held() as release:
            asyncio.run(main(release))
        assert stored("one") == ["a", "b"]

    @override_settings(AGENT_SESSIONS_LOCK_TIMEOUT=1)
    def test_a_write_does_not_wait_for_ever(self):
        async def main() -> None:
            session = DjangoSession("one")
            for call in (
                session.add_items(words("b")),
                session.pop_item(),
                session.clear_session(),
            ):
                with self.assertRaises(SessionLockTimeout):
                    await call

        with self.held():
            asyncio.run(main())
        assert stored("one") == ["a"]

    @skipUnless(connection.vendor == "sqlite", "waits twice")
    @override_settings(AGENT_SESSIONS_LOCK_TIMEOUT=1)
    def test_all_threads_wait_as_long_as_one(self):
        def write(text: str) -> None:
            try:
                store.append_items("one", words(text))
            finally:
                connection.close()

        with ThreadPoolExecutor(4) as threads, self.held() as release:
            writes = [threads.submit(write, text) for text in "bcde"]
            time.sleep(1.4)
            release()
        for each in writes:
            each.result()
        assert sorted(stored("one")) == list("abcde")

    def test_a_caller_s_transaction_keeps_its_own_patience(self):
        patience = {
            "postgresql": "SET LOCAL lock_timeout = '100ms'",
            "mysql": "SET SESSION innodb_lock_wait_timeout = 1",
            "sqlite": "PRAGMA busy_timeout = 100",
        }[connection.vendor]

        def main() -> None:
            with (
                mock.patch.object(transactions, "time", wraps=time) as clock,
                self.assertRaises(SessionLockTimeout),
                transaction.atomic(),
            ):
                with connection.cursor() as cursor:
                    cursor.execute(patience)
                store.append_items("one", words("b"))
            assert not clock.sleep.called

        with self.held(), self.in_thread(main):
            pass
        assert stored("one") == ["a"]

    @override_settings(AGENT_SESSIONS_LOCK_TIMEOUT=0.123)
    def test_our_patience_ends_with_our_transaction(self):
        setting = {
            "postgresql": "SHOW lock_timeout",
            "mysql": "SELECT @@innodb_lock_wait_timeout",
            "sqlite": "PRAGMA busy_timeout",
        }[connection.vendor]

        def read() -> Any:
            with connection.cursor() as cursor:
                cursor.execute(setting)
                return cursor.fetchone()

        async def main() -> None:
            before = await work_here(read)
            await DjangoSession("one").add_items(words("b"))
            assert await work_here(read) == before

        asyncio.run(main())


MISCONFIGURED = """
import asyncio, time
from unittest import mock
from django.db import OperationalError
from agent_sessions import DjangoSession
from agent_sessions.store import transactions

with mock.patch.object(transactions, "time", wraps=time) as clock:
    for _ in range(2):
        try:
            asyncio.run(DjangoSession("one").get_items())
        except OperationalError:
            pass
        else:
            raise AssertionError("There is such a database.")
assert not clock.sleep.called
"""


class ConnectTests(HealingTestCase):
    def test_a_misconfigured_database_is_an_error_at_once(self):
        nowhere = {"DATABASE_NAME": "/nowhere/at all", "PGPORT": "1", "MYSQL_PORT": "1"}
        finish(start(MISCONFIGURED, **nowhere))

    def test_a_database_that_was_there_is_waited_for(self):
        async def main() -> None:
            session = DjangoSession("one")
            await session.add_items(words("a"))
            refusals = await work_here(self.refuse_twice)
            await session.add_items(words("b"))
            assert not refusals

        asyncio.run(main())
        assert stored("one") == ["a", "b"]

    def test_a_database_that_stays_away_is_an_error(self):
        async def main() -> None:
            session = DjangoSession("one")
            await session.add_items(words("a"))
            refusals = await work_here(self.refuse_twice)
            refusals.extend([True] * 10_000)
            with self.assertRaises(OperationalError):
                await session.add_items(words("b"))
            refusals.clear()
            await session.add_items(words("c"))

        with mock.patch.object(transactions, "RETRY_SECONDS", 0.2):
            asyncio.run(main())
        assert stored("one") == ["a", "c"]

    def test_a_connection_of_the_project_s_own_heals_as_well(self):
        def main() -> None:
            # A new process, whose first call of the store finds a dead connection.
            transactions._reached.clear()
            connection.ensure_connection()
            if NO_SERVER:
                connection.connection.close()
                connection.connection = None
            else:
                self.observer.end_mine()
            store.append_items("one", words("a"))

        with self.in_thread(main):
            pass
        assert stored("one") == ["a"]

    def refuse_twice(self) -> list[bool]:
        """Close this thread's connection and refuse it the next two."""
        refusals = [True] * 2
        connect = connection.connect

        def refuse() -> None:
            if refusals:
                refusals.pop()
                raise OperationalError("refused")
            connect()

        connection.close()
        connection.connect = refuse
        return refusals


WORKER = """
import asyncio, sys, threading, time
from unittest import mock
from django.core.management import call_command
from agent_sessions import DjangoSession
from agent_sessions.store import transactions

call_command("migrate", verbosity=0)
written = {f"session-{number}": [] for number in range(3)}
stop = threading.Event()

def listen():
    for line in sys.stdin:
        if line == "stop\\n":
            return stop.set()
        before = {name: len(texts) for name, texts in written.items()}
        while any(len(written[name]) < before[name] + 5 for name in written):
            time.sleep(0.01)
        print("written", flush=True)

async def write(name, texts):
    session = DjangoSession(name)
    while not stop.is_set():
        text = str(len(texts))
        await session.add_items([{"role": "user", "content": text}])
        texts.append(text)
    assert [item["content"] for item in await session.get_items()] == texts

async def main():
    await asyncio.gather(*[write(*session) for session in written.items()])

threading.Thread(target=listen, daemon=True).start()
with mock.patch.object(transactions, "_is_lost", wraps=transactions._is_lost) as lost:
    asyncio.run(main())
assert lost.call_count >= 2, lost.call_count
"""


@no_server
class RestartTests(TransactionTestCase):
    def test_a_worker_does_not_notice_that_its_server_was_restarted(self):
        with CLUSTERS[connection.vendor]() as cluster:
            worker = start(WORKER, **cluster.environment)
            self.addCleanup(worker.wait)
            self.addCleanup(worker.kill)
            for end in cluster.stop, cluster.crash:
                self.see_writing(worker)
                end()
                cluster.start()
                self.see_writing(worker)
            finish(worker, input="stop\n")

    def see_writing(self, worker: Any) -> None:
        """Wait until each session was written to again."""
        worker.stdin.write("write\n")
        worker.stdin.flush()
        assert worker.stdout.readline() == "written\n", worker.communicate()[1]
