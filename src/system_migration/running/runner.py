"""One run of one migration, from the lease to the record of how it ended."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from uuid import uuid4

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from system_migration import code
from system_migration.batch_migration import BatchMigration
from system_migration.batching.target import Target, resolve
from system_migration.errors import (
    Cancelled,
    Interrupted,
    LeaseLost,
    MigrationFailed,
    MigrationSystemError,
    Paused,
    Refused,
    VerificationFailed,
)
from system_migration.migration import Migration
from system_migration.records import RunOptions, RunReport
from system_migration.running import imperative, undo_batches, verification
from system_migration.running.batches import BatchRun
from system_migration.running.claim import Claimed, Decision, claim, decide_run
from system_migration.running.contexts import describe, heed_stop
from system_migration.running.decisions import check_window, decide_retry
from system_migration.running.preflight import Preflight, Ready
from system_migration.running.requests import Requests
from system_migration.running.run_log import RunLog
from system_migration.running.window import NO_WINDOW, Window, check_inherited, window_text
from system_migration.running.workspace import Workspace
from system_migration.states import Outcome, RunKind, Status
from system_migration.store import audit, issues, leases, ledger, migrations, runs
from system_migration.store.migrations import MigrationRow
from system_migration.store.runs import Attempt
from system_migration.store.times import now

_T = TypeVar("_T")
NOTHING = ledger.Totals(0, 0, 0, 0, 0)
REPAIRS = 3
"""How often rows that verification finds still pending are worked on before it gives up."""


@dataclass
class Runner:
    """Runs, rolls back and verifies one migration in one workspace."""

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

    def run(self, *, named: bool) -> RunReport | None:
        """Run, resume or take over the migration; None when, seen with the lease, there is nothing to do.

        Raises `HeldElsewhere`, `Refused`, `MigrationFailed`, `Paused`, `Interrupted` or `LeaseLost`. Whatever was
        committed before is in the ledger, and the next run continues from there.
        """
        if self.options.from_key is not None or self.options.to_key is not None:
            check_window(self.migration)
        return self._with_lease(decide_run(self.migration, self.options, named=named))

    def retry(self) -> RunReport:
        """Work on the held rows alone; `options` say `held_only`. Raises what `run` raises."""
        report = self._with_lease(decide_retry(self.migration, self.options))
        assert report is not None
        return report

    def rollback(self) -> RunReport:
        """Undo a COMPLETED migration, or a FAILED or PAUSED one that has done work: by its `down`, or its journal.

        Raises as `run` does. From a journal, what is undone is in the ledger, and the next rollback goes on from there.
        """
        if not self.migration.rollbackable:
            raise Refused(f"Migration {self.name} cannot be rolled back: it declares rollbackable = False.")
        report = self._with_lease(self._decide_rollback)
        assert report is not None
        return report

    def _decide_rollback(self, connection: Connection, row: MigrationRow) -> RunKind:
        half_way = (Status.FAILED, Status.PAUSED) if self._journalled else (Status.FAILED,)
        undoable = row.status is Status.COMPLETED or (row.status in half_way and self._has_work(connection, row))
        unfinished = row.status in (Status.RUNNING, Status.PAUSED)
        continues = unfinished and row.run_kind is RunKind.ROLLBACK
        if not (undoable or continues):
            remedy = f" Cancel it first: `migration cancel {self.name}`." if row.status is Status.RUNNING else ""
            raise Refused(f"Migration {self.name} is {row.status}; there is no finished work to roll back.{remedy}")
        return RunKind.ROLLBACK

    @property
    def _journalled(self) -> bool:
        return isinstance(self.instance, BatchMigration) and self.instance.keeps_journal()

    def _has_work(self, connection: Connection, row: MigrationRow) -> bool:
        return row.applied or ledger.has_batches(connection, row.environment, row.name, row.generation)

    def _with_lease(self, decide: Decision) -> RunReport | None:
        claimed = claim(self.workspace, self.migration, decide)
        if claimed is None:
            return None
        with claimed.lease.beating():
            if claimed.kind is RunKind.ROLLBACK:
                return self._roll_back(claimed)
            return self._run(claimed)

    def _run(self, claimed: Claimed) -> RunReport:
        began = self.workspace.clock.monotonic()
        ready = self._preflight(claimed)
        heed_stop(self.workspace)
        if claimed.inherited is not None:
            check_inherited(claimed.inherited, ready.window)
        attempt = self._begin(claimed, RunKind.RUN, ready)
        self._pin(attempt, ready.pins)
        metadata = self._recorded(attempt, lambda: self._work(claimed, attempt, ready))
        return self._report(attempt, began, metadata)

    def _preflight(self, claimed: Claimed) -> Ready:
        """Everything that can refuse the start; a refusal and an error are recorded."""
        preflight = Preflight(self.workspace, self.instance, self.options, self.log, claimed.row)
        try:
            return self._ask(preflight.settle)
        except Refused as refusal:
            self._record_no_start(claimed, Outcome.REFUSED, str(refusal))
            raise
        except MigrationSystemError:
            raise
        except Exception as error:
            reason = describe(error, self.workspace.database.dialect, self.migration)
            self._record_no_start(claimed, Outcome.FAILED, reason)
            raise MigrationFailed(self.name, f"preflight ended with an error: {reason}") from error

    def _record_no_start(self, claimed: Claimed, outcome: Outcome, reason: str, kind: RunKind = RunKind.RUN) -> None:
        attempt = self._new_attempt(claimed, kind)

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

    def _new_attempt(self, claimed: Claimed, kind: RunKind, window: Window = NO_WINDOW) -> Attempt:
        """One that is not recorded yet. Its id, made first, tells afterwards whether the record arrived."""
        fence, generation = claimed.lease.claim.fence, claimed.row.generation
        keys_of_window = window.from_key, window.to_key
        return Attempt(str(uuid4()), self.workspace.environment, self.name, generation, kind, fence, *keys_of_window)

    def _insert_run(self, connection: Connection, attempt: Attempt) -> None:
        actor = self.workspace.actor
        runs.insert_attempt(connection, attempt, code.checksum(self.migration), actor.name, actor.host)

    def _begin(self, claimed: Claimed, kind: RunKind, ready: Ready | None) -> Attempt:
        """The attempt to continue, or a new one. From here on our transactions bear its name and its fence."""
        attempt = claimed.inherited or self._start(claimed, kind, ready)
        session = f"system_migration:{attempt.id[:8]}:{attempt.fence}"
        self.workspace = replace(self.workspace, database=self.workspace.database.named(session))
        return attempt

    def _start(self, claimed: Claimed, kind: RunKind, ready: Ready | None) -> Attempt:
        """Record the attempt and make the migration RUNNING, if the lease is still ours."""
        attempt = self._new_attempt(claimed, kind, ready.window if ready else NO_WINDOW)

        def start(connection: Connection) -> Attempt:
            if not leases.renew(connection, claimed.lease.claim):
                raise LeaseLost(self.name, "another runner took it over before the start")
            self._insert_run(connection, attempt)
            values: dict[str, Any] = {"run_id": attempt.id, "error": None, "finished_at": None}
            if ready is not None:
                values |= {"executed_at": now(), "executed_by": self.workspace.actor.name, "verified": False}
                values |= {"upper_bound": ready.upper_bound, "version": self.migration.version}
                values |= {"max_issues": ready.max_issues}
                self._release_held(connection, claimed.row, attempt)
            migrations.transition(connection, claimed.row, Status.RUNNING, **values)
            self._event(connection, f"{kind}_started", attempt, {"status": claimed.row.status})
            return attempt

        return self._transact(start, landed=lambda connection: runs.find(connection, attempt))

    def _release_held(self, connection: Connection, row: MigrationRow, attempt: Attempt) -> None:
        """Held rows get another try by code that was mended; passes by `pending` will find them."""
        if self.options.held_only:
            return  # each is released in the batch that tries it again
        mended = row.status is Status.FAILED and code.changed(self.migration, row.code_algorithm, row.code_checksum)
        if mended and isinstance(self.instance, BatchMigration) and self.instance.has_pending:
            released = issues.release(connection, row.environment, row.name, row.generation)
            self._event(connection, "released", attempt, {"rows": released})

    def _transact(
        self, step: Callable[[Connection], _T], *, landed: Callable[[Connection], _T | None] | None = None
    ) -> _T:
        return self.workspace.database.transact(step, self.workspace.progress.waiting, landed=landed)

    def _ask(self, question: Callable[[Connection], _T]) -> _T:
        return self.workspace.database.ask(question, self.workspace.progress.waiting)

    def _pin(self, attempt: Attempt, pins: dict[str, str]) -> None:
        def pin(connection: Connection) -> None:
            runs.check_fence(connection, self.workspace.database.dialect, attempt)
            migrations.pin(connection, attempt.environment, attempt.name, pins)

        self._transact(pin)

    def _recorded(self, attempt: Attempt, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Do the work; if it fails, say so in the record before the error goes on."""
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
            self._end(attempt, Status.FAILED, Outcome.FAILED, "cancelled", end.reason, cancelled_by=end.by)
            raise
        except MigrationFailed as failure:
            self._end(attempt, Status.FAILED, Outcome.FAILED, "failed", failure.reason)
            raise
        except Exception as error:
            reason = describe(error, self.workspace.database.dialect, self.migration)
            self._end(attempt, Status.FAILED, Outcome.FAILED, "failed", reason)
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
    ) -> None:
        failed = status is Status.FAILED and cancelled_by is None
        self.log.log(logging.ERROR if failed else logging.INFO, "%s: %s", action, reason)

        def end(connection: Connection) -> bool:
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
            # The run stays RUNNING and becomes stale: the next one takes over. What happened must still be told.
            why = describe(error, self.workspace.database.dialect, self.migration)
            self.log.error("%s, but not recorded: %s", action, why)

    def _work(self, claimed: Claimed, attempt: Attempt, ready: Ready) -> dict[str, Any]:
        requests = Requests(self.workspace.database, attempt, self.workspace.clock)
        requests.check_now()
        metadata: dict[str, Any] = {}
        if isinstance(self.instance, BatchMigration):
            if left := self._work_in_batches(claimed, attempt, ready, requests):
                return self._pause_after_part(attempt, left)
        elif not claimed.row.applied or self._is_half_undone(claimed.row):
            result = imperative.apply(self.workspace, self.instance, attempt, self.options, self.log)
            metadata = dict(result.metadata)
        requests.check_now()  # one that came while `up` was in its transaction
        verdict = self._verify(attempt)
        self._complete(attempt, verdict)
        return metadata

    def _work_in_batches(self, claimed: Claimed, attempt: Attempt, ready: Ready, requests: Requests) -> int:
        """Work until nothing is left; of a run that keeps to a part of the rows, how many are left outside of it."""
        if self.options.held_only or attempt.is_windowed:
            self._batch_run(claimed, attempt, ready, requests, again=True).work()
            return self._rows_left(attempt)
        again = claimed.row.status is Status.COMPLETED
        for _ in range(REPAIRS):
            self._batch_run(claimed, attempt, ready, requests, again=again).work()
            if not self._pending_left(attempt):
                break
            again = True
        return 0

    def _pause_after_part(self, attempt: Attempt, left: int) -> dict[str, Any]:
        """The part is done and the rest is not: no failure, so no error; the record is PAUSED."""
        part = "The held rows were tried again" if self.options.held_only else f"{window_text(attempt)} are done"
        note = f"{part}; {left:,} rows outside of them remain. `migration run {self.name}` does the rest."
        self._end(attempt, Status.PAUSED, Outcome.PAUSED, "paused", note)
        return {"note": note}

    def _is_half_undone(self, row: MigrationRow) -> bool:
        """Whether a `down` without a transaction failed half-way: what is applied is then asked of the migration."""
        return row.run_kind is RunKind.ROLLBACK and not self.migration.transactional

    def _batch_run(
        self, claimed: Claimed, attempt: Attempt, ready: Ready, requests: Requests, *, again: bool
    ) -> BatchRun:
        assert isinstance(self.instance, BatchMigration)

        def stop_signal() -> int | None:
            requests.check()
            return self.workspace.stop_signal()

        return BatchRun(
            workspace=replace(self.workspace, stop_signal=stop_signal),
            migration=self.instance,
            attempt=attempt,
            lease=claimed.lease,
            options=self.options,
            log=self.log,
            upper_bound=ready.upper_bound,
            allowed_issues=ready.allowed_issues if ready.max_issues is None else ready.max_issues,
            max_changed=ready.max_changed,
            again=again,
        )

    def _pending_left(self, attempt: Attempt) -> bool:
        """Rows that writers added after the last pass looked."""
        instance = self.instance
        assert isinstance(instance, BatchMigration)

        def look(connection: Connection) -> bool:
            return verification.pending_rows(connection, resolve(connection, instance), attempt) > 0

        return instance.has_pending and self._ask(look)

    def _rows_left(self, attempt: Attempt) -> int:
        """Rows of the whole table that are neither done nor held."""
        instance = self.instance
        assert isinstance(instance, BatchMigration)

        def look(connection: Connection) -> int:
            return verification.rows_left(connection, resolve(connection, instance), self._row(connection), attempt)

        return self._ask(look)

    def _verify(self, attempt: Attempt) -> verification.Verdict:
        self.workspace.progress.phase(self.name, "verifying")
        row = self._ask(self._row)
        try:
            verdict = verification.verify(self.workspace, self.instance, row, attempt, self.options, self.log)
        except Refused as refusal:
            raise VerificationFailed(self.name, str(refusal)) from refusal
        if verdict.possible and not verdict.passed:
            raise VerificationFailed(self.name, verdict.reason or "verification did not pass.")
        return verdict

    def _complete(self, attempt: Attempt, verdict: verification.Verdict) -> None:
        def complete(connection: Connection) -> bool:
            runs.check_fence(connection, self.workspace.database.dialect, attempt)
            row = self._row(connection)
            held = issues.count(connection, attempt.environment, attempt.name, attempt.generation)
            processed = self._processed(connection, attempt, row)
            if row.request is not None:
                asked = {"request": row.request, "by": row.requested_by}
                self._event(connection, "request_came_too_late", attempt, asked)
            migrations.transition(
                connection,
                row,
                Status.COMPLETED,
                verified=verdict.passed,
                finished_at=now(),
                issues=held,
                records_processed=processed,
                error=None,
            )
            runs.finish(connection, attempt, Outcome.SUCCEEDED, records_processed=processed, issues=held)
            self.log.store(connection, attempt.id)
            self._event(connection, "completed", attempt, {"verified": verdict.passed, "issues": held})
            return True

        self._transact(complete, landed=self._succeeded(attempt))

    def _succeeded(self, attempt: Attempt) -> Callable[[Connection], bool | None]:
        """Whether the record that ends the attempt arrived."""
        return lambda connection: runs.outcome(connection, attempt) is Outcome.SUCCEEDED or None

    def _roll_back(self, claimed: Claimed) -> RunReport:
        began = self.workspace.clock.monotonic()
        fresh = self._journalled and claimed.inherited is None
        target = self._plan_undo(claimed) if fresh else None
        self.workspace.progress.phase(self.name, "rolling back")
        attempt = self._begin(claimed, RunKind.ROLLBACK, None)

        def work() -> dict[str, Any]:
            if self._journalled:
                return self._undo_batches(claimed, attempt, target)
            result = imperative.undo(self.workspace, self.instance, attempt, self.options, self.log)
            return dict(result.metadata)

        return self._report(attempt, began, self._recorded(attempt, work))

    def _plan_undo(self, claimed: Claimed) -> Target:
        """The table to restore. Raises `Refused`, before any write to it, when the journal cannot undo the work."""
        place = Attempt("", self.workspace.environment, self.name, claimed.row.generation, RunKind.ROLLBACK, 0)
        try:
            return undo_batches.plan(self.workspace, self.instance, place, claimed.row)
        except Refused as refusal:
            self._record_no_start(claimed, Outcome.REFUSED, str(refusal), RunKind.ROLLBACK)
            raise

    def _undo_batches(self, claimed: Claimed, attempt: Attempt, target: Target | None) -> dict[str, Any]:
        target = target or undo_batches.plan(self.workspace, self.instance, attempt, claimed.row)
        undo = undo_batches.UndoBatches(self.workspace, target, attempt, claimed.lease, self.options.max_issues)
        undo.work()
        restored, listed = undo.restored(), undo.listed()
        self.log.info("%d changes undone, %d rows left as they are", restored, listed)

        def record(connection: Connection) -> bool:
            runs.check_fence(connection, self.workspace.database.dialect, attempt)
            row = self._row(connection)
            migrations.begin_generation(
                connection, row, Status.ROLLED_BACK, finished=True, records_processed=restored, issues=listed
            )
            runs.finish(connection, attempt, Outcome.SUCCEEDED, records_processed=restored, issues=listed)
            self.log.store(connection, attempt.id)
            self._event(connection, "rolled_back", attempt, {"restored": restored, "listed": listed})
            return True

        self._transact(record, landed=self._succeeded(attempt))
        return {}

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
        undone = attempt.kind is RunKind.ROLLBACK
        done = NOTHING if undone else self._ask(lambda connection: ledger.totals(connection, attempt))
        return RunReport(
            name=self.name,
            kind=attempt.kind,
            status=row.status,
            verified=row.verified,
            records_processed=row.records_processed,
            issues=row.issues,
            unchanged=done.unchanged,
            vanished=done.vanished,
            changed_meanwhile=done.deferred,
            seconds=self.workspace.clock.monotonic() - began,
            run_id=attempt.id,
            metadata=metadata,
        )
