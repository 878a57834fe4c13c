from __future__ import annotations

from typing import Any

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


def age(moment: Any, now: Any = None) -> str:
    """Return how long ago a time was, in its largest unit: "3 days ago"."""
    words = timesince(moment, now, time_strings=_AGES, depth=1)
    return gettext("%(time)s ago") % {"time": words}
