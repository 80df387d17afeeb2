"""The event stream of the overview: any number of listeners, one SELECT a tick, a message when something changed.

Nothing is asked while nobody listens. A stream holds no thread, and ends after a while, so that whoever comes back
shows their rights again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterator

from starlette.concurrency import run_in_threadpool

from system_migration.migrator import Migrator
from system_migration.web.following import HEARTBEAT_SECONDS, STREAM_SECONDS, Poller

TICK_SECONDS = 1.0
_RETRY = b"retry: 2000\n\n"
_NEWS = b"event: state\ndata: {}\n\n"
_HEARTBEAT = b": still here\n\n"
_log = logging.getLogger("system_migration.web")


class StatusWatch:
    """Looks at all statuses while somebody listens. Ends its streams when the poller of the runs is closed."""

    def __init__(self, migrator: Migrator, poller: Poller, tick: float = TICK_SECONDS) -> None:
        self._migrator, self._poller, self._tick = migrator, poller, tick
        self._listeners = 0
        self._turn = asyncio.Event()
        self._seen: object = None
        self._task: asyncio.Task[None] | None = None

    async def stream(self) -> AsyncIterator[bytes]:
        """A message `state` at the beginning and for each change that is seen, as the bytes of an event stream.

        The first one is for what changed between the rendering of a screen and its coming here.
        """
        with self._listening():
            yield _RETRY + _NEWS
            until, turn, said = time.monotonic() + STREAM_SECONDS, self._turn, time.monotonic()
            while not self._poller.closed and time.monotonic() < until:
                with contextlib.suppress(TimeoutError):  # a tick at a time, because nobody wakes it when all is to end
                    await asyncio.wait_for(turn.wait(), self._tick)
                if turn.is_set():
                    turn, said = self._turn, time.monotonic()
                    yield _NEWS
                elif time.monotonic() - said > HEARTBEAT_SECONDS:
                    said = time.monotonic()
                    yield _HEARTBEAT

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        self._listeners += 1
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._look())
        try:
            yield
        finally:
            self._listeners -= 1

    async def _look(self) -> None:
        failing = False
        while self._listeners and not self._poller.closed:
            try:
                found = await run_in_threadpool(self._migrator.status)
                if found != self._seen:
                    self._seen = found
                    self._wake()
                failing = False
            except Exception as error:  # the database is away: the streams stay, and go on when it is back
                if not failing:
                    _log.warning("watching statuses: %s", type(error).__name__, extra={"action": "web.follow"})
                failing = True
            await asyncio.sleep(self._tick)

    def _wake(self) -> None:
        turn, self._turn = self._turn, asyncio.Event()
        turn.set()
