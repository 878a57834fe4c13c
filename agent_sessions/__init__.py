from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent_sessions.adapter import DjangoSession as DjangoSession

__all__ = ["DjangoSession", "__version__"]
__version__ = "0.1.0.dev0"


def __getattr__(name: str) -> Any:
    # Django imports this package before its app registry is ready: the adapter, which
    # needs the models, is imported on first use.
    if name == "DjangoSession":
        from agent_sessions.adapter import DjangoSession

        return DjangoSession
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
