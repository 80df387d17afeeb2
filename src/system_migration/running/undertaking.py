"""What every attempt under a lease shares: how it begins, what it records, and how it ends."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from uuid import uuid4

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from system_migration import code, facts
from system_migration.batch_migration import BatchMigration
from system_migration.errors import RUN_ENDED, Cancelled, Interrupted, LeaseLost, MigrationFailed, Paused
from system_migration.migration import Migration
from system_migration.records import RunOptions, RunReport
from system_migration.running.claim import Claimed, what_was_asked
from system_migration.running.contexts import describe
from system_migration.running.preflight import Ready
from system_migration.running.reporting import run_report
from system_migration.running.run_log import RunLog
from system_migration.running.window import NO_WINDOW, Window
from system_migration.running.workspace import Workspace
from system_migration.states import Outcome, RunKind, Status
from system_migration.store import audit, issues, leases, ledger, migrations, runs
from system_migration.store.migrations import MigrationRow
from system_migration.store.runs import Attempt
from system_migration.store.times import now

_T = TypeVar("_T")


@dataclass
class Undertaking:
    """One migration in one workspace, to be run or rolled back.

    Every record is written in a transaction that checks the fence, and known for done if its commit's answer is lost.
    """

    workspace: Workspace
    migration: type[Migration]
    options: RunOptions
    log: RunLog = field(init=False)
    instance: Migration = field(init=False)

    def __post_init__(self) -> None:
        self.instance = self.migration()
        self.log = RunLog(self.migration.name)

    @property
    def name(self) -> str:
        """The migration's name."""
        return self.migration.name

    def _record_no_start(self, claimed: Claimed, outcome: Outcome, reason: str, kind: RunKind = RunKind.RUN) -> None:
        # Not the id that was asked for: a later start of the same request may still begin, and then bears it.
        attempt = self._new_attempt(claimed, kind, str(uuid4()))

        def record(connection: Connection) -> Attempt:
            self._insert_run(connection, attempt)
            runs.finish(connection, attempt, outcome, error=reason)
            self.log.store(connection, attempt.id)
            self._event(connection, outcome.value, attempt, {"reason": reason})
            return attempt

        try:
            self._transact(record, landed=lambda connection: runs.find(connection, attempt))
        except DBAPIError as error:
            # Nothing began, so nothing is missing but the note; why nothing began must still be told.
            self.log.error("not recorded: %s", self.workspace.database.dialect.describe(error))
        which, cause = self.workspace.which_run(attempt), "Refused" if outcome is Outcome.REFUSED else "MigrationFailed"
        self.workspace.progress.ended(outcome.value, error=reason, error_type=cause, of=which)

    def _new_attempt(self, claimed: Claimed, kind: RunKind, run_id: str, window: Window = NO_WINDOW) -> Attempt:
        """One that is not recorded yet. Its id, made first, tells afterwards whether the record arrived."""
        fence, generation = claimed.lease.claim.fence, claimed.row.generation
        part = window.from_key, window.to_key, self.options.held_only and kind is RunKind.RUN
        return Attempt(run_id, self.workspace.environment, self.name, generation, kind, fence, *part)

    def _insert_run(self, connection: Connection, attempt: Attempt) -> None:
        actor = self.workspace.actor
        runs.insert_attempt(connection, attempt, code.checksum(self.migration), actor.name, actor.host)

    def _begin(self, claimed: Claimed, kind: RunKind, ready: Ready | None) -> Attempt:
        """The attempt to continue, or a new one. From here on our transactions bear its name and its fence."""
        attempt = claimed.inherited or self._start(claimed, kind, ready)
        session = f"system_migration:{attempt.id[:8]}:{attempt.fence}"
        self.workspace = replace(self.workspace, database=self.workspace.database.named(session))
        self.workspace.progress.started(self.name, attempt.id)
        self.workspace.progress.began(self.workspace.which_run(attempt), taken_over=claimed.inherited is not None)
        return attempt

    def _start(self, claimed: Claimed, kind: RunKind, ready: Ready | None) -> Attempt:
        """Record the attempt and make the migration RUNNING, if the lease is still ours."""
        window = ready.window if ready else NO_WINDOW
        attempt = self._new_attempt(claimed, kind, next(self.workspace.run_ids), window)

        def start(connection: Connection) -> Attempt:
            if not leases.renew(connection, claimed.lease.claim):
                raise LeaseLost(self.name, "another runner took it over before the start")
            self._insert_run(connection, attempt)
            values: dict[str, Any] = {"run_id": attempt.id, "error": None, "finished_at": None, "verified": False}
            released = None
            if ready is not None:
                values |= {"executed_at": now(), "executed_by": self.workspace.actor.name}
                values |= {"upper_bound": ready.upper_bound, "version": self.migration.version}
                values |= {"max_issues": ready.max_issues}
                if claimed.row.status is Status.ROLLED_BACK:  # what was restored is not what this generation has done
                    values |= {"records_processed": 0, "issues": 0}
                released = self._release_held(connection, claimed.row)
            migrations.transition(connection, claimed.row, Status.RUNNING, **values)
            if released is not None:
                self._event(connection, "released", attempt, {"rows": released})
            detail = {"status": claimed.row.status} | what_was_asked(self.workspace, self.options)
            self._event(connection, f"{kind}_started", attempt, detail)
            return attempt

        started = self._transact(start, landed=lambda connection: runs.find(connection, attempt))
        self.log.info("%s started by %s on %s", kind, self.workspace.actor.name, self.workspace.actor.host)
        return started

    def _release_held(self, connection: Connection, row: MigrationRow) -> int | None:
        """Held rows get another try by code that was mended; passes by `pending` will find them. How many, if so."""
        if self.options.held_only:
            return None  # each is released in the batch that tries it again
        mended = row.status is Status.FAILED and code.changed(self.migration, row.code_algorithm, row.code_checksum)
        if mended and isinstance(self.instance, BatchMigration) and self.instance.has_pending:
            return issues.release(connection, row.environment, row.name, row.generation)
        return None

    def _transact(
        self, step: Callable[[Connection], _T], *, landed: Callable[[Connection], _T | None] | None = None
    ) -> _T:
        return self.workspace.database.transact(step, self.workspace.progress.waiting, landed=landed)

    def _ask(self, question: Callable[[Connection], _T]) -> _T:
        return self.workspace.database.ask(question, self.workspace.progress.waiting)

    def _recorded(self, attempt: Attempt, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Do the work; if it fails, say so in the record before the error goes on."""
        try:
            return self._with_its_end(attempt, work)
        except LeaseLost as lost:  # by the work, or by the record of how it failed
            self.workspace.progress.ended(facts.SUPERSEDED, error=str(lost), error_type=type(lost).__name__)
            raise

    def _with_its_end(self, attempt: Attempt, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        try:
            return work()
        except LeaseLost:
            raise
        except Interrupted as stop:
            self._end(attempt, None, None, "interrupted", str(stop))
            raise
        except Paused as pause:
            self._end(attempt, Status.PAUSED, Outcome.PAUSED, "paused", pause.reason)
            raise
        except Cancelled as end:
            cause = type(end).__name__
            self._end(
                attempt, Status.FAILED, Outcome.FAILED, "cancelled", end.reason, cancelled_by=end.by, error_type=cause
            )
            raise
        except MigrationFailed as failure:
            cause = type(failure).__name__
            self._end(attempt, Status.FAILED, Outcome.FAILED, "failed", failure.reason, error_type=cause)
            raise
        except Exception as error:
            reason = describe(error, self.workspace.database.dialect, self.migration)
            self._end(attempt, Status.FAILED, Outcome.FAILED, "failed", reason, error_type="MigrationFailed")
            raise MigrationFailed(self.name, reason) from error

    def _end(
        self,
        attempt: Attempt,
        status: Status | None,
        outcome: Outcome | None,
        action: str,
        reason: str,
        *,
        cancelled_by: str | None = None,
        error_type: str | None = None,
    ) -> None:
        processed = held = 0
        failed = status is Status.FAILED and cancelled_by is None
        level = logging.ERROR if failed else logging.INFO
        self.log.log(level, "%s: %s", action, reason, extra={"action": RUN_ENDED})

        def end(connection: Connection) -> bool:
            nonlocal processed, held
            runs.check_fence(connection, self.workspace.database.dialect, attempt)
            row = self._row(connection)
            held = issues.count(connection, attempt.environment, attempt.name, attempt.generation)
            processed = self._processed(connection, attempt, row)
            if status is not None and outcome is not None:
                values = {"error": reason, "finished_at": now(), "issues": held, "records_processed": processed}
                migrations.transition(connection, row, status, cancelled_by=cancelled_by, **values)
                runs.finish(connection, attempt, outcome, records_processed=processed, issues=held, error=reason)
            self.log.store(connection, attempt.id)
            self._event(connection, action, attempt, {"reason": reason})
            return True

        def landed(connection: Connection) -> bool | None:
            return audit.newest_action(connection, attempt.id) == action or None

        try:
            self._transact(end, landed=landed)
        except (DBAPIError, Interrupted) as error:
            # The run stays RUNNING and becomes stale: the next one takes over, and tells how it ended, under its id.
            why = describe(error, self.workspace.database.dialect, self.migration)
            self.log.error("%s, but not recorded: %s", action, why)
            action, error_type = facts.INTERRUPTED, None
        self.workspace.progress.ended(action, processed, held, error=reason, error_type=error_type)

    def _succeeded(self, attempt: Attempt) -> Callable[[Connection], bool | None]:
        """Whether the record that ends the attempt arrived."""
        return lambda connection: runs.outcome(connection, attempt) is Outcome.SUCCEEDED or None

    def _processed(self, connection: Connection, attempt: Attempt, row: MigrationRow) -> int:
        if isinstance(self.instance, BatchMigration):
            return ledger.totals(connection, attempt).changed
        return row.records_processed

    def _row(self, connection: Connection) -> MigrationRow:
        row = migrations.read(connection, self.workspace.environment, self.name)
        assert row is not None
        return row

    def _event(self, connection: Connection, action: str, attempt: Attempt, detail: dict[str, Any]) -> None:
        audit.add_event(connection, attempt.environment, attempt.name, action, self.workspace.actor, detail, attempt.id)

    def _report(self, attempt: Attempt, began: float, metadata: dict[str, Any]) -> RunReport:
        row = self._ask(self._row)
        seconds = self.workspace.clock.monotonic() - began
        if attempt.kind is RunKind.ROLLBACK:
            return run_report(row, attempt, seconds, verified=row.verified, metadata=metadata)
        done = self._ask(lambda connection: ledger.totals(connection, attempt))
        return run_report(row, attempt, seconds, verified=row.verified, metadata=metadata, done=done)
