"""What commands say when the store or the database refuses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management.base import CommandError
from django.db import DatabaseError, DataError, IntegrityError, InterfaceError

from agent_sessions.exceptions import AgentSessionError, NothingToErase

NOTHING = 3


@contextmanager
def failures(what: str) -> Iterator[None]:
    """
    Turn errors of the store and of the database into a CommandError.

    ``what`` says what is not done, or not to the end. Exit status 1; 3 if there was
    nothing to do.
    """
    try:
        yield
    except NothingToErase as error:
        raise CommandError(str(error), returncode=NOTHING) from None
    except AgentSessionError as error:
        raise CommandError(str(error)) from None
    except (DataError, IntegrityError) as error:
        # Their messages may repeat values.
        raise CommandError(f"{what}: {type(error).__name__}.") from None
    except (DatabaseError, InterfaceError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CommandError(f"{what}: {reason}") from None
