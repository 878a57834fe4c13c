"""
Numbers for the overview, each within a bound that a busy site does not break.

Sessions are found by their last activity, which has an index. Items have none by time;
but their keys sort by it, so the newest are read by key and never more than a bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from django.core.cache import cache
from django.db.models import Count, Max, Q, Sum
from django.db.models.functions import TruncDate
from django.utils import timezone

from agent_sessions.models import AgentSession, SessionItem, TurnUsage
from agent_sessions.usage import usage_day

CACHE_SECONDS = 600
ITEM_LIMIT = 200_000
TURN_LIMIT = 200_000
BUSIEST = 10
SIZES = [(0, 0), (1, 20), (21, 100), (101, 1000), (1001, None)]


@dataclass(frozen=True)
class Statistics:
    """
    What happened in a number of days, up to today; days are in UTC.

    ``counted_items`` are behind ``items`` and ``types``: all since ``items_since``.
    ``busiest`` has for each user: key, sessions, items, last activity. ``tokens`` are
    all since ``usage_since``, ``spenders`` the users who took most of them.
    """

    made_at: datetime
    active_sessions: int
    stored_items: int
    active_users: dict[int, int]
    sessions: dict[date, int]
    items: dict[date, int]
    types: dict[str, int]
    sizes: list[int]
    busiest: list[tuple[Any, int, int, datetime]]
    counted_items: int
    items_since: datetime
    is_cut: bool
    tokens: dict[date, int]
    spenders: list[tuple[Any, int]]
    usage_since: date
    usage_is_cut: bool


def read_statistics(days: int) -> Statistics:
    """Return the statistics of the last ``days`` days, at most ten minutes old."""
    key = f"agent_sessions:statistics:2:{days}"
    found = cache.get(key)
    if not isinstance(found, Statistics):
        found = collect_statistics(days)
        cache.set(key, found, CACHE_SECONDS)
    return found


def collect_statistics(days: int) -> Statistics:
    """Ask the database: nine queries at most, whatever there is to count."""
    now = timezone.now()
    since = _first_moment(now, days)
    active = AgentSession.objects.filter(updated_at__gte=since).order_by()
    totals = _read_totals(active, now, days)
    items_since, is_cut = _bound_items(since, now)
    per_type = _count_items(items_since, now)
    used_days = recent_days(days)
    used = TurnUsage.objects.filter(day__range=(used_days[0], used_days[-1]))
    usage_since, usage_is_cut = _bound_usage(used, used_days[0])
    used = used.filter(day__gte=usage_since).order_by()
    items: dict[date, int] = _empty_days(now, days)
    types: dict[str, int] = {}
    for day, kind, count in per_type:
        items[day] = items.get(day, 0) + count
        # Most messages have no type.
        kind = kind or "message"
        types[kind] = types.get(kind, 0) + count
    return Statistics(
        made_at=now,
        active_sessions=totals["sessions"],
        stored_items=totals["items"] or 0,
        active_users={n: totals[f"users_{n}"] for n in _spans(days)},
        sessions=_empty_days(now, days) | _count_sessions(active, since),
        items=items,
        types=dict(sorted(types.items(), key=lambda pair: -pair[1])),
        sizes=[totals[f"size_{n}"] for n in range(len(SIZES))],
        busiest=_find_busiest(active),
        counted_items=sum(types.values()),
        items_since=items_since,
        is_cut=is_cut,
        tokens=dict.fromkeys(used_days, 0) | _count_tokens(used),
        spenders=_find_spenders(used, since + (usage_since - used_days[0])),
        usage_since=usage_since,
        usage_is_cut=usage_is_cut,
    )


def recent_days(days: int) -> list[date]:
    """Return the last days that usage is counted on, up to today."""
    today = usage_day(timezone.now())
    return [today - timedelta(days=number) for number in reversed(range(days))]


def _read_totals(active: Any, now: datetime, days: int) -> dict[str, Any]:
    counts: dict[str, Any] = {"sessions": Count("pk"), "items": Sum("item_count")}
    for number, (least, most) in enumerate(SIZES):
        size = Q(item_count__gte=least)
        if most is not None:
            size &= Q(item_count__lte=most)
        counts[f"size_{number}"] = Count("pk", filter=size)
    for span in _spans(days):
        recent = Q(updated_at__gte=now - timedelta(days=span))
        counts[f"users_{span}"] = Count("user", filter=recent, distinct=True)
    totals: dict[str, Any] = active.aggregate(**counts)
    return totals


def _count_sessions(active: Any, since: datetime) -> dict[date, int]:
    # What began in these days was active in them: the index of activities serves.
    begun = active.filter(created_at__gte=since)
    days = begun.values_list(TruncDate("created_at", tzinfo=UTC))
    return dict(days.annotate(Count("pk")))


def _find_busiest(active: Any) -> list[tuple[Any, int, int, datetime]]:
    users = active.filter(user__isnull=False).values_list("user")
    counted = users.annotate(
        sessions=Count("pk"), items=Sum("item_count"), last=Max("updated_at")
    )
    return list(counted.order_by("-sessions", "-last")[:BUSIEST])


def _bound_items(since: datetime, now: datetime) -> tuple[datetime, bool]:
    """Return from when on items are counted, and whether that is later than asked."""
    keys = _made_between(since, now).order_by("-pk").values_list("pk", flat=True)
    # The key tells the time: the index alone answers.
    last = list(keys[ITEM_LIMIT : ITEM_LIMIT + 1])
    if not last:
        return since, False
    moment = datetime.fromtimestamp((last[0].int >> 80) / 1000, UTC)
    return (moment if timezone.is_aware(since) else timezone.make_naive(moment)), True


def _count_items(since: datetime, now: datetime) -> list[tuple[date, str, int]]:
    items = _made_between(since, now).filter(created_at__gte=since)
    days = items.values_list(TruncDate("created_at", tzinfo=UTC), "type")
    return list(days.annotate(Count("pk")).order_by())


def _bound_usage(used: Any, since: date) -> tuple[date, bool]:
    """Return from which day on tokens are counted, and whether that is a later one."""
    # The index alone answers.
    days = used.order_by("-day").values_list("day", flat=True)
    beyond = list(days[TURN_LIMIT : TURN_LIMIT + 1])
    if not beyond:
        return since, False
    # Days are counted whole: the newest one in any case.
    return min(beyond[0] + timedelta(days=1), days[:1].get()), True


def _count_tokens(used: Any) -> dict[date, int]:
    sums = used.values_list("day").annotate(Sum("total_tokens"))
    return {day: int(count) for day, count in sums}


def _find_spenders(used: Any, since: datetime) -> list[tuple[Any, int]]:
    # MariaDB would look at every session there is. What is counted belongs to a session
    # that was active then; at midnight, the day before.
    active = used.filter(session__updated_at__gte=since - timedelta(days=1))
    users = active.filter(session__user__isnull=False).values_list("session__user")
    sums = users.annotate(count=Sum("total_tokens")).filter(count__gt=0)
    most = sums.order_by("-count", "session__user")[:BUSIEST]
    return [(key, int(count)) for key, count in most]


def _made_between(since: datetime, now: datetime) -> Any:
    return SessionItem.objects.filter(
        pk__gte=_first_key(since), pk__lt=_first_key(now + timedelta(days=1))
    )


def _first_key(moment: datetime) -> UUID:
    """Return the least key that an item made at this moment can have."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)


def _first_moment(now: datetime, days: int) -> datetime:
    # Days are UTC's: MariaDB knows other time zones only if somebody loaded them.
    if timezone.is_aware(now):
        now = now.astimezone(UTC)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(days=days - 1)


def _empty_days(now: datetime, days: int) -> dict[date, int]:
    first = _first_moment(now, days).date()
    return {first + timedelta(days=number): 0 for number in range(days)}


def _spans(days: int) -> list[int]:
    return [span for span in (1, 7, 30, 90) if span <= days]
