"""
What many processes do to the same rows at once, without any help from each other.

Each test starts real processes, lets them go together and looks at what is left. A
worker function runs in such a process: whatever it raises fails the test.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from importlib import import_module
from itertools import chain
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import DatabaseError, connections
from django.test import TransactionTestCase

from agent_sessions import DjangoSession, signals, store
from agent_sessions.exceptions import (
    InvalidUser,
    SessionExists,
    SessionGone,
    SessionOwnershipError,
)
from agent_sessions.models import AgentSession, SessionItem
from tests.processes import finish, start

PROCESSES = 4
WRITERS = 16
BATCHES = 6

Items = list[dict[str, Any]]


class ConcurrencyTestCase(TransactionTestCase):
    def run_together(self, *calls: tuple[Any, ...]) -> list[Any]:
        """Call each (worker, *arguments) in its own process; return their results."""
        processes = []
        for worker, *arguments in calls:
            code = "from tests.test_concurrency import serve; serve()"
            name = (worker.__module__, worker.__name__)
            process = start(code, *name, json.dumps(arguments))
            self.addCleanup(process.wait)
            self.addCleanup(process.kill)
            processes.append(process)
        for process in processes:
            process.stdout.readline()
        for process in processes:
            # One that has failed already says why in finish().
            with suppress(BrokenPipeError):
                process.stdin.write("go\n")
                process.stdin.flush()
        with ThreadPoolExecutor(len(processes)) as executor:
            results = [executor.submit(finish, process) for process in processes]
            for result in as_completed(results):
                if result.exception():
                    # The others may be waiting for the one that failed.
                    for process in processes:
                        process.kill()
                    result.result()
        return [json.loads(result.result()) for result in results]

    def stored(self, session_id: str) -> tuple[AgentSession, list[SessionItem]]:
        """Return the session and its items, after comparing its counters with them."""
        session = AgentSession.objects.get(session_id=session_id)
        items = list(session.items.in_order())
        turns = [item.turn for item in items if item.role == "user"]
        assert session.item_count == len(items)
        assert session.turn_count == len(turns)
        assert turns == sorted(set(turns))
        assert all(turn < session.next_turn for turn in turns)
        assert all(item.position < session.next_position for item in items)
        assert store.read_items(session) == [item.data for item in items]
        return session, items


def serve() -> None:
    """Do in a process of our own what the test asked for."""
    module, name, arguments = sys.argv[1:]
    worker = getattr(import_module(module), name)
    connect()
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(worker(*json.loads(arguments))))


def connect() -> None:
    """Have all connections before the processes are let go."""

    async def main() -> None:
        reads = (DjangoSession("nothing").get_items() for _ in range(8))
        await asyncio.gather(*reads)

    asyncio.run(main())
    store.read_items("nothing")


def batches(writer: int, count: int = BATCHES) -> Iterator[Items]:
    """Return a writer's batches of one to four items; the first opens a turn."""
    for number in range(count):
        size = 1 + (writer + number) % 4
        yield [
            {
                "role": "assistant" if (number + index) % 3 else "user",
                "content": f"{writer}/{number}/{index}",
                "batch": [writer, number, size],
            }
            for index in range(size)
        ]


def words(items: Items) -> list[str]:
    return [item["content"] for item in items]


def flat(lists: Iterable[list[Any]]) -> list[Any]:
    return list(chain.from_iterable(lists))


# Workers


def write_from_coroutines(
    process: int,
    session_id: str,
    user_id: int | None,
    writers: int = WRITERS,
    count: int = BATCHES,
) -> None:
    async def write(writer: int) -> None:
        session = DjangoSession(session_id, user_id=user_id)
        for batch in batches(writer, count):
            await session.add_items(batch)

    async def main() -> None:
        first = process * writers
        await asyncio.gather(*map(write, range(first, first + writers)))

    asyncio.run(main())


def write_from_threads(process: int, session_id: str) -> None:
    failures: list[BaseException] = []

    def write(writer: int) -> None:
        try:
            for batch in batches(writer):
                store.append_items(session_id, batch)
        except BaseException as error:
            failures.append(error)
        finally:
            connections.close_all()

    first = process * WRITERS
    threads = [
        threading.Thread(target=write, args=[writer])
        for writer in range(first, first + WRITERS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise ExceptionGroup(f"{len(failures)} writers failed", failures)


def write_first_items(process: int, session_ids: list[str], user_id: int) -> list[str]:
    """Return the ids of the sessions that this process was told it has created."""
    created: list[str] = []

    def note(session_id: str, **facts: Any) -> None:
        created.append(session_id)

    async def write(session_id: str) -> None:
        session = DjangoSession(session_id, user_id=user_id)
        await session.add_items([say("user", f"{process} asks")])
        await session.add_items([say("assistant", f"{process} answers")])

    async def main() -> None:
        await asyncio.gather(*map(write, session_ids))

    signals.session_created.connect(note)
    asyncio.run(main())
    return created


def write_one_after_another(session_ids: list[str], user_id: int) -> None:
    async def main() -> None:
        for session_id in session_ids:
            session = DjangoSession(session_id, user_id=user_id)
            await session.add_items([say("user", "a"), say("assistant", "b")])

    asyncio.run(main())


def read_one_after_another(session_ids: list[str], user_id: int) -> list[list[str]]:
    """Return what was read of each session as soon as there was anything."""

    async def read(session_id: str) -> list[str]:
        while True:
            # A new object each time: it never saw a row.
            session = DjangoSession(session_id, user_id=user_id)
            if items := await session.get_items():
                return words(items)

    async def main() -> list[list[str]]:
        return [await read(session_id) for session_id in session_ids]

    return asyncio.run(main())


def write_in_thirds(process: int, session_id: str, readers: list[str]) -> None:
    """Write as 4 writers; after each third every reader must have read more."""

    async def write(session: DjangoSession, some: list[Items]) -> None:
        for batch in some:
            await session.add_items(batch)

    async def main() -> None:
        writers = range(process * 4, process * 4 + 4)
        sessions = {writer: DjangoSession(session_id) for writer in writers}
        for third in range(3):
            for reader in readers:
                while len(await DjangoSession(reader).get_items()) < third:
                    await asyncio.sleep(0.01)
            await asyncio.gather(
                *(
                    write(session, list(batches(writer, 12))[4 * third :][:4])
                    for writer, session in sessions.items()
                )
            )

    asyncio.run(main())


def read_until(session_id: str, count: int, reader: str) -> list[int]:
    """
    Read until there are ``count`` items; return how many there were each time.

    The session ``reader`` is told of the first times that there were more.
    """

    async def main() -> list[int]:
        session, told = DjangoSession(session_id), DjangoSession(reader)
        earlier: list[str] = []
        lengths = []
        while len(earlier) < count:
            now = words(await session.get_items())
            missing = set(earlier) - set(now)
            assert now[: len(earlier)] == earlier, (len(earlier), len(now), missing)
            if len(now) > len(earlier) and len(set(lengths)) < 4:
                await told.add_items([say("assistant", str(len(now)))])
            lengths.append(len(now))
            earlier = now
        return lengths

    return asyncio.run(main())


def pop_until_empty(session_id: str) -> list[str]:
    async def pop() -> list[str]:
        session = DjangoSession(session_id)
        popped = []
        while (item := await session.pop_item()) is not None:
            popped.append(item["content"])
        assert await session.get_items() == []
        return popped

    async def main() -> list[str]:
        several = await asyncio.gather(pop(), pop(), pop())
        for popped in several:
            numbers = list(map(int, popped))
            assert numbers == sorted(numbers, reverse=True)
        return flat(several)

    return asyncio.run(main())


def pop_some(session_id: str, times: int) -> list[str]:
    popped = [store.pop_item(session_id) for _ in range(times)]
    return words([item for item in popped if item is not None])


def clear_often(session_id: str, times: int) -> None:
    for _ in range(times):
        store.clear_session(session_id)


def create_all(session_ids: list[str], user_id: int) -> list[str]:
    """Return the ids that were still free."""
    user = get_user_model().objects.get(pk=user_id)
    created = []
    for session_id in session_ids:
        try:
            row = store.create_session(user, session_id=session_id)
        except SessionExists:
            continue
        created.append(row.session_id)
    return created


def claim_all(session_ids: list[str], user_id: int) -> list[str]:
    """Return the ids of the sessions that this user has won."""
    user = get_user_model().objects.get(pk=user_id)

    async def claim(session_id: str) -> str | None:
        session = DjangoSession(session_id)
        try:
            await session.claim(user)
        except SessionOwnershipError:
            return None
        await session.add_items([say("user", f"{user_id} was here")])
        return session_id

    async def main() -> list[str]:
        answers = [await claim(session_id) for session_id in session_ids]
        return [session_id for session_id in answers if session_id is not None]

    return asyncio.run(main())


def keep_in_mind(process: int, user_id: int, count: int) -> None:
    for number in range(count):
        store.update_user_metadata({f"{process}/{number}": number}, user_id=user_id)


def append_until_refused(process: int, session_id: str, user_id: int) -> list[str]:
    """Return what was stored before the session was closed to its user."""
    stored: list[str] = []

    async def main() -> None:
        session = DjangoSession(session_id, user_id=user_id)
        for number in range(5000):
            word = f"{process}/{number}"
            await session.add_items([say("user", word)])
            stored.append(word)
            # As models do. Django's delete locks nothing, and the more there is the
            # longer it takes: writers without any pause can starve it.
            await asyncio.sleep(random.uniform(0, 0.004))

    with suppress(InvalidUser, SessionGone, SessionOwnershipError):
        asyncio.run(main())
        raise AssertionError("The session stayed open.")
    return stored


def open_until_refused(process: int, user_id: int, count: int) -> list[str]:
    """Return the ids of the sessions that could be opened for the user."""
    opened = []
    for number in range(count):
        session = store.session_handle(f"{process}/{number}")
        session.user_id = user_id
        try:
            store.append_items(session, [say("user", "a")])
        except InvalidUser:
            break
        opened.append(session.session_id)
    return opened


def delete_user(user_id: int, after_items: int, sessions: str) -> None:
    settings.AGENT_SESSIONS_ON_USER_DELETE = sessions
    user = get_user_model().objects.get(pk=user_id)
    while user.pk is not None:
        # Django collects before it deletes and locks nothing: a session that came in
        # between breaks the foreign key, or a deadlock is broken here.
        with suppress(DatabaseError):
            if SessionItem.objects.count() >= after_items:
                user.delete()


def delete_session(session_id: str, user_id: int, writers: int) -> bool:
    user = get_user_model().objects.get(pk=user_id)
    # Who has not seen the session yet would start a new one.
    for process in range(writers):
        while f"{process}/1" not in words(store.read_items(session_id, user=user)):
            pass
    return store.delete_session(session_id, user=user)


def say(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}


class AppendTests(ConcurrencyTestCase):
    def check_order(self, session_id: str) -> list[SessionItem]:
        session, items = self.stored(session_id)
        assert session.next_position == len(items)
        assert [item.position for item in items] == list(range(len(items)))
        turns = [item.turn for item in items if item.role == "user"]
        assert turns == list(range(1, session.next_turn))
        written: dict[int, Items] = defaultdict(list)
        rest = [item.data for item in items]
        while rest:
            writer, number, size = rest[0]["batch"]
            batch, rest = rest[:size], rest[size:]
            assert [item["batch"] for item in batch] == [[writer, number, size]] * size
            written[writer] += batch
        for writer in range(PROCESSES * WRITERS):
            assert written.pop(writer) == flat(batches(writer))
        assert not written
        return items

    def test_coroutines_of_many_processes_share_a_session(self):
        user = get_user_model().objects.create_user("alice")
        self.run_together(
            *(
                (write_from_coroutines, process, "shared", user.pk)
                for process in range(PROCESSES)
            )
        )
        items = self.check_order("shared")
        current: dict[int, int] = {}
        for item in items:
            writer = item.data["batch"][0]
            if item.role == "user":
                current[writer] = item.turn
            assert item.turn == current[writer]

    def test_threads_of_many_processes_share_a_session(self):
        self.run_together(
            *((write_from_threads, process, "shared") for process in range(PROCESSES))
        )
        current = 0
        for item in self.check_order("shared"):
            if item.role == "user":
                current = item.turn
            assert item.turn == current

    def test_an_earlier_read_is_a_prefix_of_a_later_one(self):
        names = ["one reader", "another"]
        writers = [(write_in_thirds, n, "shared", names) for n in (0, 1)]
        count = sum(len(batch) for n in range(8) for batch in batches(n, 12))
        readers = [(read_until, "shared", count, name) for name in names]
        lengths = self.run_together(*writers, *readers)[2:]
        for seen in lengths:
            assert len(set(seen)) > 2, "The readers came before or after the writers."
            assert seen[-1] == count
        self.stored("shared")


class FirstWriteTests(ConcurrencyTestCase):
    def setUp(self):
        self.user = get_user_model().objects.create_user("alice")
        self.ids = [f"session {number}" for number in range(20)]

    def test_racing_first_writes_make_one_session(self):
        created = self.run_together(
            *(
                (write_first_items, process, self.ids, self.user.pk)
                for process in range(PROCESSES)
            )
        )
        assert Counter(flat(created)) == Counter(self.ids)
        assert AgentSession.objects.count() == len(self.ids)
        for session_id in self.ids:
            session, items = self.stored(session_id)
            assert (session.user_id, session.next_position) == (self.user.pk, 8)
            turns = defaultdict(list)
            for item in items:
                turns[item.turn].append(item.data["content"])
            assert sorted(turns.values()) == [
                [f"{process} asks", f"{process} answers"]
                for process in range(PROCESSES)
            ]

    def test_a_read_beside_the_first_write_is_not_refused(self):
        half = len(self.ids) // 2
        results = self.run_together(
            (write_one_after_another, self.ids[:half], self.user.pk),
            (write_one_after_another, self.ids[half:], self.user.pk),
            (read_one_after_another, self.ids[:half], self.user.pk),
            (read_one_after_another, self.ids[half:], self.user.pk),
        )
        assert results[2:] == [[["a", "b"]] * half] * 2

    def test_racing_creations_make_one_session(self):
        created = self.run_together(*[(create_all, self.ids, self.user.pk)] * PROCESSES)
        assert Counter(flat(created)) == Counter(self.ids)
        assert AgentSession.objects.count() == len(self.ids)


class RemovalTests(ConcurrencyTestCase):
    def test_racing_pops_hand_out_each_item_once(self):
        numbers = list(map(str, range(80)))
        store.append_items("shared", [say("user", number) for number in numbers])
        popped = self.run_together(*[(pop_until_empty, "shared")] * PROCESSES)
        assert Counter(flat(popped)) == Counter(numbers)
        session, items = self.stored("shared")
        assert (session.item_count, session.turn_count, items) == (0, 0, [])
        assert (session.preview, session.next_position) == ("", 80)

    def test_pops_beside_appends_take_each_item_once(self):
        popped = self.run_together(
            (write_from_coroutines, 0, "shared", None, 8),
            (write_from_coroutines, 1, "shared", None, 8),
            (pop_some, "shared", 60),
            (pop_some, "shared", 60),
        )[2:]
        written = [words(batch) for n in range(16) for batch in batches(n)]
        session, items = self.stored("shared")
        left = words([item.data for item in items])
        assert Counter(flat([*popped, left])) == Counter(flat(written))
        assert session.next_position == len(flat(written))

    def test_clears_beside_appends_leave_whole_batches(self):
        self.run_together(
            (write_from_coroutines, 0, "shared", None, 8),
            (write_from_coroutines, 1, "shared", None, 8),
            (clear_often, "shared", 30),
            (clear_often, "shared", 30),
        )
        session, items = self.stored("shared")
        written = sum(len(batch) for n in range(16) for batch in batches(n))
        assert session.next_position == written
        positions = [item.position for item in items]
        assert positions == list(range(written - len(items), written))
        for batch, found in Counter(str(item.data["batch"]) for item in items).items():
            assert found == json.loads(batch)[2]

    def test_a_deleted_session_takes_all_items_along(self):
        user = get_user_model().objects.create_user("alice")
        stored = self.run_together(
            (append_until_refused, 0, "shared", user.pk),
            (append_until_refused, 1, "shared", user.pk),
            (append_until_refused, 2, "shared", user.pk),
            (delete_session, "shared", user.pk, 3),
        )
        assert stored.pop() is True
        assert all(len(words) > 1 for words in stored)
        assert not AgentSession.objects.exists()
        assert not SessionItem.objects.exists()


class OwnerTests(ConcurrencyTestCase):
    def test_of_racing_claims_exactly_one_wins(self):
        users = [
            get_user_model().objects.create_user(f"user {number}").pk
            for number in range(PROCESSES)
        ]
        ids = [f"session {number}" for number in range(20)]
        for session_id in ids:
            store.append_items(session_id, [say("user", "who am I?")])
        won = self.run_together(*((claim_all, ids, user) for user in users))
        assert Counter(flat(won)) == Counter(ids)
        for user, session_ids in zip(users, won, strict=True):
            for session_id in session_ids:
                session, items = self.stored(session_id)
                assert (session.user_id, session.is_orphaned) == (user, False)
                assert session.owned_at is not None
                assert items[-1].data["content"] == f"{user} was here"
                assert len(items) == 2

    def test_racing_updates_of_a_users_metadata_all_take_effect(self):
        user = get_user_model().objects.create_user("alice")
        self.run_together(
            *((keep_in_mind, process, user.pk, 10) for process in range(PROCESSES))
        )
        assert store.read_user_metadata(user) == {
            f"{process}/{number}": number
            for process in range(PROCESSES)
            for number in range(10)
        }

    def test_a_deleted_user_leaves_what_was_stored_before(self):
        user = get_user_model().objects.create_user("alice")
        stored = self.run_together(
            (append_until_refused, 0, "shared", user.pk),
            (append_until_refused, 1, "shared", user.pk),
            (append_until_refused, 2, "shared", user.pk),
            (delete_user, user.pk, 20, "keep"),
        )[:3]
        session, items = self.stored("shared")
        assert session.is_orphaned
        assert session.next_position == len(items) >= 20
        found = words([item.data for item in items])
        assert Counter(found) == Counter(flat(stored))

    def test_a_deleted_user_may_take_all_sessions_along(self):
        user = get_user_model().objects.create_user("alice")
        self.run_together(
            (append_until_refused, 0, "shared", user.pk),
            (append_until_refused, 1, "shared", user.pk),
            (append_until_refused, 2, "another", user.pk),
            (delete_user, user.pk, 20, "delete"),
        )
        assert not AgentSession.objects.exists()
        assert not SessionItem.objects.exists()

    def test_a_deleted_user_gets_no_new_session(self):
        user = get_user_model().objects.create_user("alice")
        opened = self.run_together(
            (open_until_refused, 0, user.pk, 60),
            (open_until_refused, 1, user.pk, 60),
            (delete_user, user.pk, 20, "keep"),
        )[:2]
        sessions = AgentSession.objects.orphaned()
        assert sessions.count() == AgentSession.objects.count()
        found = sessions.values_list("session_id", flat=True)
        assert Counter(found) == Counter(flat(opened))
