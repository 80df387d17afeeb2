"""The lifespan of an ASGI application whose start looks after migrations."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

from system_migration.errors import EXIT_NOT_YET
from system_migration.startup import Startup
from system_migration.web.stopping import also_on_stop

Lifespan = Callable[[Any], AbstractAsyncContextManager[None]]


def migrations_lifespan(startup: Startup) -> Lifespan:
    """A lifespan for `FastAPI(lifespan=...)`, or for an `async with` in the host's own.

    The server answers from the first moment: what must not be served yet is the affair of `/health/ready` and
    `HoldUntilReady`. When the server ends, a run of this process ends at a clean checkpoint. When the deadline passes
    before the application may serve, the server is asked to end and the process exits with 75.
    """

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        late, loop = False, asyncio.get_running_loop()

        def end_server() -> None:
            nonlocal late
            late = True
            # The way to ask any server for a clean end. Not by `os.kill`, which ends a process on Windows at once; and
            # in the loop's own thread, because that is what a server wakes up for.
            with suppress(RuntimeError):  # the loop is closed: it ends already
                loop.call_soon_threadsafe(signal.raise_signal, signal.SIGTERM)

        startup.begin(end_server)
        try:
            with also_on_stop(startup.request_stop):
                yield
        finally:
            await asyncio.to_thread(startup.stop)
            if late:
                _exit_not_yet()

    return lifespan


def _exit_not_yet() -> None:
    """A server that was asked to end exits with a code of its own, whatever is raised here: so nothing is raised."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(EXIT_NOT_YET)
