from __future__ import annotations

from datetime import datetime
from typing import Any

from django.utils import timezone
from django.utils.timesince import timesince
from django.utils.translation import gettext, npgettext_lazy

# Django's own, "3 days", stand alone; after "ago" some languages inflect them.
_AGES: dict[str, Any] = {
    "year": npgettext_lazy("age", "%(num)d year", "%(num)d years", "num"),
    "month": npgettext_lazy("age", "%(num)d month", "%(num)d months", "num"),
    "week": npgettext_lazy("age", "%(num)d week", "%(num)d weeks", "num"),
    "day": npgettext_lazy("age", "%(num)d day", "%(num)d days", "num"),
    "hour": npgettext_lazy("age", "%(num)d hour", "%(num)d hours", "num"),
    "minute": npgettext_lazy("age", "%(num)d minute", "%(num)d minutes", "num"),
}


def age(moment: datetime) -> str:
    """Return how long ago a time was, in its largest unit: "3 days ago"."""
    words = timesince(moment, time_strings=_AGES, depth=1)
    return gettext("%(time)s ago") % {"time": words}


def local_time(moment: datetime) -> datetime:
    # Without USE_TZ times are local as they stand.
    return timezone.localtime(moment) if timezone.is_aware(moment) else moment
