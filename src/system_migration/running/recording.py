"""Attempts that change no data, so that any number may go on: dry runs and verifications, each with how it ended."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from system_migration import code, facts
from system_migration.errors import Interrupted, Refused, Withdrawn
from system_migration.evidence import sealed
from system_migration.lease import HeldLease
from system_migration.migration import Migration
from system_migration.records import DryRunReport, RunOptions, RunReport, as_json, empty_report
from system_migration.running import undo_dry_run, verification
from system_migration.running.claim import what_was_asked
from system_migration.running.contexts import describe
from system_migration.running.dry_run import DryRun
from system_migration.running.reporting import run_report
from system_migration.running.run_log import RunLog
from system_migration.running.verification import Verdict
from system_migration.running.workspace import Workspace
from system_migration.states import Outcome, RunKind
from system_migration.store import audit, leases, migrations, runs
from system_migration.store.audit import Actor
from system_migration.store.migrations import MigrationRow
from system_migration.store.patience import BRIEF
from system_migration.store.runs import Attempt

_log = logging.getLogger(__name__)


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
    trial = DryRun(workspace, migration, options, log, row, full=full)
    generation = row.generation if row else 1

    def look() -> DryRunReport:
        report = trial.report()
        # What is on no record cannot be approved, so it needs no hash.
        return sealed(report, migration, workspace.environment, generation, options) if stored else report

    asked = what_was_asked(workspace, options) | {"look": "full" if full else "sample"}
    return kept(workspace, migration, row, stored, look, log, asked=asked)


def dry_rollback(
    workspace: Workspace,
    migration: type[Migration],
    row: MigrationRow | None,
    options: RunOptions,
    check: Callable[[], None],
    *,
    stored: bool,
) -> DryRunReport:
    """Compare what a rollback would restore and, where something may be `stored`, keep the report with its attempt.

    `check` raises `Refused` where the rollback would be.
    """

    def look() -> DryRunReport:
        try:
            check()
            return replace(undo_dry_run.dry_run(workspace, migration, row), undoing=True)
        except Refused as refusal:
            return empty_report(migration.name, refusal=str(refusal), undoing=True)

    asked = what_was_asked(workspace, options) | {"look": "rollback"}
    return kept(workspace, migration, row, stored, look, asked=asked)


def kept(
    workspace: Workspace,
    migration: type[Migration],
    row: MigrationRow | None,
    stored: bool,
    look: Callable[[], DryRunReport],
    log: RunLog | None = None,
    *,
    asked: Mapping[str, Any],
) -> DryRunReport:
    """The report that `look` makes, kept with an attempt of its own where something may be `stored`.

    Whatever ends it early is its outcome. Dying half-way leaves an attempt without one.
    """
    if not stored:
        return look()
    attempt, sign_of_life = _begin(workspace, migration, row, RunKind.DRY_RUN, asked)
    with sign_of_life.beating(), _with_an_end(workspace, migration, attempt):
        report = look()
        outcome = Outcome.REFUSED if report.refusal else Outcome.FAILED if report.error else Outcome.SUCCEEDED
        with workspace.database.write() as connection:
            runs.finish(connection, attempt, outcome, error=report.refusal or report.error, report=as_json(report))
            if log is not None:
                log.store(connection, attempt.id)
        _tell_end(workspace, outcome, report.refusal or report.error, rows=report.examined, held=report.would_hold)
    return report


def verify(workspace: Workspace, migration: type[Migration], row: MigrationRow) -> RunReport:
    """Verify a COMPLETED migration once more, and record the verdict. The report's `error` says what did not hold.

    Whatever ends it early is its outcome. Dying half-way leaves an attempt without one; the migration is as verified
    as before.
    """
    log, began = RunLog(migration.name), workspace.clock.monotonic()
    workspace.progress.phase(migration.name, "verifying")
    attempt, sign_of_life = _begin(workspace, migration, row, RunKind.VERIFY, what_was_asked(workspace, RunOptions()))
    with sign_of_life.beating(), _with_an_end(workspace, migration, attempt):
        verdict = verification.verify(workspace, migration(), row, attempt, RunOptions(), log)
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
    _tell_end(workspace, outcome, error, held=row.issues)


def _tell_end(workspace: Workspace, outcome: Outcome, error: str | None, *, rows: int = 0, held: int = 0) -> None:
    cause = {Outcome.SUCCEEDED: None, Outcome.REFUSED: "Refused"}.get(outcome, "MigrationFailed")
    workspace.progress.ended(outcome.value, rows, held, error=error, error_type=cause)


def _failure(verdict: Verdict) -> str | None:
    return verdict.reason if verdict.possible and not verdict.passed else None


def _begin(
    workspace: Workspace, migration: type[Migration], row: MigrationRow | None, kind: RunKind, asked: Mapping[str, Any]
) -> tuple[Attempt, HeldLease]:
    """A new attempt, and a lease under its own id, by which others see whether its process lives.

    What was asked is kept with it where a door wants to know its start again.
    """
    generation = row.generation if row else 1
    attempt = Attempt(next(workspace.run_ids), workspace.environment, migration.name, generation, kind, fence=0)
    actor, anchor = workspace.actor, workspace.clock.monotonic()
    place = workspace.environment, attempt.id
    with workspace.database.write() as connection:
        if kind is RunKind.VERIFY:
            now = migrations.read(connection, workspace.environment, migration.name)
            workspace.demand_unchanged(connection, migration.name, now)
        leases.insert_missing(connection, *place)
        claim = leases.acquire(connection, *place, attempt.id, actor.name, workspace.lease_seconds)
        runs.insert_attempt(connection, attempt, code.checksum(migration), actor.name, actor.host)
        if workspace.origin is not None:
            audit.add_event(
                connection, workspace.environment, migration.name, f"{kind}_started", actor, asked, attempt.id
            )
    assert claim is not None  # nobody else knows of it
    workspace.progress.started(migration.name, attempt.id)
    workspace.progress.began(workspace.which_run(attempt))
    says = workspace.progress.said
    return attempt, HeldLease(workspace.database, claim, workspace.clock, anchor, let_go=leases.forget, says=says)


@contextmanager
def _with_an_end(workspace: Workspace, migration: type[Migration], attempt: Attempt) -> Iterator[None]:
    """Whatever is raised in the block, even what ends a program, is on the record before it goes on."""
    try:
        yield
    except BaseException as error:
        reason = describe(error, workspace.database.dialect, migration)
        _end_early(workspace, attempt, error, reason)
        outcome = facts.REFUSED if isinstance(error, Refused) else facts.FAILED
        outcome = facts.INTERRUPTED if isinstance(error, Interrupted) else outcome
        workspace.progress.ended(outcome, error=reason, error_type=type(error).__name__)
        raise


def _end_early(workspace: Workspace, attempt: Attempt, error: BaseException, reason: str) -> None:
    outcome = Outcome.REFUSED if isinstance(error, Refused) else Outcome.FAILED

    def end(connection: Connection) -> None:
        runs.finish(connection, attempt, outcome, error=reason)
        if isinstance(error, Withdrawn):
            by, detail = Actor(error.by, workspace.actor.host), {"kind": attempt.kind, "reason": reason}
            audit.add_event(connection, attempt.environment, attempt.name, "cancelled", by, detail, attempt.id)

    try:
        workspace.database.transact(end, patience=BRIEF)
    except (SQLAlchemyError, Interrupted) as why:  # what happened must still be told, and not in an hour
        extra = {"action": "run.not_recorded", "migration": attempt.name, "run_id": attempt.id}
        _log.error("the end of a %s is not recorded: %s", attempt.kind, type(why).__name__, extra=extra)
