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
from system_migration.errors import Interrupted, Refused
from system_migration.lease import host_name
from system_migration.migrator import Migrator
from system_migration.records import RunOptions, RunReport
from system_migration.startup_plan import (
    MEANING,
    Plan,
    Stage,
    after_failed_look,
    decide,
    may_block,
    passes,
    without_looking,
    words,
)

EXIT_NOT_YET = 75
"""`EX_TEMPFAIL`: the deadline passed and the application must not serve yet. Start the process again."""

_LOOK_SECONDS = 0.5
"""How often it is looked while the application must not serve."""
_FOLLOW_SECONDS = 1.0
"""How often while a run goes on beside it."""
_GLANCE_SECONDS = 10.0
"""How often when only a person can change anything."""
_ENDS_BY_ITSELF = (Stage.RUNNING, Stage.FOLLOWING, Stage.PENDING)
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
        self._given_up: str | None = None
        self._late: Callable[[], None] | None = None
        self._deadline = 0.0
        blocking = any(may_block(each.blocks_startup, each.manual, self._settings) for each in migrator.registry)
        self._state = StartupState(Stage.LOOKING, not blocking, MEANING[Stage.LOOKING])

    def begin(self, late: Callable[[], None] | None = None) -> None:
        """Begin, once. Returns at once; the database is asked in a thread.

        `late` is called in that thread when the deadline passes while a migration still keeps the application from
        serving and somebody is expected to finish it.
        """
        if self._thread is not None or self._state.stage is Stage.OFF:
            return
        self._late, self._deadline = late, time.monotonic() + self._settings.startup_seconds
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

    def wait(self, *, to_the_end: bool = False) -> bool:
        """Wait until the application may serve; False when the deadline passed first, or the process is to stop.

        With `to_the_end` also until what this process runs has ended, for a process that lives no longer.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._settled(to_the_end), max(0.0, self._deadline - time.monotonic()))
            return self._state.ready

    def _settled(self, to_the_end: bool) -> bool:
        state = self._state
        if state.stage in (Stage.STOPPED, Stage.MISCONFIGURED):
            return True
        going = self._run is not None or state.stage in (Stage.LOOKING, Stage.RUNNING)
        return state.ready and not (to_the_end and going)

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
        while not self._stopping.is_set() and self._migrator.stop_asked is None:
            plan = self._look()
            self._publish(plan)
            if plan.stage is Stage.DONE:
                return
            self._check_deadline()
            self._wake.wait(self._pause())
            self._wake.clear()
        self._publish(Plan(Stage.STOPPED, MEANING[Stage.STOPPED], ready=False))

    def _pause(self) -> float:
        if not self._state.ready:
            return _LOOK_SECONDS
        return _FOLLOW_SECONDS if self._state.stage in (Stage.RUNNING, Stage.FOLLOWING) else _GLANCE_SECONDS

    def _look(self) -> Plan:
        """Where things stand; starts what is to be started."""
        if self._run is not None and self._run.done():
            self._note_end(self._run)
            self._run = None
        try:
            plan = decide(self._migrator.status(), self._settings)
            return self._act(plan)
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
            return replace(plan, stage=Stage.ATTENTION, sentence=self._given_up)
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
        """Whether this process may run something again: after any failure it only follows, so nothing is retried."""
        error = run.exception()
        if error is not None and not passes(error) and not isinstance(error, Interrupted):
            self._given_up = f"{words(error)} This process starts nothing more."

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
        if self._state.ready or self._late is None or time.monotonic() < self._deadline:
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
    deadline passes first. A run that goes on here is ended cleanly when the interpreter exits.
    """
    startup = Startup(migrator, background)
    atexit.register(startup.stop)
    startup.begin()
    if not startup.wait():
        startup.tell_too_late()
        startup.stop()
        raise SystemExit(EXIT_NOT_YET)
    return startup
