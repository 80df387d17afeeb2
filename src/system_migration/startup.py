"""Migrations when an application starts: a door for code, which decides nothing that `startup_plan` does not.

startup = Startup(migrator)
startup.begin()                    # returns at once and never raises: the application can start beside it
startup.state().ready              # whether it may serve by now
startup.stop()                     # ends a run at a clean checkpoint; the next start continues it
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace

from system_migration.background import Background
from system_migration.errors import EXIT_NOT_YET, Interrupted, MigrationFailed, Paused, Refused
from system_migration.lease import host_name
from system_migration.migrator import Migrator
from system_migration.records import RunOptions, RunReport, StatusReport
from system_migration.startup_plan import (
    MEANING,
    Plan,
    Stage,
    after_failed_look,
    decide,
    is_settled,
    may_block,
    passes,
    without_looking,
    words,
)

_LOOK_SECONDS = 0.5
"""How often it is looked while the application must not serve."""
_FOLLOW_SECONDS = 1.0
"""How often while a run goes on beside it."""
_GLANCE_SECONDS = 10.0
"""How often when only a person can change anything."""
_AWAY_SECONDS = 60.0
"""How long a process that lives no longer waits for a database that is away: a host that boots starts both at once."""
_ENDS_BY_ITSELF = (Stage.FOLLOWING, Stage.PENDING)
_LOUD = (Stage.REFUSED, Stage.ATTENTION, Stage.MISCONFIGURED, Stage.DATABASE_AWAY)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StartupState:
    """Where a start is. `sentence` may name people, hosts and reasons; `MEANING[stage]` may be shown to anybody."""

    stage: Stage
    ready: bool
    sentence: str
    migration: str | None = None
    rows_done: int | None = None
    rows_total: int | None = None


@dataclass
class _GivenUp:
    """Why this process starts nothing, and the migration that has to be settled before it does."""

    reason: str
    migration: str | None


class Startup:
    """What one process does about migrations when its application starts.

    A thread looks, starts what is to be started through `background`, and follows what others run, until nothing is
    pending. It looks with one SELECT at a time and holds nothing between. Nothing that goes wrong in it ends the
    process: it is logged and stands in `state()`. What dies with the process is resumed by another start.
    """

    def __init__(
        self, migrator: Migrator, background: Background | None = None, *, executed_by: str | None = None
    ) -> None:
        self._migrator, self._settings = migrator, migrator.settings
        self._background = background or Background(migrator)
        self._progress = _Told(migrator)
        self._acting = migrator.acting_as(executed_by or f"startup@{host_name()}", self._progress)
        self._changed = threading.Condition()
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._run: Future[list[RunReport]] | None = None
        self._run_sentence = ""
        self._given_up: _GivenUp | None = None
        self._late: Callable[[], None] | None = None
        self._deadline = self._away_until = 0.0
        blocking = any(may_block(each.blocks_startup, each.manual, self._settings) for each in migrator.registry)
        self._state = StartupState(Stage.LOOKING, not blocking, MEANING[Stage.LOOKING])

    def begin(self, late: Callable[[], None] | None = None) -> None:
        """Begin, once. Returns at once; the database is asked in a thread.

        `late` is called in that thread when the deadline passes while a migration still keeps the application from
        serving and somebody else is expected to finish it. A run of this process is let come to its end.
        """
        if self._thread is not None or self._state.stage is Stage.OFF:
            return
        self._late, self._deadline = late, time.monotonic() + self._settings.startup_seconds
        self._away_until = time.monotonic() + _AWAY_SECONDS
        if (plan := without_looking(self._settings)) is not None:
            self._publish(plan)
            return
        self._thread = threading.Thread(target=self._watch, name="migration startup", daemon=True)
        self._thread.start()

    def state(self) -> StartupState:
        """Where it is now. Asks nothing, so it answers at once whatever the database does."""
        state = self._state
        if state.stage is not Stage.RUNNING or self._progress.migration is None:
            return state
        told = self._progress
        return replace(state, migration=told.migration, rows_done=told.done, rows_total=told.total)

    def wait(self, *, to_the_end: bool = False, until_ready: bool = True) -> bool:
        """Wait until the application may serve; False when the deadline passed first, or the process is to stop.

        The deadline is for what others run: while this process runs something itself, it waits as long as that takes.
        With `to_the_end` also until what this process runs has ended, for a process that lives no longer; and a minute
        for a database that is away, since nobody asks it again afterwards. Not `until_ready`, that is all it waits for:
        for a process that becomes a server which looks by itself whether it may serve.
        """
        with self._changed:
            while not self._settled(to_the_end, until_ready) and (left := self._seconds_left()) > 0:
                self._changed.wait(left)
            return self._state.ready

    def _seconds_left(self) -> float:
        """Until the deadline, which a run of this process puts off: it is there for those that wait for others.

        A process that ended its own run for it would begin work without checkpoints anew, again and again.
        """
        if self._run is not None or self._background.busy:
            self._deadline = time.monotonic() + self._settings.startup_seconds
        return self._deadline - time.monotonic()

    def _settled(self, to_the_end: bool, until_ready: bool) -> bool:
        state = self._state
        if state.stage in (Stage.STOPPED, Stage.MISCONFIGURED):
            return True
        going = self._run is not None or state.stage in (Stage.LOOKING, Stage.RUNNING)
        return (state.ready or not until_ready) and not (to_the_end and (going or self._may_come_yet))

    @property
    def _may_come_yet(self) -> bool:
        return self._state.stage is Stage.DATABASE_AWAY and time.monotonic() < self._away_until

    def request_stop(self, signal_number: int) -> None:
        """Ask what goes on to end at a clean checkpoint. Returns at once; safe in a signal handler."""
        self._migrator.request_stop(signal_number)

    def stop(self, timeout: float | None = None) -> bool:
        """End what goes on at a clean checkpoint; False when `timeout` seconds passed before it had ended."""
        self._stopping.set()
        self._wake.set()
        ended = self._background.stop(timeout)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(1.0)  # it may hang in a connection for long; it is a daemon and holds nothing
        return ended

    # --- the thread ----------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while self._goes_on():
            plan = self._look()
            self._publish(plan)
            if plan.stage is Stage.DONE:
                return
            self._check_deadline()
            self._wake.wait(self._pause())
            self._wake.clear()
        self._publish(Plan(Stage.STOPPED, MEANING[Stage.STOPPED], ready=False))

    def _goes_on(self) -> bool:
        if self._run is not None and self._run.done():
            self._note_end(self._run)
            self._seconds_left()
            self._run = None
        return not self._stopping.is_set() and self._migrator.stop_asked is None

    def _pause(self) -> float:
        if not self._state.ready:
            return _LOOK_SECONDS
        soon = self._state.stage in (Stage.RUNNING, Stage.FOLLOWING) or self._may_come_yet
        return _FOLLOW_SECONDS if soon else _GLANCE_SECONDS

    def _look(self) -> Plan:
        """Where things stand; starts what is to be started."""
        try:
            report = self._migrator.status()
            self._reconsider(report)
            return self._act(decide(report, self._settings))
        except Exception as error:  # whatever it is, the application starts
            return after_failed_look(error)

    def _act(self, plan: Plan) -> Plan:
        if self._run is not None:
            return replace(plan, stage=Stage.RUNNING, sentence=self._run_sentence)
        if plan.stage is not Stage.RUNNING:
            if plan.stage is Stage.FOLLOWING:
                self._migrator.progress.waiting(plan.sentence)
            return plan
        if self._given_up is not None:
            rest = f"This process starts nothing more until {self._given_up.migration} is settled."
            return replace(plan, stage=Stage.ATTENTION, sentence=f"{self._given_up.reason} {rest}")
        try:
            self._progress.run_id = None
            self._run = self._background.start(
                lambda: self._acting.run(options=RunOptions(unattended=True)), lambda: self._progress.run_id
            )
        except Interrupted:
            return Plan(Stage.STOPPED, MEANING[Stage.STOPPED], ready=False)
        except Refused as busy:  # by a run that was started over HTTP
            return replace(plan, stage=Stage.FOLLOWING, sentence=str(busy))
        self._run_sentence = plan.sentence
        self._run.add_done_callback(self._look_at_once_if_it_matters)
        return plan

    def _look_at_once_if_it_matters(self, run: Future[list[RunReport]]) -> None:
        """After a run that left all as it was there is time: else two looks and a start would chase each other."""
        error = run.exception()
        if not passes(error) if error is not None else run.result():
            self._wake.set()

    def _note_end(self, run: Future[list[RunReport]]) -> None:
        """Whether this process may run something again: after a failure not before a person has settled that one.

        A pause is no failure: whoever resumes it decides that what comes after it is run too.
        """
        error = run.exception()
        if isinstance(error, Interrupted):  # the interpreter ends, and calls `stop` when it has waited for others
            self._stopping.set()
        elif error is not None and not passes(error) and not isinstance(error, Paused):
            self._given_up = _GivenUp(words(error), error.name if isinstance(error, MigrationFailed) else None)

    def _reconsider(self, report: StatusReport) -> None:
        given_up = self._given_up
        if given_up is not None and given_up.migration is None:  # a refusal names none: what it kept back is next
            given_up.migration = next(iter(report.in_line), None)
        elif given_up is not None and given_up.migration is not None and is_settled(report, given_up.migration):
            self._given_up = None

    # --- what is told --------------------------------------------------------------------------------------------

    def _publish(self, plan: Plan) -> None:
        """Show where it is. Once the application may serve it stays so: what is decided later is no start's affair."""
        before = self._state
        after = StartupState(plan.stage, before.ready or plan.ready, plan.sentence, plan.migration, plan.rows_done)
        with self._changed:
            self._state = after
            self._changed.notify_all()
        if after.sentence != before.sentence:
            self._tell(after)

    def _tell(self, state: StartupState) -> None:
        loud = state.stage in _LOUD or (state.stage is Stage.OFF and self._settings.auto_migrate)
        level = logging.WARNING if loud or state.stage is Stage.PENDING else logging.INFO
        log.log(level, "%s", state.sentence, extra={"action": f"startup.{state.stage}", "migration": state.migration})

    def _check_deadline(self) -> None:
        if self._state.ready or self._late is None or self._seconds_left() > 0:
            return
        if self._state.stage in _ENDS_BY_ITSELF:
            late, self._late = self._late, None
            self.tell_too_late()
            late()

    def tell_too_late(self) -> None:
        """Log why the process ends, now that the deadline has passed."""
        seconds = f"{self._settings.startup_seconds:g} seconds (MIGRATION_STARTUP_SECONDS)"
        sentence = f"The application must not serve yet, and {seconds} have passed. {self._state.sentence}"
        log.error("%s", sentence, extra={"action": "startup.too_late", "migration": self._state.migration})


class _Told:
    """Keeps what a run told last, and passes it on to whoever watches the migrator."""

    def __init__(self, migrator: Migrator) -> None:
        self._next = migrator.progress
        self.run_id: str | None = None
        self.migration: str | None = None
        self.done = 0
        self.total: int | None = None

    def started(self, migration: str, run_id: str) -> None:
        self.run_id = run_id
        self._next.started(migration, run_id)

    def phase(self, migration: str, phase: str) -> None:
        if migration != self.migration:
            self.migration, self.done, self.total = migration, 0, None
        self._next.phase(migration, phase)

    def rows(self, done: int, total: int | None, held: int) -> None:
        self.done, self.total = done, total
        self._next.rows(done, total, held)

    def waiting(self, reason: str) -> None:
        self._next.waiting(reason)


def migrate_on_startup(migrator: Migrator, background: Background | None = None) -> Startup:
    """For a WSGI application or a worker process: call it once in each process, after any fork, before the work.

    Returns at once, or, where a migration blocks the start, when that has ended. Raises `SystemExit(75)` when the
    deadline passes first and nothing runs here. A run that goes on here is ended cleanly when the interpreter exits.
    """
    startup = Startup(migrator, background)
    atexit.register(startup.stop)
    startup.begin()
    if not startup.wait():
        startup.tell_too_late()
        startup.stop()
        raise SystemExit(EXIT_NOT_YET)
    return startup
