"""One run at a time, also when a holder is killed or cut off."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta
from functools import partial
from typing import Any
from unittest import mock

from agents import Runner
from django.contrib.auth import get_user_model
from django.db import OperationalError, connection, connections
from django.test import TestCase, TransactionTestCase, override_settings

from agent_sessions import DjangoSession, store
from agent_sessions.crossing import close_connections, cross
from agent_sessions.exceptions import (
    SessionBusy,
    SessionGone,
    SessionOwnershipError,
    TooManySessions,
)
from agent_sessions.identifiers import uuid7
from agent_sessions.models import AgentSession
from tests.fakes import RUN_CONFIG, agent, say
from tests.processes import start
from tests.test_concurrency import ConcurrencyTestCase

User = get_user_model()

MOMENT = timedelta(seconds=1)


class LeaseTests(TestCase):
    def test_of_two_one_has_the_session(self):
        first = store.acquire_lease("s")
        with self.assertRaises(SessionBusy):
            store.acquire_lease("s")
        assert store.acquire_lease("s", lease=first) == first
        assert store.release_lease("s", first)
        assert not store.release_lease("s", first)
        second = store.acquire_lease("s")
        assert not store.release_lease("s", first)
        with self.assertRaises(SessionBusy):
            store.renew_lease("s", first)
        store.renew_lease("s", second)
        row = AgentSession.objects.get()
        assert (row.lease, row.item_count) == (second, 0)

    def test_it_ends_by_itself(self):
        first = store.acquire_lease("s", expires_in=MOMENT)
        time.sleep(MOMENT.total_seconds() * 1.5)
        # Nobody has taken it: it may go on.
        store.renew_lease("s", first, expires_in=MOMENT)
        with self.assertRaises(SessionBusy):
            store.acquire_lease("s")
        time.sleep(MOMENT.total_seconds() * 1.5)
        store.acquire_lease("s")
        with self.assertRaises(SessionBusy):
            store.renew_lease("s", first)

    def test_it_lasts_about_as_long_as_was_asked(self):
        store.acquire_lease("s", expires_in=timedelta(minutes=10))
        row = AgentSession.objects.get()
        left = row.leased_until - row.created_at
        assert timedelta(minutes=9) < left < timedelta(minutes=11)
        for none in (timedelta(0), timedelta(-1)):
            with self.assertNumQueries(0), self.assertRaises(ValueError):
                store.acquire_lease("t", expires_in=none)

    def test_clocks_that_are_set_forward_end_no_lease(self):
        sets = {
            "postgresql": "SET LOCAL TIME ZONE '{}'",
            "mysql": "SET time_zone = '{}'",
            "sqlite": "SELECT '{}'",
        }
        store.acquire_lease("s", expires_in=timedelta(hours=1))
        row = AgentSession.objects.get()
        with connection.cursor() as cursor:
            cursor.execute(sets[connection.vendor].format("+05:00"))
            try:
                with self.assertRaises(SessionBusy):
                    store.acquire_lease("s")
                with self.assertRaises(SessionBusy):
                    store.take_back_turns(row, before_turn=1)
            finally:
                cursor.execute(sets[connection.vendor].format("+00:00"))

    def test_it_is_for_whom_the_session_is(self):
        alice, bob = (User.objects.create(username=name) for name in "ab")
        lease = store.acquire_lease("s", user=alice)
        for user in (bob, None):
            for verb in (
                lambda user: store.acquire_lease("s", user=user),
                lambda user: store.renew_lease("s", lease, user=user),
                lambda user: store.release_lease("s", lease, user=user),
            ):
                with self.assertRaises(SessionOwnershipError):
                    verb(user)
        row = AgentSession.objects.get()
        assert row.user == alice
        store.delete_session(row)
        with self.assertRaises(SessionGone):
            store.acquire_lease(row)
        with self.assertRaises(SessionGone):
            store.renew_lease(row, lease)

    def test_a_session_too_many_is_not_made_for_it(self):
        alice = User.objects.create(username="alice")
        store.acquire_lease("s", user=alice)
        with self.settings(AGENT_SESSIONS_MAX_SESSIONS=1):
            with self.assertRaises(TooManySessions):
                store.acquire_lease("t", user=alice)
            with self.assertRaises(SessionBusy):
                store.acquire_lease("s", user=alice)
        assert AgentSession.objects.count() == 1

    def test_a_new_owner_finds_it_free(self):
        alice, bob = (User.objects.create(username=name) for name in "ab")
        lost = store.acquire_lease("s")
        store.claim_session("s", alice)
        taken = store.acquire_lease("s", user=alice)
        assert taken != lost
        # Claimed again, it changes nothing: it is hers.
        store.claim_session("s", alice)
        with self.assertRaises(SessionBusy):
            store.acquire_lease("s", user=alice)
        store.transfer_session("s", bob, user=alice)
        store.acquire_lease("s", user=bob)

    def test_a_fork_is_free(self):
        store.append_items("s", [{"role": "user", "content": "a"}])
        store.acquire_lease("s")
        fork = store.fork_session("s")
        store.acquire_lease(fork)
        before = AgentSession.objects.get(session_id="s")
        store.append_items("s", [{"role": "user", "content": "b"}])
        after = AgentSession.objects.get(session_id="s")
        assert after.lease == before.lease


class ExclusiveTests(TransactionTestCase):
    def setUp(self):
        self.addCleanup(close_connections)

    def row(self) -> AgentSession:
        return AgentSession.objects.get(session_id="s")

    def test_runs_come_one_after_the_other(self):
        running = 0

        async def run(number: int) -> None:
            nonlocal running
            session = DjangoSession("s")
            async with session.exclusive(timeout=30):
                running += 1
                assert running == 1
                bot = agent([say(str(number))])
                await Runner.run(bot, "x", session=session, run_config=RUN_CONFIG)
                running -= 1

        async def main() -> None:
            await asyncio.gather(*map(run, range(4)))
            with self.assertRaises(SessionBusy):
                async with (
                    DjangoSession("s").exclusive(),
                    DjangoSession("s").exclusive(timeout=0.1),
                ):
                    raise AssertionError

        asyncio.run(main())
        roles = list(self.row().items.in_order().values_list("role", flat=True))
        assert roles == ["user", "assistant"] * 4
        assert (self.row().lease, self.row().leased_until) == (None, None)

    def test_it_is_renewed_for_as_long_as_the_block_takes(self):
        async def main() -> None:
            async with DjangoSession("s").exclusive(expires_in=MOMENT):
                for _ in range(5):
                    await asyncio.sleep(MOMENT.total_seconds() / 2)
                    with self.assertRaises(SessionBusy):
                        async with DjangoSession("s").exclusive():
                            raise AssertionError

        asyncio.run(main())
        assert self.row().lease is None

    def test_who_has_lost_it_is_stopped(self):
        lease = uuid7()

        def take() -> None:
            AgentSession.objects.update(lease=lease)
            connections.close_all()

        async def main() -> None:
            async with DjangoSession("s").exclusive(expires_in=MOMENT):
                await asyncio.to_thread(take)
                await asyncio.sleep(30)

        with self.assertRaisesMessage(SessionBusy, "lost"):
            asyncio.run(main())
        assert self.row().lease == lease

    def test_who_cannot_reach_the_database_is_stopped_in_time(self):
        broken = mock.Mock(side_effect=OperationalError)

        async def main() -> None:
            async with DjangoSession("s").exclusive(expires_in=MOMENT * 2):
                with mock.patch.object(store, "renew_lease", broken):
                    await asyncio.sleep(30)

        with self.assertLogs("agent_sessions"), self.assertRaises(SessionBusy):
            asyncio.run(main())
        assert broken.call_count >= 2

    def test_who_gets_no_answer_is_stopped_in_time(self):
        stopped, answered = threading.Event(), []

        def be_silent(*args: Any, **options: Any) -> None:
            answered.append(stopped.wait(20))

        async def main() -> None:
            try:
                async with DjangoSession("s").exclusive(expires_in=MOMENT):
                    with mock.patch.object(store, "renew_lease", be_silent):
                        await asyncio.sleep(30)
            finally:
                stopped.set()

        with self.assertRaisesMessage(SessionBusy, "lost"):
            asyncio.run(main())
        # It did not wait for the answer either.
        assert answered == [True]

    def test_a_loop_that_stood_still_goes_on_if_nobody_has_come(self):
        def stand_still(other: bool) -> None:
            time.sleep(MOMENT.total_seconds() * 2.5)
            if other:
                store.acquire_lease("s")
            connections.close_all()

        async def main(other: bool) -> None:
            async with DjangoSession("s").exclusive(expires_in=MOMENT * 2):
                thread = threading.Thread(target=stand_still, args=[other])
                thread.start()
                thread.join()
                await asyncio.sleep(MOMENT.total_seconds())

        asyncio.run(main(False))
        with self.assertRaisesMessage(SessionBusy, "lost"):
            asyncio.run(main(True))

    def test_a_block_is_for_one_use(self):
        async def main() -> None:
            block = DjangoSession("s").exclusive()

            async def enter() -> None:
                async with block:
                    await asyncio.sleep(0.1)

            # Both would hold the same lease.
            results = await asyncio.gather(enter(), enter(), return_exceptions=True)
            assert [type(it) for it in results] == [type(None), RuntimeError]

        asyncio.run(main())
        assert self.row().lease is None

    def test_errors_and_cancellation_give_it_back(self):
        async def fail() -> None:
            async with DjangoSession("s").exclusive():
                raise KeyError("mine")

        async def cancelled(timeout: float) -> None:
            async with DjangoSession("s").exclusive(timeout=timeout):
                await asyncio.sleep(30)

        async def main() -> None:
            with self.assertRaises(KeyError):
                await fail()
            for delay in (0, 0.001, 0.01, 0.1):
                task = asyncio.create_task(cancelled(5))
                await asyncio.sleep(delay)
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await task
            with self.assertRaises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await cancelled(0)
            async with DjangoSession("s").exclusive():
                pass

        asyncio.run(main())
        assert self.row().lease is None

    def test_a_lease_that_was_taken_before_is_gone_on_with(self):
        lease = store.acquire_lease("s", expires_in=timedelta(minutes=5))

        async def main() -> None:
            with self.assertRaises(SessionBusy):
                async with DjangoSession("s").exclusive():
                    raise AssertionError
            async with DjangoSession("s").exclusive(lease=lease):
                with self.assertRaises(SessionBusy):
                    async with DjangoSession("s").exclusive(lease=uuid7()):
                        raise AssertionError

        asyncio.run(main())
        assert self.row().lease is None

    def test_a_session_that_leaves_takes_its_lease_along(self):
        alice = User.objects.create(username="alice")

        async def main() -> None:
            for leave in (
                lambda: store.claim_session("s", alice),
                lambda: store.delete_session("s", user=alice),
            ):
                rows = AgentSession.objects.filter(session_id="s")
                row = await cross(rows.first, using="default")
                session = row.as_sdk_session() if row else DjangoSession("s")
                async with session.exclusive():
                    await cross(leave, using="default")

        with self.assertNoLogs("agent_sessions"):
            asyncio.run(main())
        assert not AgentSession.objects.exists()

    @override_settings(AGENT_SESSIONS_THREADS=1)
    def test_who_is_cancelled_on_leaving_gives_it_back(self):
        async def main() -> None:
            busy: list[Any] = []

            async def leave() -> None:
                loop, task = asyncio.get_running_loop(), asyncio.current_task()
                async with DjangoSession("s").exclusive():
                    # The only thread has other work, so that giving back must wait.
                    other = cross(partial(time.sleep, 0.5), using="default")
                    busy.append(asyncio.create_task(other))
                    for delay in (0.1, 0.2):
                        loop.call_later(delay, task.cancel)

            with self.assertRaises(asyncio.CancelledError):
                await asyncio.create_task(leave())
            await busy[0]

        asyncio.run(main())
        assert self.row().lease is None

    def test_who_is_cancelled_while_it_is_renewed_gives_it_back(self):
        renewing, go_on = threading.Event(), threading.Event()
        renew = store.renew_lease

        def renew_slowly(*arguments: Any, **options: Any) -> None:
            renewing.set()
            go_on.wait(20)
            renew(*arguments, **options)

        async def leave() -> None:
            loop, task = asyncio.get_running_loop(), asyncio.current_task()
            async with DjangoSession("s").exclusive(expires_in=MOMENT * 2):
                with mock.patch.object(store, "renew_lease", renew_slowly):
                    while not renewing.is_set():
                        await asyncio.sleep(0.01)
                # Leaving waits for the renewal, which is on its way.
                loop.call_later(0.1, task.cancel)
                loop.call_later(0.2, go_on.set)

        async def main() -> None:
            with self.assertRaises(asyncio.CancelledError):
                await asyncio.create_task(leave())

        asyncio.run(main())
        assert self.row().lease is None

    def test_a_holder_that_is_killed_keeps_it_for_a_while(self):
        code = "from agent_sessions import store; from datetime import timedelta as t\n"
        code += "store.acquire_lease('s', expires_in=t(seconds=3)); print('mine', "
        code += "flush=True); input()"
        process = start(code)
        assert process.stdout.readline() == "mine\n"
        process.kill()
        process.communicate()

        async def main() -> float:
            with self.assertRaises(SessionBusy):
                async with DjangoSession("s").exclusive():
                    raise AssertionError
            began = time.monotonic()
            async with DjangoSession("s").exclusive(timeout=30):
                return time.monotonic() - began

        assert asyncio.run(main()) < 10


class TogetherTests(ConcurrencyTestCase):
    def test_sixteen_in_four_processes_take_turns(self):
        self.run_together(*((take_turns, process, "s") for process in range(4)))
        row = AgentSession.objects.get()
        roles = list(row.items.in_order().values_list("role", flat=True))
        assert roles == ["user", "assistant"] * 16
        assert (row.turn_count, row.lease) == (16, None)


def take_turns(process: int, session_id: str) -> None:
    async def write(writer: int) -> None:
        session = DjangoSession(session_id)
        async with session.exclusive(timeout=60):
            for role in ("user", "assistant"):
                items: list[Any] = [{"role": role, "content": f"{process} {writer}"}]
                await session.add_items(items)

    async def main() -> None:
        await asyncio.gather(*map(write, range(4)))

    asyncio.run(main())
