"""Where commands write what may be large, and is worth nothing if it is not whole."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def write_file(path: Path, parts: Iterable[bytes]) -> None:
    """
    Write a new file, which only its owner can read and which has its name at the end.

    Until then it is called ``<name>.<random>.part``. Raise FileExistsError if there is
    such a file, and other OSErrors, of which nothing is left behind.
    """
    _refuse_existing(path)
    prefix, folder = f"{path.name}.", path.parent
    handle, name = tempfile.mkstemp(".part", prefix, folder)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(parts)
            file.flush()
            # Some file systems say only now that they are full.
            os.fsync(file.fileno())
        _publish(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_bytes(output: Any, parts: Iterable[bytes]) -> None:
    """Write to a command's stdout, as bytes if it takes them."""
    binary = getattr(output, "buffer", None)
    for part in parts:
        if binary is None:
            output.write(part.decode(), ending="")
        else:
            binary.write(part)
    if binary is not None:
        binary.flush()


def _publish(part: Path, path: Path) -> None:
    try:
        # Never over another file, as a renaming would.
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:
        # There are file systems without links.
        _refuse_existing(path)
        part.rename(path)


def _refuse_existing(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise FileExistsError(f"File exists: {str(path)!r}")
