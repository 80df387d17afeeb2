"""Starts over HTTP: each goes into the background, and can be asked for again by its Idempotency-Key.

A key is kept by the run itself, whose id is made of it: it is good for as long as the run is on the record, survives
every restart, and takes no room of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4, uuid5

from system_migration.background import Background
from system_migration.errors import HeldElsewhere, Refused
from system_migration.migration import SilentProgress
from system_migration.migrator import Migrator
from system_migration.records import DryRunReport, Origin, Run, RunOptions, RunReport, Start
from system_migration.states import RunKind
from system_migration.web.refusals import KeyReused, RunGoing

REST, PAGE = "rest", "page"
DOORS = (REST, PAGE)
"""What the record calls the ways by which a start comes over HTTP. The id of a request does not depend on them."""
BEGIN_SECONDS = 20.0
"""How long an answer waits for the run to be on the record. A preflight that takes longer goes on without it."""
_KEYS = UUID("6a0d8a50-3f0c-4a9b-8f0e-6f1f2b7c9d11")
LOOKING = frozenset({"dry-run", "verify", "dry-rollback"})
_LEASED = frozenset({RunKind.RUN, RunKind.ROLLBACK})

Report = RunReport | DryRunReport


@dataclass(frozen=True)
class Wanted:
    """What a start asks for. `name` is None for all that is pending, or all that is completed.

    `seen` is the revision of the migration by which the actor decided; of a start that is repeated it tells nothing.
    """

    verb: str
    name: str | None
    options: RunOptions = field(default_factory=RunOptions)
    full: bool = False
    seen: int | None = field(default=None, compare=False)

    def carry_out(self, migrator: Migrator) -> list[Report]:
        """Do it; raises what the verb raises."""
        return _VERBS[self.verb](migrator, self)

    def is_done_by_withdrawing(self, migrator: Migrator) -> bool:
        """Whether this is a resume, and it was enough to take back a pause: that needs no worker, it may be at work."""
        if self.verb != "resume":
            return False
        return migrator.withdraw_pause(str(self.name), self.options)

    def is_kept_by(self, run: Run, start: Start | None) -> bool:
        """Whether a run can be what came of this. Of one whose start is not on the record less can be compared."""
        asked = self.options, self.name is not None, _LOOKS.get((self.verb, self.full))
        same = start is None or (start.options, start.named, start.look) == asked
        return same and run.kind in _KINDS[self.verb] and self.name in (None, run.migration)


def _resume(migrator: Migrator, wanted: Wanted) -> list[Report]:
    report = migrator.resume(str(wanted.name), wanted.options)
    return [] if report is None else [report]


_VERBS: dict[str, Callable[[Migrator, Wanted], list[Any]]] = {
    "run": lambda migrator, wanted: migrator.run(wanted.name, wanted.options),
    "dry-run": lambda migrator, wanted: migrator.dry_run(wanted.name, wanted.options, full=wanted.full),
    "verify": lambda migrator, wanted: migrator.verify(wanted.name),
    "rollback": lambda migrator, wanted: [migrator.rollback(str(wanted.name), wanted.options)],
    "dry-rollback": lambda migrator, wanted: [migrator.dry_rollback(str(wanted.name), wanted.options)],
    "retry": lambda migrator, wanted: [migrator.retry(str(wanted.name), wanted.options)],
    "resume": _resume,
}
_LOOKS = {("dry-run", False): "sample", ("dry-run", True): "full", ("dry-rollback", False): "rollback"}
_KINDS = {
    "run": _LEASED,  # a rollback that was left unfinished is gone on with
    "dry-run": {RunKind.DRY_RUN},
    "verify": {RunKind.VERIFY},
    "rollback": {RunKind.ROLLBACK},
    "dry-rollback": {RunKind.DRY_RUN},
    "retry": {RunKind.RUN},
    "resume": _LEASED,
}


class Job(SilentProgress):
    """One start at work: `begun` has the id of its first run, or None when it ended without one; `done` its reports.

    `owed_to` is who has not been told how it ended, if it ended without a run at `ended_at`.
    """

    migrator: Migrator

    def __init__(self, request_id: str, wanted: Wanted) -> None:
        self.request_id, self.wanted = request_id, wanted
        self.begun: Future[str | None] = Future()
        self.done: Future[list[Report]] = Future()
        self.run_id: str | None = None
        self.owed_to: str | None = None
        self.ended_at: datetime | None = None

    def started(self, migration: str, run_id: str) -> None:
        self.run_id = run_id
        if not self.begun.done():
            self.begun.set_result(run_id)

    @property
    def came_to_nothing(self) -> bool:
        """Whether it ended without a run."""
        return self.run_id is None and self.done.done()

    def reports(self) -> list[Report]:
        """What it has finished; of a start that ended in an error, what was finished before."""
        if not self.done.done():
            return []
        error = self.done.exception()
        return self.done.result() if error is None else list(getattr(error, "reports", ()))

    def end(self, ended: Future[list[Report]]) -> None:
        """Pass on how it ended. In the worker's thread, so after every `started`."""
        self.ended_at = datetime.now(UTC)
        if (error := ended.exception()) is not None:
            self.done.set_exception(error)
        else:
            self.done.set_result(ended.result())
        if not self.begun.done():  # last: whoever waits for the beginning then looks whether this is the end
            self.begun.set_result(None)


class Starts:
    """Starts one piece of work at a time in the background of this process.

    `identity` is what proves who acts: an "account" of the host, or a "token" of a file.
    """

    def __init__(self, migrator: Migrator, background: Background, identity: str = "account") -> None:
        self._migrator, self._background, self.identity = migrator, background, identity
        self._door = threading.Lock()
        self._job: Job | None = None

    def begin(self, wanted: Wanted, actor: str, request_id: str | None = None, door: str = REST) -> Job:
        """Start it in the actor's name. Raises `RunGoing` while this process is at work on something.

        A resume only takes back the pause, if the run has not obeyed it yet; its job has ended then, without a run.
        """
        job = Job(request_id or str(uuid4()), wanted)
        origin = Origin(door, job.request_id, named=wanted.name is not None)
        acting = self._migrator.acting_as(actor, job, origin=origin, seen=wanted.seen, identity=self.identity)
        job.migrator = migrator = acting
        try:
            with self._door:
                ended = self._background.start(lambda: wanted.carry_out(migrator), lambda: job.run_id)
                self._job = job
        except Refused as busy:
            if not wanted.is_done_by_withdrawing(migrator):
                raise RunGoing(str(busy), self.run_going()) from busy
            ended = Future()
            ended.set_result([])
        ended.add_done_callback(job.end)
        return job

    def withdraw(self, run_id: str, by: str) -> bool:
        """End this process's own dry run or verification; False where this id is not of one that goes on here."""
        job = self._looking_job(run_id)
        if job is None:
            return False
        job.migrator.withdraw(by)
        return True

    def can_withdraw(self, run_id: str) -> bool:
        """Whether this id is of a dry run or a verification that goes on in this process."""
        return self._looking_job(run_id) is not None

    def _looking_job(self, run_id: str) -> Job | None:
        job = self._job
        if job is None or job.run_id != run_id or job.done.done() or job.wanted.verb not in LOOKING:
            return None
        return job

    def owed(self, name: str, actor: str) -> Job | None:
        """This process's latest start, where it ended in an error, without a run, which its actor was not told yet."""
        job = self._job
        if job is None or (job.wanted.name, job.owed_to) != (name, actor) or not job.came_to_nothing:
            return None
        return job if job.done.exception() is not None else None

    def run_going(self, name: str | None = None) -> Run | None:
        """The run this process works on, or the one that goes on with this migration anywhere. Asks the database."""
        if name is not None:
            return self._migrator.current_run(name)
        run_id = self._background.run_id
        if run_id is None:
            return None
        found = self._migrator.follow([run_id])
        return found[0].run if found else None

    def going_by(self, error: HeldElsewhere) -> RunGoing:
        """The refusal of a start because of a run that another process makes. Asks the database."""
        return RunGoing(error.sentence, self.run_going(error.name))

    def request_id(self, actor: str, key: str) -> str:
        """The id that the run of this actor's Idempotency-Key has."""
        return str(uuid5(_KEYS, "\n".join((self._migrator.environment, actor, key))))

    def job_of(self, request_id: str, wanted: Wanted) -> Job | None:
        """The start with this id, if it is this process's latest. Raises `KeyReused` if it asked for something else."""
        job = self._job
        if job is None or job.request_id != request_id or job.came_to_nothing:
            return None
        if job.wanted != wanted:
            raise _reused()
        return job

    def run_of(self, request_id: str, wanted: Wanted) -> Run | None:
        """The run that came of the start with this id, in whichever process; None if none did. Asks the database.

        Raises `KeyReused` where the key was used for something else.
        """
        found = self._migrator.run_of_request(request_id)
        if found is None:
            return None
        run, start = found
        if not wanted.is_kept_by(run, start):
            raise _reused()
        return run


def _reused() -> KeyReused:
    return KeyReused("This Idempotency-Key was used for another request. Use a new key for a new request.")


def held_only(wanted: Wanted) -> Wanted:
    """A retry as its record tells it."""
    return replace(wanted, options=replace(wanted.options, held_only=True))


async def wait_for(future: Future[Any], seconds: float | None = None) -> bool:
    """Wait, without a thread, until the future has its result, for at most so long; whether it has."""
    loop, told = asyncio.get_running_loop(), asyncio.Event()

    def tell(_: Future[Any]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(told.set)

    future.add_done_callback(tell)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(told.wait(), seconds)
    return future.done()
