"""The promise that a run completes and changes what it declares, and nothing else."""

from __future__ import annotations

from system_migration.batch_migration import BatchMigration
from system_migration.errors import MigrationSystemError
from system_migration.records import Issue
from system_migration.rehearsal import again
from system_migration.rehearsal.fingerprints import Change
from system_migration.rehearsal.naming import keys_of, where
from system_migration.rehearsal.report import Broken, Kept, Outcome
from system_migration.rehearsal.stage import Stage

STILL_PENDING = "still_pending"


def completes_as_declared(stage: Stage) -> Outcome:
    """Run it; what changed must be in the columns it declares, and in rows it counted."""
    applied = again.applied(stage)
    if applied is True:
        return Broken("applied() is true before anything was done: a run that was killed would be taken for done.")
    try:
        stage.report = stage.main.run()
    except MigrationSystemError as error:
        return _failed(stage, error)
    stage.after = stage.main.snapshot()
    if still := _still_pending(stage.main.issues()):
        return still
    if stage.batches is not None:
        return _judge(stage, stage.batches)
    return Kept()


def _failed(stage: Stage, error: MigrationSystemError) -> Outcome:
    issues = stage.main.issues()
    if still := _still_pending(issues):
        return still
    if not issues and (left := again.pending_rows(stage)):
        return Broken(_STAYS_TRUE, left)
    why = f" The first held row: {issues[0].code}, {issues[0].message}." if issues else ""
    return Broken(f"The run did not complete: {error}{why}", [issue.key for issue in issues])


_STAYS_TRUE = (
    "Its pending stays true after the new values are written, so that the work would never end: make it false for a "
    "migrated row."
)


def _still_pending(issues: list[Issue]) -> Broken | None:
    rows = [issue.key for issue in issues if issue.code == STILL_PENDING]
    return Broken(_STAYS_TRUE, rows) if rows else None


def _judge(stage: Stage, migration: type[BatchMigration]) -> Outcome:
    name = migration().table_name
    changed = stage.changed
    elsewhere = [change for change in changed if change.table != name]
    if elsewhere:
        return Broken(
            f"It changed {where(elsewhere)}, and declares only {name}: a trigger, or code beside its transform, writes "
            "there, and no guard protects what it writes.",
            keys_of(elsewhere),
        )
    if rows := [change for change in changed if change.kind != "changed"]:
        return Broken(f"It changed which rows there are in {where(rows)}: a batch only changes columns.", keys_of(rows))
    undeclared = [part for change in changed if (part := _undeclared(change, migration.writes)) is not None]
    if undeclared:
        return Broken(f"It changed {where(undeclared)}, not declared in writes.", keys_of(undeclared))
    if len(changed) > stage.report.records_processed:
        return Broken(
            f"It changed {len(changed)} rows and counted {stage.report.records_processed}: something else changes rows "
            "while it runs, such as a trigger.",
            keys_of(changed),
        )
    return Kept()


def _undeclared(change: Change, writes: tuple[str, ...]) -> Change | None:
    columns = tuple(name for name in change.columns if name not in writes)
    return Change(change.table, change.key, change.kind, columns, change.old, change.new) if columns else None
