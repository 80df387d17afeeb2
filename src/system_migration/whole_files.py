"""Files that are there whole or not at all: written beside their place, then put there in one step."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from system_migration.errors import ConfigurationError


def write_whole(target: Path, lines: Iterable[str], *, overwrite: bool = False) -> int:
    """Write the lines to `target`; how many they were. Only its owner may read it.

    Raises `ConfigurationError` where the folder takes no file, or has that one and nobody said `overwrite`. Dying
    half-way leaves a file that begins with a dot beside it, and `target` as it was.
    """
    written = 0
    if not overwrite:
        _demand_new(target)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise ConfigurationError(
            f"{target} cannot be written ({error.strerror}). Name a file in a folder of yours."
        ) from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            for line in lines:
                file.write(line + "\n")
                written += 1
            file.flush()
            os.fsync(file.fileno())
        if not overwrite:
            _demand_new(target)  # it may have come while the lines were written
        os.replace(name, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
    return written


def _demand_new(target: Path) -> None:
    if os.path.lexists(target):
        raise ConfigurationError(f"{target} is there already. Name another file, or replace it with --overwrite.")
