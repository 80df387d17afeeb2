"""Undoing one migration, from the lease to the record of how it ended: by its `down`, or from its journal."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from system_migration import facts
from system_migration.batch_migration import BatchMigration
from system_migration.batching.target import Target
from system_migration.batching.throttle import RateLimit
from system_migration.errors import Refused
from system_migration.records import RunReport
from system_migration.running import imperative, undo_batches
from system_migration.running.claim import Claimed, claim
from system_migration.running.requests import Requests
from system_migration.running.undertaking import Undertaking
from system_migration.states import Outcome, RunKind, Status
from system_migration.store import ledger, migrations, runs
from system_migration.store.migrations import MigrationRow
from system_migration.store.runs import Attempt


class Rollback(Undertaking):
    """Rolls back one migration."""

    def rollback(self) -> RunReport:
        """Undo a COMPLETED migration, or a FAILED or PAUSED one that has done work: by its `down`, or its journal.

        Raises as `run` does. From a journal, what is undone is in the ledger, and the next rollback goes on from there.
        """
        if not self.migration.rollbackable:
            raise Refused(f"Migration {self.name} cannot be rolled back: it declares rollbackable = False.")
        claimed = claim(self.workspace, self.migration, self.options, self._decide_rollback)
        assert claimed is not None
        with claimed.lease.beating():
            return self.go_on(claimed)

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

    def go_on(self, claimed: Claimed) -> RunReport:
        """Roll back, or continue a rollback that was left unfinished, under a lease that is held."""
        began = self.workspace.clock.monotonic()
        fresh = self._journalled and claimed.inherited is None
        target = self._plan_undo(claimed) if fresh else None
        self.workspace.progress.phase(self.name, "rolling back")
        attempt = self._begin(claimed, RunKind.ROLLBACK, None)

        requests = Requests(self.workspace.database, attempt, self.workspace.clock)

        def work() -> dict[str, Any]:
            requests.check_now()
            if self._journalled:
                return self._undo_batches(claimed, attempt, target, requests)
            result = imperative.undo(self.workspace, self.instance, attempt, self.options, self.log)
            self.workspace.progress.ended(facts.SUCCEEDED, result.records_processed)
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

    def _undo_batches(
        self, claimed: Claimed, attempt: Attempt, target: Target | None, requests: Requests
    ) -> dict[str, Any]:
        target = target or undo_batches.plan(self.workspace, self.instance, attempt, claimed.row)
        undo = undo_batches.UndoBatches(
            self.workspace,
            target,
            attempt,
            claimed.lease,
            self.options.max_issues,
            requests.check,
            RateLimit(self.options.max_rate),
        )
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
        self.workspace.progress.ended(facts.SUCCEEDED, restored, listed)
        return {}
