from __future__ import annotations

from typing import Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser


class BoundedJSONParser(JSONParser):
    """JSON, of which no nesting is an error of ours."""

    def parse(
        self, stream: Any, media_type: Any = None, parser_context: Any = None
    ) -> Any:
        try:
            return super().parse(stream, media_type, parser_context)
        except RecursionError:
            raise ParseError("JSON parse error - too many levels.") from None


class MergePatchParser(BoundedJSONParser):
    """What a PATCH here means by itself. Source: RFC 7396."""

    media_type = "application/merge-patch+json"
