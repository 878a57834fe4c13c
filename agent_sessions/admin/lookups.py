from __future__ import annotations

from django.contrib import admin
from django.db.models.constants import LOOKUP_SEP
from django.http import HttpRequest

WORDS = {"title", "preview", "metadata"}


class WordsNotLookedUp(admin.ModelAdmin):  # type: ignore[type-arg]
    """A list whose address cannot ask what was said, letter by letter."""

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        # Django takes any lookup of the model's own fields, without a filter for it.
        if lookup.partition(LOOKUP_SEP)[0] in WORDS:
            return False
        return super().lookup_allowed(lookup, value, request)
