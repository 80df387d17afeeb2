"""The one object a host builds. Every verb of the library is a method here; the doors only parse, call and render.

What only a run needs is imported when one begins: looking is the common case, and must start fast.
"""

from __future__ import annotations

import builtins
import getpass
import os
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from system_migration import code, overview
from system_migration.clock import Clock, SystemClock
from system_migration.errors import (
    ConfigurationError,
    HeldElsewhere,
    Interrupted,
    MigrationSystemError,
    Paused,
    Refused,
)
from system_migration.lease import host_name
from system_migration.migration import Migration, Progress, SilentProgress
from system_migration.records import (
    DryRunReport,
    Finding,
    Issue,
    Listed,
    LogLine,
    MigrationStatus,
    Run,
    RunOptions,
    RunReport,
    Shown,
    StatusReport,
    as_json,
)
from system_migration.registry import Registry
from system_migration.settings import DEVELOPMENT, Settings
from system_migration.states import Outcome, RunKind, Status
from system_migration.store import audit, issues, migrations, runs, tracking
from system_migration.store.audit import Actor
from system_migration.store.database import Database
from system_migration.store.dialects import Fault
from system_migration.store.migrations import MigrationRow, Snapshot

if TYPE_CHECKING:
    from system_migration.running.workspace import Workspace

_T = TypeVar("_T")
_POLL_SECONDS = 0.5


class Migrator:
    """Runs the migrations of a registry against the database of an engine.

    It connects the way `engine` does, through connections of its own, which `close()` gives back (or use it as a
    context manager). Methods raise the errors of `system_migration.errors` and nothing else on purpose.
    """

    def __init__(
        self,
        engine: Engine,
        registry: Registry,
        settings: Settings | None = None,
        *,
        progress: Progress | None = None,
        executed_by: str | None = None,
        ask: Callable[[str], str | None] = lambda prompt: None,
        clock: Clock | None = None,
    ) -> None:
        self.registry = registry
        self.settings = settings or Settings()
        self._database = Database(engine, self._heed)
        self._actor = Actor(executed_by or f"{_user()}@{host_name()}", host_name())
        self._progress = progress or SilentProgress()
        self._ask = ask
        self._clock = clock or SystemClock()
        self._environment = self.settings.environment
        self._stop: int | None = None

    def __enter__(self) -> Migrator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close our own connections; the host's engine is untouched."""
        self._database.close()

    def request_stop(self, signal_number: int) -> None:
        """Ask a run in this process to finish the batch in flight and raise `Interrupted`. Safe in a signal handler."""
        self._stop = signal_number

    @property
    def environment(self) -> str:
        """The environment's name: as given, else as the database is bound, else development (SQLite only)."""
        if self._environment is None:
            binding = tracking.find_binding(self._database)
            self._environment = self._default_environment(binding.environment if binding else None)
        return self._environment

    def _default_environment(self, bound: str | None) -> str:
        if bound is None and self._database.dialect.is_server:
            raise ConfigurationError(
                "This server database is not bound to an environment yet, and none was named. "
                "Set MIGRATION_ENVIRONMENT or give --environment."
            )
        return bound or DEVELOPMENT

    # --- looking -------------------------------------------------------------------------------------------------

    def status(self) -> StatusReport:
        """Where every migration stands. One SELECT; writes nothing, takes no lock."""
        snapshot = self._snapshot()
        return overview.report(self.registry, snapshot, self.environment)

    def list(self) -> builtins.list[Listed]:
        """What the migration files declare, in the order in which they run."""
        return self.registry.listed()

    def pending(self) -> builtins.list[str]:
        """The migrations that a plain `run` would take, in order."""
        return overview.to_do(self.registry, self._snapshot())

    def show(self, name: str) -> Shown:
        """One migration with its runs, events and latest dry-run report."""
        snapshot = self._snapshot()
        status = overview.status_of(self.registry, snapshot, name)
        row = snapshot.rows.get(name)
        listed = next((item for item in self.registry.listed() if item.name == name), None)
        return Shown(
            status=status,
            listed=listed,
            generation=row.generation if row else 1,
            runs=self._read(lambda c: runs.history(c, self.environment, name, 20), []),
            events=self._read(lambda c: audit.events(c, self.environment, name, 20), []),
            report=self._read(lambda c: runs.latest_report(c, self.environment, name), None),
        )

    def history(self, name: str | None = None, limit: int = 100) -> builtins.list[Run]:
        """Attempts, newest first."""
        if name is not None:
            self._require_known(name)
        return self._read(lambda c: runs.history(c, self.environment, name, limit), [])

    def logs(
        self, name: str, *, run_id: str | None = None, level: str = "debug", limit: int = 200
    ) -> builtins.list[LogLine]:
        """The newest `limit` stored log lines of a migration at or above `level`, oldest first."""
        self._require_known(name)
        return self._read(lambda c: audit.lines(c, self.environment, name, run_id, level, limit), [])

    def issues(self, name: str) -> builtins.list[Issue]:
        """The held rows of a migration's current generation."""
        row = self._require_known(name)
        if row is None:
            return []
        return self._read(lambda c: issues.listing(c, self.environment, name, row.generation), [])

    def last_completed(self) -> str | None:
        """The migration that completed last: what a rollback without a name means."""
        rows = [row for row in self._snapshot().rows.values() if row.status is Status.COMPLETED and row.finished_at]
        newest = max(rows, key=lambda row: str(row.finished_at), default=None)
        return newest.name if newest else None

    def doctor(self) -> builtins.list[Finding]:
        """Look at everything a run depends on, and say what to do about what is wrong. Writes nothing."""
        from system_migration.running import examination

        return examination.examine(self._database, self.settings.environment, self._snapshot)

    # --- running -------------------------------------------------------------------------------------------------

    def run(self, name: str | None = None, options: RunOptions | None = None) -> builtins.list[RunReport]:
        """Run what is pending in order, or one migration by name; stop at the first that does not complete.

        With nothing pending this is one SELECT. An error carries the reports of those finished before it.
        """
        options = options or RunOptions()
        reports: builtins.list[RunReport] = []
        try:
            snapshot = self._snapshot()
            names = [self.registry[name].name] if name else overview.to_do(self.registry, snapshot, in_hand=True)
            if names:
                self._ready_to_write(options.allow_environment)
            for each in names:
                self._check_requirements(each)
                if name is None:
                    self._check_not_paused(each)
                report = self._run_one(each, options, named=name is not None)
                if report is not None:
                    reports.append(report)
        except MigrationSystemError as error:
            error.reports = reports
            raise
        return reports

    def _run_one(self, name: str, options: RunOptions, *, named: bool) -> RunReport | None:
        from system_migration.running.runner import Runner

        while True:
            try:
                return Runner(self._workspace(), self.registry[name], options).run(named=named)
            except HeldElsewhere as held:
                if not options.wait or type(held) is not HeldElsewhere:
                    raise
                self._progress.waiting(f"{name} is being run by {held.held_by}")
                self._wait_a_moment()
                row = self._snapshot().rows.get(name)
                if row is not None and row.status is Status.COMPLETED:
                    return None  # whoever ran it has done it

    def _wait_a_moment(self) -> None:
        self._heed()
        self._clock.sleep(_POLL_SECONDS)

    def _heed(self) -> None:
        if self._stop is not None:
            raise Interrupted(self._stop)

    def _check_requirements(self, name: str) -> None:
        rows = self._snapshot().rows
        for required in self.registry[name].requires:
            row = rows.get(required)
            if row is None or row.status not in (Status.COMPLETED, Status.SKIPPED):
                state = row.status if row else Status.PENDING
                raise Refused(f"Migration {name} requires {required}, which is {state}. Run {required} first.")

    def _check_not_paused(self, name: str) -> None:
        row = self._snapshot().rows.get(name)
        if row is not None and row.status is Status.PAUSED:
            raise Paused(name, f"{row.error or 'an operator paused it.'} Go on with `migration run {name}`.")

    def dry_run(
        self, name: str | None = None, options: RunOptions | None = None, *, full: bool = False
    ) -> builtins.list[DryRunReport]:
        """Preflight and transform for real, change nothing, report. A refusal is in the report, not raised."""
        options = options or RunOptions()
        snapshot = self._snapshot()
        names = [self.registry[name].name] if name else overview.to_do(self.registry, snapshot)
        stored = bool(names) and self._ready_to_report(options.allow_environment)
        return [self._dry_run_one(each, options, snapshot, full=full, stored=stored) for each in names]

    def _dry_run_one(
        self, name: str, options: RunOptions, snapshot: Snapshot, *, full: bool, stored: bool
    ) -> DryRunReport:
        from system_migration.running.dry_run import DryRun
        from system_migration.running.run_log import RunLog

        migration, row, log = self.registry[name], snapshot.rows.get(name), RunLog(name)
        report = DryRun(self._workspace(), migration, options, log, row, full=full).report()
        if stored:
            outcome = Outcome.REFUSED if report.refusal else Outcome.FAILED if report.error else Outcome.SUCCEEDED
            with self._database.write() as connection:
                attempt = self._record(connection, migration, row, RunKind.DRY_RUN)
                problem = report.refusal or report.error
                runs.finish(connection, attempt, outcome, error=problem, report=as_json(report))
                log.store(connection, attempt.id)
        return report

    def verify(self, name: str | None = None) -> builtins.list[RunReport]:
        """Verify one COMPLETED migration, or all of them, and record the result. `error` says what did not hold."""
        rows = self._snapshot().rows
        if name is not None and (name not in rows or rows[self.registry[name].name].status is not Status.COMPLETED):
            state = rows[name].status if name in rows else self.registry[name] and Status.PENDING
            raise Refused(f"Migration {name} is {state}; only a COMPLETED one can be verified.")
        names = [name] if name else [each for each in self.registry.names if self._is_completed(rows.get(each))]
        if names:
            self._ready_to_write(allow_environment=False)
        return [self._verify_one(each, rows[each]) for each in names]

    def _is_completed(self, row: MigrationRow | None) -> bool:
        return row is not None and row.status is Status.COMPLETED

    def _verify_one(self, name: str, row: MigrationRow) -> RunReport:
        from system_migration.running import verification
        from system_migration.running.run_log import RunLog

        migration, log, began = self.registry[name], RunLog(name), self._clock.monotonic()
        self._progress.phase(name, "verifying")
        with self._database.write() as connection:
            attempt = self._record(connection, migration, row, RunKind.VERIFY)
        try:
            verdict = verification.verify(self._workspace(), migration(), row, attempt, RunOptions(), log)
        except MigrationSystemError as reason:
            with self._database.write() as connection:
                runs.finish(connection, attempt, Outcome.REFUSED, error=str(reason))
            raise
        error = verdict.reason if verdict.possible and not verdict.passed else None
        with self._database.write() as connection:
            # Only if it still is what was verified: a reset or another run may have come in between.
            migrations.mark_verified(connection, row, verdict.passed)
            outcome = Outcome.FAILED if error else Outcome.SUCCEEDED
            runs.finish(connection, attempt, outcome, issues=row.issues, error=error)
            log.store(connection, attempt.id)
            detail = {"verified": verdict.passed, "reason": error}
            audit.add_event(connection, self.environment, name, "verified", self._actor, detail, attempt.id)
        return RunReport(
            name=name,
            kind=RunKind.VERIFY,
            status=row.status,
            verified=verdict.passed,
            records_processed=row.records_processed,
            issues=row.issues,
            unchanged=0,
            vanished=0,
            changed_meanwhile=0,
            seconds=self._clock.monotonic() - began,
            run_id=attempt.id,
            error=error,
            metadata={} if verdict.possible else {"note": "the migration brings no verify()"},
        )

    def rollback(self, name: str, options: RunOptions | None = None) -> RunReport:
        """Undo a migration that says it can be undone. A finished rollback starts the next generation."""
        from system_migration.running.runner import Runner

        options = options or RunOptions()
        migration = self.registry[name]
        self._check_not_required(name)
        if migration.rollbackable:
            self._ready_to_write(options.allow_environment)
        return Runner(self._workspace(), migration, options).rollback()

    def _check_not_required(self, name: str) -> None:
        rows = self._snapshot().rows
        for other in self.registry:
            if name in other.requires and self._is_completed(rows.get(other.name)):
                raise Refused(f"Migration {other.name} requires {name} and is COMPLETED. Roll back {other.name} first.")

    # --- deciding ------------------------------------------------------------------------------------------------

    def skip(self, name: str, reason: str, *, allow_environment: bool = False) -> MigrationStatus:
        """Mark a PENDING or FAILED migration as not to be run here."""
        return self._decide(name, Status.SKIPPED, "skipped", reason, allow_environment)

    def reset(self, name: str, reason: str, *, allow_environment: bool = False) -> MigrationStatus:
        """Make a migration PENDING again and start its next generation: all of its work may be done once more."""
        return self._decide(name, Status.PENDING, "reset", reason, allow_environment)

    def _decide(self, name: str, new: Status, action: str, reason: str, allow_environment: bool) -> MigrationStatus:
        migration = self.registry[name]
        self._ready_to_write(allow_environment)
        with self._database.write() as connection:
            row = migrations.read_or_add(connection, self.environment, name, migration.version)
            if row.held_by is not None:
                raise HeldElsewhere(name, row.held_by)
            if new is Status.PENDING:
                migrations.begin_generation(connection, row, new)
            else:
                migrations.transition(connection, row, new, error=None)
            audit.add_event(connection, self.environment, name, action, self._actor, {"reason": reason})
        return overview.status_of(self.registry, self._snapshot(), name)

    # --- the database --------------------------------------------------------------------------------------------

    def init(self) -> bool:
        """Create the tracking tables and bind the database to the environment; True when this call did."""
        bound = tracking.ensure(self._database, self.environment)
        self._ready_to_write(allow_environment=False)
        return bound

    def init_sql(self) -> str:
        """The SQL that creates the tracking tables, for a role that may."""
        return tracking.creation_sql(self._database)

    def adopt(self) -> str:
        """Rebind this database, with its history, to the environment. For a restored copy, or a renamed environment."""
        old = tracking.find_binding(self._database)
        if old is None:
            raise Refused("This database has no migration history to adopt. `migration init` binds it.")
        if self.settings.environment is None:
            raise ConfigurationError("Name the environment that adopts this database: --environment NAME.")
        with self._database.write() as connection:
            tracking.adopt(connection, self._database, self.environment, old)
            audit.add_event(connection, self.environment, None, "adopted", self._actor, {"from": old.environment})
        return f"This database now belongs to {self.environment!r} (before: {old.environment!r}), with its history."

    # --- pieces --------------------------------------------------------------------------------------------------

    def _workspace(self) -> Workspace:
        from system_migration.running.workspace import Workspace

        return Workspace(
            database=self._database,
            environment=self.environment,
            actor=self._actor,
            lease_seconds=self.settings.lease_seconds,
            progress=self._progress,
            ask=self._ask,
            clock=self._clock,
            stop_signal=lambda: self._stop,
        )

    def _snapshot(self) -> Snapshot:
        snapshot = self._read(lambda c: migrations.snapshot(c, self._environment), Snapshot(None, None, {}))
        if self._environment is None:
            self._environment = self._default_environment(snapshot.environment)
        return snapshot

    def _read(self, question: Callable[[Connection], _T], without_tables: _T) -> _T:
        try:
            with self._database.read() as connection:
                return question(connection)
        except DBAPIError as error:
            if self._database.dialect.fault(error) is Fault.NO_TABLE:
                return without_tables  # nothing was ever written here
            raise

    def _ready_to_write(self, allow_environment: bool) -> None:
        tracking.ensure(self._database, self.environment)
        binding = tracking.find_binding(self._database)
        assert binding is not None
        tracking.check_writable(self._database, binding, self.environment, allow_environment=allow_environment)

    def _ready_to_report(self, allow_environment: bool) -> bool:
        """As `_ready_to_write`; False where nothing can be written, so that a dry run only prints."""
        with self._database.read() as connection:
            if self._database.dialect.read_only(connection):
                return False
        try:
            self._ready_to_write(allow_environment)
        except Refused:
            raise
        except MigrationSystemError:
            return False  # the role may not create our tables
        return True

    def _record(self, connection: Any, migration: type[Migration], row: MigrationRow | None, kind: RunKind) -> Any:
        return runs.start(
            connection,
            environment=self.environment,
            name=migration.name,
            generation=row.generation if row else 1,
            kind=kind,
            fence=0,
            code=code.checksum(migration),
            executed_by=self._actor.name,
            host=self._actor.host,
        )

    def _require_known(self, name: str) -> MigrationRow | None:
        row = self._snapshot().rows.get(name)
        if row is None:
            self.registry[name]  # raises UnknownMigration
        return row


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"  # a container may run under a number that has no name
