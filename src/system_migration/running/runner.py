"""One run of one migration, from the lease to the record of how it ended."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from system_migration import facts
from system_migration.batch_migration import BatchMigration
from system_migration.batching.executors import Pool
from system_migration.batching.resolution import resolve
from system_migration.errors import (
    MigrationFailed,
    MigrationSystemError,
    Refused,
    VerificationFailed,
)
from system_migration.records import RunReport
from system_migration.running import imperative, verification
from system_migration.running.batches import BatchRun
from system_migration.running.claim import Claimed, Decision, claim, decide_run
from system_migration.running.clustering import cluster
from system_migration.running.contexts import describe, heed_stop
from system_migration.running.decisions import check_window, decide_held, decide_retry
from system_migration.running.preflight import Preflight, Ready
from system_migration.running.requests import Requests
from system_migration.running.rollback import Rollback
from system_migration.running.schema_wait import after_schema
from system_migration.running.undertaking import Undertaking
from system_migration.running.window import check_inherited, window_text
from system_migration.states import Outcome, RunKind, Status
from system_migration.store import issues, migrations, runs
from system_migration.store.migrations import MigrationRow
from system_migration.store.runs import Attempt
from system_migration.store.times import now

REPAIRS = 3
"""How often rows that verification finds still pending are worked on before it gives up."""


@dataclass
class Runner(Undertaking):
    """Runs one migration, or goes on with what a runner left unfinished."""

    _cluster: Pool | None = None

    def run(self, *, named: bool) -> RunReport | None:
        """Run, resume or take over the migration; None when, seen with the lease, there is nothing to do.

        Raises `HeldElsewhere`, `Refused`, `MigrationFailed`, `Paused`, `Interrupted` or `LeaseLost`. Whatever was
        committed before is in the ledger, and the next run continues from there.
        """
        decide = decide_run(self.migration, self.options, named=named)
        if self.options.held_only:
            decide = decide_held(self.migration, self.options, decide)
        return self._with_lease(decide)

    def retry(self) -> RunReport:
        """Work on the held rows alone; `options` say `held_only`. Raises what `run` raises."""
        report = self._with_lease(decide_retry(self.migration, self.options))
        assert report is not None
        return report

    def _with_lease(self, decide: Decision) -> RunReport | None:
        check_window(self.migration, self.options)
        decide = after_schema(self.migration, self.workspace.schema, decide)
        claimed = claim(self.workspace, self.migration, self.options, decide)
        if claimed is None:
            return None
        self.options = claimed.options
        with claimed.lease.beating():
            if claimed.kind is RunKind.ROLLBACK:
                return Rollback(self.workspace, self.migration, self.options).go_on(claimed)
            return self._run(claimed)

    def _run(self, claimed: Claimed) -> RunReport:
        with ExitStack() as stack:
            return self._run_with(stack, claimed)

    def _run_with(self, stack: ExitStack, claimed: Claimed) -> RunReport:
        began = self.workspace.clock.monotonic()
        ready = self._preflight(stack, claimed)
        heed_stop(self.workspace)
        if claimed.inherited is not None:
            check_inherited(claimed.inherited, ready.window)
        attempt = self._begin(claimed, RunKind.RUN, ready)
        if claimed.inherited is not None:
            self.log.info("taken over by %s on %s", self.workspace.actor.name, self.workspace.actor.host)
        metadata = self._recorded(attempt, lambda: self._work(claimed, attempt, ready))
        return self._report(attempt, began, metadata)

    def _preflight(self, stack: ExitStack, claimed: Claimed) -> Ready:
        """Everything that can refuse the start; a refusal and an error are recorded. `stack` has what is then open."""
        preflight = Preflight(self.workspace, self.instance, self.options, self.log, claimed.row)
        try:
            self._cluster = stack.enter_context(cluster(self.workspace, self.migration, self.options, self.log))
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

    def _pin(self, attempt: Attempt, pins: dict[str, str]) -> None:
        def pin(connection: Connection) -> None:
            runs.check_fence(connection, self.workspace.database.dialect, attempt)
            migrations.pin(connection, attempt.environment, attempt.name, pins)

        self._transact(pin)

    def _work(self, claimed: Claimed, attempt: Attempt, ready: Ready) -> dict[str, Any]:
        self._pin(attempt, ready.pins)
        requests = Requests(self.workspace.database, attempt, self.workspace.clock)
        requests.check_now()
        metadata: dict[str, Any] = {}
        if isinstance(self.instance, BatchMigration):
            if left := self._work_in_batches(claimed, attempt, ready, requests):
                return self._pause_after_part(attempt, left)
        elif not claimed.row.applied or self._is_half_undone(claimed.row):
            self.workspace.progress.phase(self.name, "migrating")
            result = imperative.apply(self.workspace, self.instance, attempt, self.options, self.log)
            metadata = dict(result.metadata)
        requests.check_now()  # one that came while `up` was in its transaction
        verdict = self._verify(attempt)
        self._complete(attempt, verdict)
        return metadata

    def _work_in_batches(self, claimed: Claimed, attempt: Attempt, ready: Ready, requests: Requests) -> int:
        """Work until nothing is left; of a run that keeps to a part of the rows, how many are left outside of it."""
        if attempt.held_only or attempt.is_windowed:
            again = claimed.inherited is None  # else the same pass goes on: its deaths are counted there
            part = self._batch_run(claimed, attempt, ready, requests, again=again)
            finished, left = part.work(), self._rows_left(attempt)
            if not left:
                part.judge(finished)
            return left
        again = claimed.row.status is Status.COMPLETED
        for _ in range(REPAIRS):
            whole = self._batch_run(claimed, attempt, ready, requests, again=again)
            whole.judge(whole.work())
            if not self._pending_left(attempt):
                break
            again = True
        return 0

    def _pause_after_part(self, attempt: Attempt, left: int) -> dict[str, Any]:
        """The part is done and the rest is not: no failure, so no error; the record is PAUSED."""
        part = "The held rows were tried again" if attempt.held_only else f"{window_text(attempt)} are done"
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
            cluster=self._cluster,
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
        processed = held = 0

        def complete(connection: Connection) -> bool:
            nonlocal processed, held
            runs.check_fence(connection, self.workspace.database.dialect, attempt)
            row = self._row(connection)
            held = issues.count(connection, attempt.environment, attempt.name, attempt.generation)
            processed = self._processed(connection, attempt, row)
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
            if row.request is not None:
                asked = {"request": row.request, "by": row.requested_by}
                self._event(connection, "request_came_too_late", attempt, asked)
            self._event(connection, "completed", attempt, {"verified": verdict.passed, "issues": held})
            return True

        self._transact(complete, landed=self._succeeded(attempt))
        self.workspace.progress.ended(facts.SUCCEEDED, processed, held)
