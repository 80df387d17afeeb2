"""Attempts that no lease protects: dry runs and verifications, each recorded with how it ended."""

from __future__ import annotations

from collections.abc import Callable

from system_migration import code
from system_migration.errors import MigrationSystemError, Refused
from system_migration.migration import Migration
from system_migration.records import DryRunReport, RunOptions, RunReport, as_json, empty_report
from system_migration.running import undo_dry_run, verification
from system_migration.running.dry_run import DryRun
from system_migration.running.reporting import run_report
from system_migration.running.run_log import RunLog
from system_migration.running.verification import Verdict
from system_migration.running.workspace import Workspace
from system_migration.states import Outcome, RunKind
from system_migration.store import audit, migrations, runs
from system_migration.store.migrations import MigrationRow
from system_migration.store.runs import Attempt


def dry_run(
    workspace: Workspace,
    migration: type[Migration],
    row: MigrationRow | None,
    options: RunOptions,
    *,
    full: bool,
    stored: bool,
) -> DryRunReport:
    """Make a dry run and, where something may be `stored`, keep its report with its attempt."""
    log = RunLog(migration.name)
    look = DryRun(workspace, migration, options, log, row, full=full)
    return kept(workspace, migration, row, stored, look.report, log)


def dry_rollback(
    workspace: Workspace, migration: type[Migration], row: MigrationRow | None, *, stored: bool
) -> DryRunReport:
    """Compare what a rollback would restore and, where something may be `stored`, keep the report with its attempt."""

    def look() -> DryRunReport:
        try:
            return undo_dry_run.dry_run(workspace, migration, row)
        except Refused as refusal:
            return empty_report(migration.name, refusal=str(refusal))

    return kept(workspace, migration, row, stored, look)


def kept(
    workspace: Workspace,
    migration: type[Migration],
    row: MigrationRow | None,
    stored: bool,
    look: Callable[[], DryRunReport],
    log: RunLog | None = None,
) -> DryRunReport:
    """The report that `look` makes, kept with an attempt of its own where something may be `stored`.

    Dying half-way leaves an attempt without an outcome.
    """
    if not stored:
        return look()
    attempt = _begin(workspace, migration, row, RunKind.DRY_RUN)
    try:
        report = look()
    except MigrationSystemError as reason:
        _refuse(workspace, attempt, reason)
        raise
    outcome = Outcome.REFUSED if report.refusal else Outcome.FAILED if report.error else Outcome.SUCCEEDED
    with workspace.database.write() as connection:
        runs.finish(connection, attempt, outcome, error=report.refusal or report.error, report=as_json(report))
        if log is not None:
            log.store(connection, attempt.id)
    return report


def verify(workspace: Workspace, migration: type[Migration], row: MigrationRow) -> RunReport:
    """Verify a COMPLETED migration once more, and record the verdict. The report's `error` says what did not hold.

    Dying half-way leaves an attempt without an outcome; the migration is as verified as before.
    """
    log, began = RunLog(migration.name), workspace.clock.monotonic()
    workspace.progress.phase(migration.name, "verifying")
    attempt = _begin(workspace, migration, row, RunKind.VERIFY)
    try:
        verdict = verification.verify(workspace, migration(), row, attempt, RunOptions(), log)
    except MigrationSystemError as reason:
        _refuse(workspace, attempt, reason)
        raise
    _record_verdict(workspace, row, attempt, verdict, log)
    seconds = workspace.clock.monotonic() - began
    metadata = {} if verdict.possible else {"note": "the migration brings no verify()"}
    return run_report(row, attempt, seconds, verified=verdict.passed, metadata=metadata, error=_failure(verdict))


def _record_verdict(workspace: Workspace, row: MigrationRow, attempt: Attempt, verdict: Verdict, log: RunLog) -> None:
    error = _failure(verdict)
    with workspace.database.write() as connection:
        # Only if it still is what was verified: a reset or another run may have come in between.
        migrations.mark_verified(connection, row, verdict.passed)
        outcome = Outcome.FAILED if error else Outcome.SUCCEEDED
        runs.finish(connection, attempt, outcome, issues=row.issues, error=error)
        log.store(connection, attempt.id)
        detail = {"verified": verdict.passed, "reason": error}
        audit.add_event(connection, attempt.environment, row.name, "verified", workspace.actor, detail, attempt.id)


def _failure(verdict: Verdict) -> str | None:
    return verdict.reason if verdict.possible and not verdict.passed else None


def _begin(workspace: Workspace, migration: type[Migration], row: MigrationRow | None, kind: RunKind) -> Attempt:
    generation = row.generation if row else 1
    attempt = Attempt(next(workspace.run_ids), workspace.environment, migration.name, generation, kind, fence=0)
    actor = workspace.actor
    with workspace.database.write() as connection:
        runs.insert_attempt(connection, attempt, code.checksum(migration), actor.name, actor.host)
    workspace.progress.started(migration.name, attempt.id)
    return attempt


def _refuse(workspace: Workspace, attempt: Attempt, reason: MigrationSystemError) -> None:
    with workspace.database.write() as connection:
        runs.finish(connection, attempt, Outcome.REFUSED, error=str(reason))
