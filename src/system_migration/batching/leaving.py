"""Handing work to threads of a process that may be about to end."""

from __future__ import annotations

import signal
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import TypeVar

from system_migration.errors import Interrupted

_T = TypeVar("_T")
_CLOSED = "shutdown"
"""In every sentence by which Python says so; there is no other sign of it, as the main thread still counts as alive."""


def submitted(executor: Executor, call: Callable[..., _T], *arguments: object) -> Future[_T]:
    """The result of `call`, in time. Raises `Interrupted` where the process ends, as if it had been asked to stop.

    An interpreter that ends closes every executor first, and only then calls who might ask a run to stop. What goes on
    in a thread of its own is still going then, and its next piece of work would fail; nothing has failed, though.
    Whoever closes an executor themselves must hand nothing to it any more.
    """
    try:
        return executor.submit(call, *arguments)
    except RuntimeError as error:
        if _CLOSED not in str(error):
            raise
        raise Interrupted(signal.SIGTERM) from None
