from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser

_UTF_8 = {"utf-8", "utf8"}


class BoundedJSONParser(JSONParser):
    """JSON, of which neither nesting nor charset is an error of ours."""

    def parse(
        self, stream: Any, media_type: Any = None, parser_context: Any = None
    ) -> Any:
        # RFC 8259, 8.1. Before 3.18 DRF tries whatever codec a request names, bz2 too.
        if str((parser_context or {}).get("encoding", "utf-8")).lower() not in _UTF_8:
            raise ParseError(_("JSON parse error - not UTF-8."))
        try:
            return super().parse(stream, media_type, parser_context)
        except RecursionError:
            raise ParseError(_("JSON parse error - too many levels.")) from None


class MergePatchParser(BoundedJSONParser):
    """What a PATCH here means by itself. Source: RFC 7396."""

    media_type = "application/merge-patch+json"
