from __future__ import annotations

from collections import Counter

from tests.benchmark.items import history, question
from tests.benchmark.network import Link
from tests.benchmark.subjects.subject import Subject

# By the subject's key, then by the call.
RoundTrips = dict[str, dict[str, int]]

CALLS = ("get", "add", "first add", "first add without a get", "pop", "clear")
_REPEATS = 5


async def count_round_trips(subject: Subject, link: Link) -> dict[str, int]:
    """
    Return how often each call goes to the server and back.

    Connections are open and warm by then: the first calls do not count, and of the
    others the usual number is taken.
    """
    counts: dict[str, Counter[int]] = {name: Counter() for name in CALLS}
    for repeat in range(_REPEATS + 2):
        session_id, unread = await subject.new_ids(2)
        new = subject.session(session_id)
        await new.get_items()
        found = {}
        before = link.round_trips()
        await new.add_items([question(1)])
        found["first add"] = link.round_trips() - before
        session = subject.session(unread)
        before = link.round_trips()
        await session.add_items([question(1)])
        found["first add without a get"] = link.round_trips() - before
        await subject.spare(session_id).add_items(history(8))
        for name in ("get", "add", "pop", "clear"):
            session = subject.session(session_id)
            before = link.round_trips()
            match name:
                case "get":
                    assert len(await session.get_items()) == 9
                case "add":
                    await session.add_items([question(2)])
                case "pop":
                    assert await session.pop_item() == question(2)
                case "clear":
                    await session.clear_session()
            found[name] = link.round_trips() - before
        if repeat >= 2:
            for name, count in found.items():
                counts[name][count] += 1
    return {name: counts[name].most_common(1)[0][0] for name in CALLS}
