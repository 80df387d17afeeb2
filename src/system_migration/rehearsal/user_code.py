"""Telling the migration's own code from ours and from libraries', by the frames of a call stack."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from types import FrameType

from system_migration.migration import Migration

_LIBRARY = os.path.dirname(os.path.dirname(__file__)) + os.sep
_HERE = os.path.dirname(__file__) + os.sep
_INSTALLED = tuple(
    folder + os.sep
    for folder in {
        sysconfig.get_path("stdlib"),
        sysconfig.get_path("platstdlib"),
        sysconfig.get_path("purelib"),
        *site.getsitepackages(),
        os.path.dirname(os.__file__),
    }
)


def files_of(migration: type[Migration]) -> frozenset[str]:
    """The files of the migration's class and of those that it is made from, without the library's."""
    modules = [sys.modules.get(base.__module__) for base in migration.__mro__]
    files = {str(getattr(module, "__file__", None)) for module in modules if module is not None}
    return frozenset(file for file in files if not is_foreign(file) and file != "None")


def is_foreign(file: str) -> bool:
    """Whether a file is neither the migration's nor any other of its project."""
    return file.startswith((_LIBRARY, *_INSTALLED, "<frozen"))


def caller_among(files: frozenset[str], frame: FrameType | None, *, through_us: bool = True) -> FrameType | None:
    """The innermost frame of these files that we have called. Whoever called us is not looked at.

    Without `through_us` neither is who had the library itself do it, as `context.progress` does.
    """
    ours = _HERE if through_us else _LIBRARY
    while frame is not None:
        file = frame.f_code.co_filename
        if file in files:
            return frame
        if file.startswith(ours):
            return None
        frame = frame.f_back
    return None


def place(frame: FrameType) -> str:
    """Where a frame stands: file and line."""
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
