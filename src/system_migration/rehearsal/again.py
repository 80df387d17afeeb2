"""The promise that running again finds nothing to do: every row is changed once."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from system_migration.batch_migration import BatchMigration
from system_migration.batching import keys
from system_migration.batching.resolution import resolve
from system_migration.errors import MigrationSystemError, Refused
from system_migration.migration import MigrationContext
from system_migration.rehearsal import fingerprints
from system_migration.rehearsal.naming import keys_of, where
from system_migration.rehearsal.report import Broken, Kept, Outcome
from system_migration.rehearsal.stage import Stage
from system_migration.running.contexts import call
from system_migration.running.run_log import RunLog
from system_migration.schema_changes import SchemaChanges


def nothing_is_left(stage: Stage) -> Outcome:
    """Run again by name, from a fresh migrator; where SQL knows what is pending also after a reset."""
    held = {issue.key for issue in stage.main.issues()}
    left = [key for key in pending_rows(stage) if key not in held]
    if left:
        return Broken("Its pending is still true for rows that the run has finished with.", left)
    if applied(stage) is False:
        return Broken("applied() is false although up has done its work: after a crash it would all be done once more.")
    for reset in (False, True):
        broken = _run_again(stage, reset=reset)
        if broken:
            return broken
    return Kept()


def _run_again(stage: Stage, *, reset: bool) -> Broken | None:
    migration = stage.batches
    if reset and (migration is None or not migration().has_pending):
        return None  # a reset says that all work may be done once more, and only `pending` knows better
    try:
        with stage.migrator_on(stage.main.engine) as migrator:
            if reset:
                migrator.reset(stage.name, "rehearsed")
            migrator.run(stage.name, stage.options)
    except Refused:
        pass  # COMPLETED, and without `pending` nothing could be found
    except MigrationSystemError as error:
        return Broken(f"Running it again failed: {error}")
    changed = list(fingerprints.changes(stage.after, stage.main.snapshot()))
    if changed:
        return Broken(f"Running it again changed {where(changed)} once more: it is not idempotent.", keys_of(changed))
    return None


def pending_rows(stage: Stage) -> list[Any]:
    """The keys of the rows that need the change now; none where SQL cannot tell."""
    migration = stage.batches
    if migration is None or not migration().has_pending:
        return []
    with stage.main.engine.connect() as connection:
        target = resolve(connection, migration())
        query = select(*target.key).where(*target.todo(None, None)).order_by(*target.key)
        return [keys.shown(tuple(row)) for row in connection.execute(query)]


def applied(stage: Stage) -> bool | None:
    """What the migration's own `applied` says now; None where it brings none."""
    migration = stage.migration
    if issubclass(migration, BatchMigration) or not migration.defines("applied"):
        return None
    with stage.main.engine.connect() as connection:
        return call(migration().applied, _context(stage, connection)) is True


def _context(stage: Stage, connection: Any) -> MigrationContext:
    return MigrationContext(
        connection=connection,
        schema=SchemaChanges(connection),
        environment=stage.settings.environment or "",
        dry_run=False,
        verbose=False,
        batch_size=None,
        log=RunLog(stage.name),
        executed_by="rehearsal",
    )
