"""Write the API's schema anew: ``python -m tests.openapi``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

PATH = Path(__file__).parent / "openapi.yaml"


def generate() -> dict[str, Any]:
    """Return the schema of the tests' URLs; raise AssertionError for any warning."""
    from drf_spectacular.drainage import GENERATOR_STATS, reset_generator_stats
    from drf_spectacular.generators import SchemaGenerator
    from drf_spectacular.validation import validate_schema

    reset_generator_stats()
    schema: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    assert not GENERATOR_STATS, "drf-spectacular warns: see above"
    validate_schema(schema)
    return schema


def render(schema: dict[str, Any]) -> str:
    from drf_spectacular.renderers import OpenApiYamlRenderer

    return str(OpenApiYamlRenderer().render(schema, renderer_context={}).decode())


if __name__ == "__main__":
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    PATH.write_text(render(generate()))
