"""Starting something for somebody who asks over HTTP: once for each request, whichever process it reaches."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from system_migration.errors import ChangedMeanwhile, HeldElsewhere, MigrationSystemError
from system_migration.migrator import Migrator
from system_migration.records import Run
from system_migration.web.refusals import RunGoing
from system_migration.web.starts import BEGIN_SECONDS, REST, Job, Starts, Wanted, wait_for

LETTING_GO_SECONDS = 3.0
"""For how long a start waits for a run to let go that has already ended."""


@dataclass(frozen=True)
class Begun:
    """What a start came to so far: its job in this process, or the `run` that the same request led to elsewhere.

    `replayed` says that the same request was made before.
    """

    job: Job | None
    run: Run | None = None
    replayed: bool = False

    @property
    def run_id(self) -> str | None:
        """The run, once there is one."""
        return self.run.id if self.run is not None else self.job.run_id if self.job is not None else None


@dataclass(frozen=True)
class Asked:
    """One request for a start: by whom, under which id, and through which door.

    It is answered when the run has begun, or after `begin` seconds; with `wait`, when it has ended, or after so many.
    """

    wanted: Wanted
    actor: str
    request_id: str | None = None
    wait: float = 0
    begin: float | None = None
    door: str = REST


class Asking:
    """Starts what is asked for, or finds what the same request led to before."""

    def __init__(self, migrator: Migrator, starts: Starts) -> None:
        self._migrator, self._starts = migrator, starts

    async def start(self, asked: Asked) -> Begun:
        """Return when it has begun, or is over without a run. Raises what ended it without one.

        Where another run goes on that is `RunGoing`, or `ChangedMeanwhile` if what is wanted says what was seen.
        """
        until = time.monotonic() + LETTING_GO_SECONDS
        while True:
            try:
                return await self._start(asked)
            except (RunGoing, ChangedMeanwhile) as busy:
                if time.monotonic() > until or not await run_in_threadpool(self._is_letting_go, asked, busy):
                    raise
            await asyncio.sleep(0.05)

    def _is_letting_go(self, asked: Asked, busy: RunGoing | ChangedMeanwhile) -> bool:
        """Whether the run in the way has its outcome on the record: its runner is just letting go of the lease."""
        if isinstance(busy, RunGoing):
            return busy.run is not None and busy.run.outcome is not None
        name = str(asked.wanted.name)
        status = next((each for each in self._migrator.status().migrations if each.name == name), None)
        if status is None or status.revision != asked.wanted.seen:
            return False
        run = self._migrator.current_run(name)
        return run is not None and run.outcome is not None

    async def _start(self, asked: Asked) -> Begun:
        if again := await self._again(asked):
            return again
        try:
            job = await run_in_threadpool(self._starts.begin, asked.wanted, asked.actor, asked.request_id, asked.door)
            return await self._begun(Begun(job), asked)
        except (MigrationSystemError, SQLAlchemyError):
            # Perhaps because of the same request, which came to another process in the same moment.
            if again := await self._again(asked):
                return again
            raise

    async def _again(self, asked: Asked) -> Begun | None:
        if asked.request_id is None:
            return None
        if job := self._starts.job_of(asked.request_id, asked.wanted):
            return await self._begun(Begun(job, replayed=True), asked)
        if run := await run_in_threadpool(self._starts.run_of, asked.request_id, asked.wanted):
            return Begun(None, run, replayed=True)
        return None

    async def _begun(self, begun: Begun, asked: Asked) -> Begun:
        job = begun.job
        assert job is not None
        await wait_for(job.begun, BEGIN_SECONDS if asked.begin is None else asked.begin)
        if asked.wait:
            await wait_for(job.done, asked.wait)
        error = job.done.exception() if job.done.done() else None
        if error is None or job.run_id is not None:
            return begun
        if isinstance(error, HeldElsewhere):
            raise await run_in_threadpool(self._starts.going_by, error) from error
        raise error
