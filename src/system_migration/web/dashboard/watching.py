"""The event stream of the overview: any number of listeners, one SELECT a tick, a message when something changed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator

from starlette.concurrency import run_in_threadpool

from system_migration.migrator import Migrator
from system_migration.web.following import HEARTBEAT_SECONDS, STREAM_SECONDS, Poller

TICK_SECONDS = 1.0
_log = logging.getLogger("system_migration.web")


class StatusWatch:
    """Looks at all statuses while somebody listens. Ends its streams when the poller of the runs is closed."""

    def __init__(self, migrator: Migrator, poller: Poller, tick: float = TICK_SECONDS) -> None:
        self._migrator, self._poller, self._tick = migrator, poller, tick
        self._listeners = 0
        self._version = 0
        self._seen: object = None
        self._task: asyncio.Task[None] | None = None

    async def stream(self) -> AsyncIterator[bytes]:
        """One message `state` for each change that is seen, as the bytes of an event stream."""
        until = time.monotonic() + STREAM_SECONDS
        self._listeners += 1
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._look())
        told, said = self._version, time.monotonic()
        try:
            yield b"retry: 2000\n\n"
            while not self._poller.closed and time.monotonic() < until:
                await asyncio.sleep(self._tick / 2)
                if self._version != told:
                    told, said = self._version, time.monotonic()
                    yield f"id: {told}\nevent: state\ndata: {{}}\n\n".encode()
                elif time.monotonic() - said > HEARTBEAT_SECONDS:
                    said = time.monotonic()
                    yield b": still here\n\n"
        finally:
            self._listeners -= 1

    async def _look(self) -> None:
        while self._listeners and not self._poller.closed:
            try:
                found = await run_in_threadpool(self._migrator.status)
                if found != self._seen:
                    self._seen, self._version = found, self._version + 1
            except Exception as error:  # the database is away: the streams stay, and go on when it is back
                _log.warning("watching statuses: %s", type(error).__name__, extra={"action": "web.follow"})
            await asyncio.sleep(self._tick)
