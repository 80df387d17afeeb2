"""What the doors of one server process share: one worker, one record of what was started here, one poller."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from starlette.concurrency import run_in_threadpool

from system_migration.background import Background
from system_migration.migrator import Migrator
from system_migration.web.following import Poller
from system_migration.web.resuming import Resuming
from system_migration.web.starts import Starts
from system_migration.web.stopping import also_on_stop


class Serving:
    """The API and the page of one `Background` have one of these together: see `of`."""

    _all: ClassVar[WeakValueDictionary[Background, Serving]] = WeakValueDictionary()

    def __init__(self, migrator: Migrator, background: Background, identity: str) -> None:
        self.migrator, self.background = migrator, background
        self.starts, self.poller = Starts(migrator, background, identity), Poller(migrator)
        self._users = 0

    @classmethod
    def of(cls, migrator: Migrator, background: Background | None, identity: str) -> Serving:
        """The one of this worker; without a worker a new one, with a worker of its own.

        `ValueError` where two doors of a worker know people by another `identity`: one person would be two there.
        """
        if background is None:
            return cls(migrator, Background(migrator), identity)
        serving = cls._all.get(background)
        if serving is None:
            serving = cls._all[background] = cls(migrator, background, identity)
        if serving.starts.identity != identity:
            raise ValueError("the doors of one worker have to know people by the same identity")
        return serving

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        """Goes on with unfinished runs of earlier processes; at the end stops what is going at a clean checkpoint.

        Each door enters it: the first in begins, and the last out ends.
        """
        self._users += 1
        try:
            if self._users > 1:
                yield
                return
            resuming = asyncio.create_task(Resuming(self.migrator, self.starts).resume())
            with also_on_stop(self._stop):
                yield
            self.poller.close()
            resuming.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await resuming
            await run_in_threadpool(self.background.stop)
        finally:
            self._users -= 1

    def _stop(self, number: int) -> None:
        self.migrator.request_stop(number)
        self.poller.close()
