"""Which thread and which connection a call runs on, and what becomes of its writes."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import json
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest import mock, skipUnless

from agents import Runner, function_tool
from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.db import connection, connections, transaction
from django.http import JsonResponse
from django.test import (
    SimpleTestCase,
    TestCase,
    TransactionTestCase,
    override_settings,
)
from django.urls import path

from agent_sessions import DjangoSession, store
from agent_sessions.crossing import close_connections, cross, hop, pool
from agent_sessions.crossing.jobs import Completions, Job
from agent_sessions.exceptions import SessionLockTimeout
from agent_sessions.models import SessionItem
from agent_sessions.signals import items_added
from tests.fakes import RUN_CONFIG, agent, call, say
from tests.observer import observe, wait_until
from tests.processes import finish, start

THREADS = 4
# What bare loops may hold open: SQLite has one writer at a time anyway.
CONNECTIONS = 1 if connection.vendor == "sqlite" else THREADS


def words(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def stored(session_id: str) -> list[str]:
    return [item["content"] for item in store.read_items(session_id)]


def count(session_id: str) -> int:
    return len(store.read_items(session_id))


def options(session_id: str) -> dict[str, Any]:
    return {"session": DjangoSession(session_id), "run_config": RUN_CONFIG}


async def thread_of_work() -> threading.Thread:
    return await cross(threading.current_thread, using="default")


def is_own(thread: threading.Thread) -> bool:
    return thread.name == "agent_sessions"


def own_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if is_own(thread)]


def in_thread(function: Callable[[], Any]) -> Any:
    """Return what ``function`` returns in a new thread; fail if it hangs."""
    results: list[Any] = []
    errors: list[BaseException] = []

    def target() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive(), "it hangs"
    if errors:
        raise errors[0]
    return results[0]


class CrossingTestCase(TransactionTestCase):
    def setUp(self):
        self.observer = observe()
        self.addCleanup(self.observer.close)
        self.addCleanup(close_connections)


# Views, each on a session that is named as the view is.


async def awaiting(request):
    await Runner.run(agent([say("Hello")]), "Hi", **options("awaiting"))
    of_request = await sync_to_async(threading.current_thread)()
    return JsonResponse({"same": await thread_of_work() is of_request})


async def awaiting_in_a_transaction(request):
    session = DjangoSession("awaiting_in_a_transaction")
    block = transaction.atomic()
    await sync_to_async(block.__enter__)()
    await session.add_items(words("Hi"))
    seen = len(await session.get_items())
    await sync_to_async(transaction.set_rollback)(True)
    await sync_to_async(block.__exit__)(None, None, None)
    return JsonResponse({"seen": seen})


def bridging(request):
    async_to_sync(Runner.run)(agent([say("Hello")]), "Hi", **options("bridging"))
    return JsonResponse({"seen": count("bridging")})


def bridging_in_a_transaction(request):
    name = "bridging_in_a_transaction"
    with transaction.atomic():
        async_to_sync(Runner.run)(agent([say("Hello")]), "Hi", **options(name))
        seen = count(name)
        transaction.set_rollback(True)
    return JsonResponse({"seen": seen})


def blocking(request):
    Runner.run_sync(agent([say("Hello")]), "Hi", **options("blocking"))
    return JsonResponse({"seen": count("blocking")})


def blocking_in_a_transaction(request):
    with transaction.atomic():
        store.append_items("blocking_in_a_transaction", words("Hi"))
        try:
            asyncio.run(DjangoSession("blocking_in_a_transaction").get_items())
            asyncio.run(DjangoSession("blocking_in_a_transaction").add_items(words("")))
        except SessionLockTimeout:
            return JsonResponse({"refused": True})
    return JsonResponse({"refused": False})


def blocking_with_a_tool(request):
    @function_tool
    def ask_a_colleague() -> str:
        """Run another agent, in the thread that the SDK runs its tools in."""
        colleague = agent([say("It is")])
        Runner.run_sync(colleague, "Is it?", **options("blocking_with_a_tool"))
        return "yes"

    asked = agent([call("ask_a_colleague")], [say("Yes")], tools=[ask_a_colleague])
    result = Runner.run_sync(asked, "Is it?", run_config=RUN_CONFIG)
    return JsonResponse({"answer": result.final_output})


left: list[asyncio.Task[Any]] = []


async def leave_a_task(name: str) -> None:
    async def write() -> None:
        await finished.wait()
        await DjangoSession(name).add_items(words("Later"))

    finished = asyncio.Event()
    task = asyncio.create_task(write())
    left.append(task)
    task.finish = finished.set


async def leaving_a_task(request):
    await leave_a_task("leaving_a_task")
    return JsonResponse({})


def leaving_a_task_from_sync(request):
    async_to_sync(leave_a_task)("leaving_a_task_from_sync")
    return JsonResponse({})


urlpatterns = [
    path(f"{view.__name__}/", view)
    for view in [
        awaiting,
        awaiting_in_a_transaction,
        bridging,
        bridging_in_a_transaction,
        blocking,
        blocking_in_a_transaction,
        blocking_with_a_tool,
        leaving_a_task,
        leaving_a_task_from_sync,
    ]
]


async def get(view: Any) -> Any:
    """Send a request as an ASGI server does and return the answer's JSON."""
    messages = [{"type": "http.request", "body": b"", "more_body": False}]
    body = []

    async def receive() -> Any:
        # Then the client stays until it has its answer.
        return messages.pop() if messages else await asyncio.Future()

    async def send(message: Any) -> None:
        body.append(message.get("body", b""))

    scope = {
        "type": "http",
        "method": "GET",
        "path": f"/{view.__name__}/",
        "query_string": b"",
        "headers": [(b"host", b"testserver")],
    }
    await ASGIHandler()(scope, receive, send)
    return json.loads(b"".join(body))


@override_settings(ROOT_URLCONF=__name__)
class AsgiRequestTests(CrossingTestCase):
    def get(self, view: Any) -> Any:
        return in_thread(lambda: asyncio.run(get(view)))

    def test_an_async_view_runs_on_its_request_s_thread(self):
        assert self.get(awaiting) == {"same": True}
        assert count("awaiting") == 2
        assert own_threads() == []

    def test_a_request_leaves_no_connection_behind(self):
        self.get(awaiting)
        wait_until(lambda: not self.observer.connected())

    def test_an_async_view_shares_the_transaction_of_its_thread(self):
        assert self.get(awaiting_in_a_transaction) == {"seen": 1}
        assert count("awaiting_in_a_transaction") == 0

    def test_a_sync_view_awaits_through_async_to_sync(self):
        assert self.get(bridging) == {"seen": 2}
        assert own_threads() == []

    def test_a_sync_view_s_transaction_is_shared_through_async_to_sync(self):
        assert self.get(bridging_in_a_transaction) == {"seen": 2}
        assert count("bridging_in_a_transaction") == 0

    def test_run_sync_in_a_sync_view_runs_on_our_threads(self):
        assert self.get(blocking) == {"seen": 2}
        assert own_threads()

    @override_settings(AGENT_SESSIONS_LOCK_TIMEOUT=1)
    def test_a_new_loop_in_a_sync_view_s_transaction_is_refused_its_lock(self):
        assert self.get(blocking_in_a_transaction) == {"refused": True}

    def test_run_sync_in_a_tool_of_run_sync_in_a_sync_view_does_not_hang(self):
        with mock.patch.object(hop, "BUSY_SECONDS", 0.1):
            assert self.get(blocking_with_a_tool) == {"answer": "Yes"}
        assert count("blocking_with_a_tool") == 2

    def test_a_task_that_outlives_its_request_runs_on_our_threads(self):
        for view in leaving_a_task, leaving_a_task_from_sync:
            with self.subTest(view.__name__):
                in_thread(lambda view=view: asyncio.run(self.finish_later(view)))
                assert stored(view.__name__) == ["Later"]

    async def finish_later(self, view: Any) -> None:
        await get(view)
        task = left.pop()
        task.finish()
        await task
        assert own_threads()

    def test_requests_side_by_side_have_threads_of_their_own(self):
        async def main() -> Any:
            return await asyncio.gather(*[get(awaiting) for _ in range(5)])

        store.create_session(None, session_id="awaiting")
        assert in_thread(lambda: asyncio.run(main())) == [{"same": True}] * 5
        assert count("awaiting") == 10

    async def test_django_s_async_client_gets_the_test_s_own_thread(self):
        response = await self.async_client.get("/awaiting/")
        assert response.json() == {"same": True}
        assert own_threads() == []


@override_settings(ROOT_URLCONF=__name__)
class SyncCallerTests(CrossingTestCase):
    def test_a_wsgi_view_awaits_through_async_to_sync(self):
        assert self.client.get("/bridging/").json() == {"seen": 2}
        assert own_threads() == []

    def test_a_wsgi_view_s_transaction_is_shared(self):
        response = self.client.get("/bridging_in_a_transaction/")
        assert response.json() == {"seen": 2}
        assert count("bridging_in_a_transaction") == 0

    def test_tasks_under_async_to_sync_share_the_caller_s_thread(self):
        async def main() -> set[threading.Thread]:
            return set(await asyncio.gather(*[thread_of_work() for _ in range(5)]))

        assert async_to_sync(main)() == {threading.current_thread()}

    def test_run_sync_in_a_plain_thread_runs_on_our_threads(self):
        in_thread(
            lambda: Runner.run_sync(agent([say("Hello")]), "Hi", **options("plain"))
        )
        assert count("plain") == 2
        assert own_threads()

    def test_run_sync_in_a_sync_to_async_function_does_not_hang(self):
        async def main() -> None:
            await sync_to_async(Runner.run_sync)(
                agent([say("Hello")]), "Hi", **options("nested")
            )

        in_thread(lambda: asyncio.run(main()))
        assert count("nested") == 2

    def test_run_sync_below_async_to_sync_and_sync_to_async_does_not_hang(self):
        async def main() -> None:
            await sync_to_async(Runner.run_sync)(
                agent([say("Hello")]), "Hi", **options("nested")
            )

        in_thread(async_to_sync(main))
        assert count("nested") == 2

    @override_settings(AGENT_SESSIONS_LOCK_TIMEOUT=1)
    def test_a_new_loop_in_a_transaction_is_refused_the_caller_s_lock(self):
        def main() -> None:
            with transaction.atomic():
                store.append_items("mine", words("Mine"))
                with self.assertRaises(SessionLockTimeout):
                    asyncio.run(DjangoSession("mine").add_items(words("Other")))

        in_thread(main)
        assert stored("mine") == ["Mine"]


class AsyncTestTests(TestCase):
    """Two tests that would see each other's items if one were committed."""

    async def test_a_run_is_in_the_test_s_transaction(self):
        await self.run_in_transaction()

    async def test_another_run_is_in_the_test_s_transaction(self):
        await self.run_in_transaction()

    async def run_in_transaction(self):
        session = DjangoSession("one")
        assert await session.get_items() == []
        await Runner.run(
            agent([say("Hello")]), "Hi", session=session, run_config=RUN_CONFIG
        )
        assert len(await session.get_items()) == 2
        assert await sync_to_async(threading.current_thread)() is await thread_of_work()
        assert own_threads() == []


@override_settings(AGENT_SESSIONS_THREADS=THREADS)
class BareLoopTests(CrossingTestCase):
    async def run_many(self, number: int) -> None:
        sessions = [DjangoSession(f"session-{index}") for index in range(number)]
        await asyncio.gather(*[it.add_items(words("Hi")) for it in sessions])
        answers = await asyncio.gather(*[it.get_items() for it in sessions])
        assert all(len(items) == 1 for items in answers)

    def test_hundreds_of_sessions_share_a_few_connections(self):
        asyncio.run(self.run_many(200))
        assert len(self.observer.connected()) == CONNECTIONS

    def test_connections_do_not_grow_with_loops(self):
        for _ in range(5):
            asyncio.run(thread_of_work())
            asyncio.run(self.fill())
        assert len(self.observer.connected()) == CONNECTIONS

    def test_connections_do_not_grow_with_threads(self):
        threads = [
            threading.Thread(target=lambda: asyncio.run(self.fill())) for _ in range(5)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(self.observer.connected()) == CONNECTIONS

    async def fill(self) -> None:
        session = DjangoSession("one")
        await asyncio.gather(*[session.get_items() for _ in range(4 * THREADS)])

    def test_calls_one_after_another_need_one_connection(self):
        async def main() -> None:
            session = DjangoSession("one")
            for _ in range(50):
                await session.get_items()

        asyncio.run(main())
        assert len(self.observer.connected()) == 1

    def test_as_many_calls_run_side_by_side_as_there_are_threads(self):
        together = threading.Barrier(CONNECTIONS)

        async def main() -> None:
            meet = [cross(together.wait, using="default") for _ in range(CONNECTIONS)]
            await asyncio.wait_for(asyncio.gather(*meet), 20)

        for _ in range(20):
            asyncio.run(main())
        assert len(own_threads()) == CONNECTIONS

    @override_settings(AGENT_SESSIONS_THREADS=0)
    def test_there_is_a_thread_even_if_the_settings_say_none(self):
        async def main() -> threading.Thread:
            return await asyncio.wait_for(thread_of_work(), 20)

        assert is_own(asyncio.run(main()))

    def test_closing_ends_threads_and_connections(self):
        asyncio.run(self.run_many(20))
        close_connections()
        assert own_threads() == []
        wait_until(lambda: not self.observer.connected())
        assert is_own(asyncio.run(thread_of_work()))

    def test_closing_waits_for_work(self):
        with held_work() as work:

            async def main() -> Any:
                task = asyncio.create_task(cross(work, using="default"))
                await asyncio.to_thread(work.begun.wait)
                closing = asyncio.create_task(asyncio.to_thread(close_connections))
                await asyncio.sleep(0.05)
                assert not closing.done()
                work.release.set()
                await closing
                return await task

            assert asyncio.run(main()) == "done"
        assert own_threads() == []

    def test_work_may_close_the_connections(self):
        async def main() -> None:
            await asyncio.wait_for(cross(close_connections, using="default"), 20)

        asyncio.run(main())
        wait_until(lambda: not own_threads())

    def test_after_a_burst_one_thread_goes_on_and_the_others_end(self):
        together = threading.Barrier(CONNECTIONS)

        async def main() -> None:
            meet = [cross(together.wait, using="default") for _ in range(CONNECTIONS)]
            await asyncio.wait_for(asyncio.gather(*meet), 20)
            last = await thread_of_work()
            until = time.monotonic() + 20
            while len(own_threads()) > 1 and time.monotonic() < until:
                assert await thread_of_work() is last
            assert own_threads() == [last]

        with mock.patch.object(pool, "IDLE_SECONDS", 0.2):
            asyncio.run(main())

    def test_idle_threads_end_with_their_connections(self):
        with mock.patch.object(pool, "IDLE_SECONDS", 0.05):
            asyncio.run(self.run_many(20))
            wait_until(lambda: not own_threads())
            wait_until(lambda: not self.observer.connected())
        assert is_own(asyncio.run(thread_of_work()))

    def test_no_call_is_lost_while_threads_come_and_go(self):
        async def main() -> None:
            for index in range(300):
                await asyncio.wait_for(thread_of_work(), 20)
                if index % 3:
                    await asyncio.sleep(0.001)

        with mock.patch.object(pool, "IDLE_SECONDS", 0.001):
            asyncio.run(main())

    @override_settings(AGENT_SESSIONS_THREADS=1)
    def test_a_thread_whose_order_was_interrupted_is_not_waited_for(self):
        def lose_thread() -> None:
            # As a signal's handler does that raises before the order is in the inbox.
            (threads,) = pool._pools.values()
            threads._idle.pop()

        asyncio.run(thread_of_work())
        lose_thread()
        in_thread(close_connections)
        assert own_threads() == []
        with mock.patch.object(pool, "IDLE_SECONDS", 0.2):
            asyncio.run(thread_of_work())
            lose_thread()
            waiting = asyncio.wait_for(thread_of_work(), 20)
            assert is_own(asyncio.run(waiting))
            lose_thread()
            wait_until(lambda: not own_threads())
            assert is_own(asyncio.run(thread_of_work()))

    @override_settings(AGENT_SESSIONS_THREADS=1)
    def test_a_thread_whose_start_was_interrupted_serves_or_ends(self):
        start = threading.Thread.start

        def start_and_be_interrupted(thread: threading.Thread) -> None:
            start(thread)
            raise KeyboardInterrupt

        async def main() -> None:
            with (
                mock.patch.object(threading.Thread, "start", start_and_be_interrupted),
                self.assertRaises(KeyboardInterrupt),
            ):
                hop.submit(Job(lambda: None, "default"))
            assert is_own(await asyncio.wait_for(thread_of_work(), 20))
            assert len(own_threads()) <= 2

        with mock.patch.object(pool, "IDLE_SECONDS", 0.2):
            asyncio.run(main())
            wait_until(lambda: not own_threads())
        asyncio.run(thread_of_work())
        in_thread(close_connections)
        assert own_threads() == []

    def test_a_thread_that_cannot_start_is_an_error_and_not_a_hang(self):
        async def main() -> None:
            with (
                mock.patch.object(threading.Thread, "start", side_effect=RuntimeError),
                self.assertRaises(RuntimeError),
            ):
                await thread_of_work()
            assert is_own(await thread_of_work())

        asyncio.run(main())

    def test_an_error_of_the_work_reaches_the_caller(self):
        async def main() -> None:
            with self.assertRaisesMessage(ZeroDivisionError, "division"):
                await cross(lambda: 1 // 0, using="default")

        asyncio.run(main())

    def test_an_error_goes_when_its_last_holder_does(self):
        class Mistake(Exception):
            pass

        errors: list[weakref.ref[Mistake]] = []

        def work() -> None:
            error = Mistake()
            errors.append(weakref.ref(error))
            try:
                raise error
            finally:
                del error

        async def main() -> None:
            with suppress(Mistake):
                await cross(work, using="default")

        gc.disable()
        self.addCleanup(gc.enable)
        asyncio.run(main())
        assert errors[0]() is None

    def test_a_busy_loop_is_woken_once_for_all_that_is_done(self):
        calls = []

        async def main() -> None:
            loop = asyncio.get_running_loop()
            call = loop.call_soon_threadsafe
            jobs = [asyncio.create_task(thread_of_work()) for _ in range(20)]
            with mock.patch.object(loop, "call_soon_threadsafe") as mocked:
                mocked.side_effect = lambda *args: calls.append(args) or call(*args)
                await asyncio.sleep(0)
                # In the loop's own thread: it cannot look meanwhile.
                close_connections()
                await asyncio.wait_for(asyncio.gather(*jobs), 20)

        asyncio.run(main())
        assert len(calls) == 1

    def test_a_loop_that_does_not_look_takes_all_along(self):
        class Answer:
            pass

        def work() -> Answer:
            held()
            answer = Answer()
            kept.append(weakref.ref(answer))
            return answer

        async def start() -> None:
            tasks.append(asyncio.create_task(cross(work, using="default")))
            await asyncio.to_thread(held.begun.wait, 20)

        for closes in ("before it is done", "after it is done", "never"):
            kept: list[weakref.ref[Any]] = []
            tasks: list[asyncio.Task[Answer]] = []
            loop = asyncio.new_event_loop()
            kept.append(weakref.ref(loop))
            with self.subTest(closes=closes), held_work() as held:
                loop.run_until_complete(start())
                loop.run_until_complete(loop.shutdown_default_executor())
                if closes == "before it is done":
                    loop.close()
                held.release.set()
                close_connections()
                if closes == "after it is done":
                    loop.close()
                with (
                    self.assertLogs("asyncio"),  # of a task that will never end
                    warnings.catch_warnings(),
                ):
                    warnings.simplefilter("ignore", ResourceWarning)
                    tasks.clear()
                    del loop
                    gc.collect()
                assert [one() for one in kept] == [None, None]

    def test_work_sees_the_caller_s_context(self):
        variable = contextvars.ContextVar("variable")

        async def main() -> None:
            variable.set("mine")
            assert await cross(variable.get, using="default") == "mine"
            async with ThreadSensitiveContext():
                assert await cross(variable.get, using="default") == "mine"

        asyncio.run(main())
        async_to_sync(main)()

    @override_settings(DEBUG=True)
    def test_statements_kept_by_debug_do_not_pile_up(self):
        async def main() -> list[Any]:
            await DjangoSession("one").add_items(words("Hi"))
            return await cross(lambda: connection.queries, using="default")

        assert asyncio.run(main()) == []

    def test_a_receiver_may_start_a_loop_of_its_own(self):
        def receive(session_id: str, **facts: Any) -> None:
            if session_id == "one":
                log = DjangoSession("log")
                asyncio.run(asyncio.wait_for(log.add_items(words("Logged")), 20))

        async def main() -> None:
            await asyncio.gather(
                *[DjangoSession("one").add_items(words("Hi")) for _ in range(10)]
            )

        items_added.connect(receive, weak=False)
        self.addCleanup(items_added.disconnect, receive)
        in_thread(lambda: asyncio.run(main()))
        assert stored("log") == ["Logged"] * 10


class held_work:
    """Work that begins and then waits until it is released."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.release = threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.release.wait(20)
        return "done"

    def __enter__(self) -> held_work:
        return self

    def __exit__(self, *error: object) -> None:
        self.release.set()


@contextmanager
def held_insert() -> Iterator[held_work]:
    """
    Hold the next INSERT of an item, in the middle of its transaction.

    Its ``install`` is called on the connection that will do it.
    """
    with held_work() as work:

        def hold(execute: Any, sql: str, *rest: Any) -> Any:
            if "INSERT" in sql and SessionItem._meta.db_table in sql:
                work()
            return execute(sql, *rest)

        work.install = lambda: connection.execute_wrappers.append(hold)
        yield work


class CancellationTests:
    """What holds in a bare loop and on a request's thread."""

    def run_here(self, main: Any) -> None:
        async def run() -> None:
            async with self.place():
                await main()

        in_thread(lambda: asyncio.run(run()))

    async def begin(self, insert: Any) -> asyncio.Task[None]:
        """Return a write that is held in the middle of its transaction."""
        await cross(insert.install, using="default")
        task = asyncio.create_task(DjangoSession("one").add_items(words("Hi")))
        await asyncio.to_thread(insert.begun.wait, 20)
        return task

    def test_a_cancelled_write_settles_first(self):
        async def main() -> None:
            with held_insert() as insert:
                task = await self.begin(insert)
                task.cancel()
                await turn_the_loop()
                assert not task.done()
                insert.release.set()
                with self.assertRaises(asyncio.CancelledError):
                    await task
            assert await cross(lambda: stored("one"), using="default") == ["Hi"]

        self.run_here(main)

    def test_a_write_that_is_cancelled_again_settles_first(self):
        async def main() -> None:
            with held_insert() as insert:
                task = await self.begin(insert)
                for _ in range(5):
                    task.cancel()
                    await turn_the_loop()
                    assert not task.done()
                insert.release.set()
                with self.assertRaises(asyncio.CancelledError):
                    await task
            assert await cross(lambda: stored("one"), using="default") == ["Hi"]

        self.run_here(main)

    def test_a_timeout_waits_for_the_write(self):
        async def main() -> None:
            with held_insert() as insert:
                task = await self.begin(insert)
                waiting = asyncio.create_task(asyncio.wait_for(task, 0.01))
                while not task.cancelling():
                    await asyncio.sleep(0.01)
                assert not waiting.done()
                insert.release.set()
                with self.assertRaises(TimeoutError):
                    await waiting
            assert await cross(lambda: stored("one"), using="default") == ["Hi"]

        self.run_here(main)

    def test_a_cancelled_write_that_never_began_is_not_done(self):
        async def main() -> None:
            with held_work() as work:
                busy = asyncio.create_task(cross(work, using="default"))
                await asyncio.to_thread(work.begun.wait, 20)
                task = asyncio.create_task(DjangoSession("one").add_items(words("Hi")))
                await turn_the_loop()
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await asyncio.wait_for(task, 20)
                work.release.set()
                await busy
            assert await cross(lambda: stored("one"), using="default") == []

        self.run_here(main)

    def test_a_cancelled_write_that_fails_is_cancelled(self):
        async def main() -> None:
            with held_work() as work:
                task = asyncio.create_task(
                    cross(lambda: work() + 1, using="default")  # a TypeError
                )
                await asyncio.to_thread(work.begun.wait, 20)
                task.cancel()
                await turn_the_loop()
                work.release.set()
                with self.assertRaises(asyncio.CancelledError):
                    await task

        with self.assertNoLogs("asyncio"):
            self.run_here(main)

    def test_a_closing_loop_waits_for_its_writes(self):
        async def write(insert: Any) -> None:
            async with self.place():
                await (await self.begin(insert))

        async def main() -> None:
            task = asyncio.create_task(write(insert))
            await asyncio.to_thread(insert.begun.wait, 20)
            releasing = threading.Thread(target=release_when_cancelled, args=[task])
            releasing.start()
            self.addCleanup(releasing.join)

        def release_when_cancelled(task: asyncio.Task[None]) -> None:
            wait_until(task.cancelling)
            insert.release.set()

        with held_insert() as insert:
            in_thread(lambda: asyncio.run(main()))
        assert stored("one") == ["Hi"]


async def turn_the_loop() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@override_settings(AGENT_SESSIONS_THREADS=1)
class BareLoopCancellationTests(CancellationTests, CrossingTestCase):
    place = nullcontext


class RequestCancellationTests(CancellationTests, CrossingTestCase):
    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        async with ThreadSensitiveContext():
            # As under Django, which begins a request with sync code.
            await sync_to_async(connections.close_all)()
            try:
                yield
            finally:
                await sync_to_async(connections.close_all)()


class CompletionsTests(SimpleTestCase):
    """The moments between two statements in which the other thread may come."""

    def setUp(self):
        self.calls: list[Any] = []
        self.woken: list[str] = []
        loop: Any = SimpleNamespace(call_soon_threadsafe=self.calls.append)
        self.completions = Completions(loop)

    def add(self, name: str) -> None:
        job: Any = SimpleNamespace(wake=partial(self.woken.append, name))
        self.completions.add(job)

    def turn_the_loop(self) -> None:
        while self.calls:
            self.calls.pop()()

    def test_a_job_that_comes_when_the_loop_has_seen_all_is_not_lost(self):
        class Jobs(deque[Any]):
            def __bool__(jobs) -> bool:
                if not len(jobs) and self.woken == ["first"]:
                    self.woken.append("nothing left")
                    self.add("second")
                    return False
                return len(jobs) > 0

        self.completions._jobs = Jobs()
        self.add("first")
        self.turn_the_loop()
        assert self.woken == ["first", "nothing left", "second"]

    def test_a_job_that_comes_while_the_loop_looks_is_not_lost(self):
        class Jobs(deque[Any]):
            def append(jobs, job: Any) -> None:
                self.turn_the_loop()
                super().append(job)

        self.add("first")
        self.completions._jobs = Jobs(self.completions._jobs)
        self.add("second")
        self.turn_the_loop()
        assert self.woken == ["first", "second"]

    async def test_who_waits_for_what_is_done_need_not_wait(self):
        job = Job(lambda: "done", "default")
        job.run()
        job.tell()
        await turn_the_loop()
        await asyncio.wait_for(job.wait(), 20)
        assert job.result() == "done"


class FallbackTests(SimpleTestCase):
    """asgiref's private names may go; then it decides which thread it is."""

    async def has_asgiref_s_thread(self) -> bool:
        return await thread_of_work() is await sync_to_async(threading.current_thread)()

    def test_without_private_names_asgiref_decides(self):
        some_context = SimpleNamespace(get=lambda default: object())
        for name, names in [
            ("SyncToAsync", {}),
            ("SyncToAsync", {"threadlocal": None}),
            (
                "SyncToAsync",
                {"threadlocal": None, "thread_sensitive_context": some_context},
            ),
            ("AsyncToSync", {}),
            ("AsyncToSync", {"executors": None}),
        ]:
            with (
                self.subTest(missing_from=name, there=list(names)),
                mock.patch.object(hop, name, SimpleNamespace(**names)),
            ):
                assert asyncio.run(self.has_asgiref_s_thread())
        assert own_threads() == []

    def test_with_them_a_bare_loop_gets_our_threads(self):
        self.addCleanup(close_connections)
        assert is_own(asyncio.run(thread_of_work()))


# Which connection a thread has, as the server numbers it.
NUMBER = {
    "postgresql": "SELECT pg_backend_pid()",
    "mysql": "SELECT CONNECTION_ID()",
    "sqlite": "SELECT 1",
}[connection.vendor]

FORK = f"""
import asyncio, gc, os, sys
from django.db import connection
from agent_sessions import DjangoSession
from agent_sessions.crossing import cross

def number():
    with connection.cursor() as cursor:
        cursor.execute({NUMBER!r})
        return cursor.fetchone(), id(connection.connection)

async def write(text):
    await DjangoSession("one").add_items([{{"role": "user", "content": text}}])
    return await cross(number, using="default")

before = asyncio.run(write("parent"))
child = os.fork()
if not child:
    gc.collect()
    asyncio.run(write("child"))
    gc.collect()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert asyncio.run(write("parent again")) == before
"""

# The program ends while the write is still on its way.
EXIT = """
import asyncio
from agent_sessions import DjangoSession

async def main():
    session = DjangoSession("one")
    asyncio.create_task(session.add_items([{"role": "user", "content": "last"}]))
    await asyncio.sleep(0)

asyncio.new_event_loop().run_until_complete(main())
"""

POOL = """
import asyncio
import psycopg
from django.db import connection, connections
options = connections.settings["default"]["OPTIONS"]
options["pool"] = {"min_size": 1, "max_size": 2}
options["application_name"] = "pooled"
from agent_sessions import DjangoSession
from agent_sessions.crossing import close_connections
from tests.observer import wait_until

parameters = connection.get_connection_params() | {"application_name": "observer"}
observer = psycopg.connect(**parameters, autocommit=True)

def end_connections():
    ended = observer.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = 'pooled'"
    )
    assert 1 <= ended.rowcount <= 2, ended.rowcount

async def main():
    sessions = [DjangoSession(f"session-{index}") for index in range(50)]
    for _ in range(3):
        await asyncio.gather(
            *[it.add_items([{"role": "user", "content": "Hi"}]) for it in sessions]
        )
        end_connections()
    return [len(await it.get_items()) for it in sessions]

assert asyncio.run(main()) == [3] * 50

def is_whole():
    statistics = connection.pool.get_stats()
    return statistics["pool_size"] == statistics["pool_available"] <= 2

# The pool replaces what was ended in its own time.
wait_until(is_whole)
close_connections()
connection.close_pool()
"""


class ProcessTests(TransactionTestCase):
    def test_a_forked_child_and_its_parent_both_work(self):
        finish(start(FORK))
        assert stored("one") == ["parent", "child", "parent again"]

    def test_a_program_that_ends_finishes_what_it_began(self):
        finish(start(EXIT))
        assert stored("one") == ["last"]

    @skipUnless(connection.vendor == "postgresql", "Django pools only psycopg's")
    def test_threads_share_django_s_own_pool(self):
        finish(start(POOL))
