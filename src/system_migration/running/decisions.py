"""What an operator decides about a migration: skip it, reset it, and what may be retried or resumed."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from system_migration.batch_migration import BatchMigration
from system_migration.errors import NotHeld, Refused, UnreadableKey
from system_migration.migration import Migration
from system_migration.records import RunOptions
from system_migration.running.claim import Decision, check_code
from system_migration.running.workspace import Workspace
from system_migration.states import RunKind, Status
from system_migration.store import issues, migrations
from system_migration.store.migrations import MigrationRow


def skip(workspace: Workspace, migration: type[Migration], reason: str) -> None:
    """Mark a PENDING or FAILED migration as not to be run here."""
    _decide(workspace, migration, Status.SKIPPED, "skipped", reason)


def reset(workspace: Workspace, migration: type[Migration], reason: str) -> None:
    """Make a migration PENDING again and start its next generation."""
    _decide(workspace, migration, Status.PENDING, "reset", reason)


def _decide(workspace: Workspace, migration: type[Migration], new: Status, action: str, reason: str) -> None:
    def decide(connection: Connection) -> bool:
        row = migrations.read_or_add(connection, workspace.environment, migration.name, migration.version)
        workspace.demand_unchanged(connection, row.name, row)
        if row.held_by is not None:
            raise workspace.held_elsewhere(connection, row.name, row.held_by)
        if new is Status.PENDING:
            migrations.begin_generation(connection, row, new)
        else:
            migrations.transition(connection, row, new, error=None)
        workspace.note(connection, row.name, action, {"reason": reason})
        return True

    workspace.act(migration.name, [action], decide)


def decide_retry(migration: type[Migration], options: RunOptions) -> Decision:
    """What `retry` does: work on the held rows alone, where a batch migration that is not going holds some."""

    def decide(connection: Connection, row: MigrationRow) -> RunKind:
        if not issubclass(migration, BatchMigration):
            raise Refused(f"Migration {row.name} holds no rows: it works through up(), not row by row. Run it again.")
        if row.status not in (Status.COMPLETED, Status.FAILED, Status.PAUSED) or _is_rollback(row):
            unfinished = _is_rollback(row) and row.status is not Status.ROLLED_BACK
            what = f"{row.status}, its rollback unfinished" if unfinished else str(row.status)
            raise Refused(f"Migration {row.name} is {what}; held rows are retried when a run has ended.")
        if issues.count(connection, row.environment, row.name, row.generation) == 0:
            raise Refused(f"Migration {row.name} holds no row, so there is nothing to retry.")
        if options.keys is not None:
            _demand_held(connection, row, options.keys)
        if row.status is not Status.COMPLETED:  # of a completed one, mended code is the reason to retry
            check_code(connection, migration, row, options)
        return RunKind.RUN

    return decide


def decide_held(migration: type[Migration], options: RunOptions, going_on: Decision) -> Decision:
    """What `run` does where it is to work on the held rows alone: `going_on` with a run without end, else a retry.

    A retry that is gone on with keeps to the rows that it was begun for, some of which it has done.
    """
    retry = decide_retry(migration, options)

    def decide(connection: Connection, row: MigrationRow) -> RunKind | None:
        return going_on(connection, row) if row.status is Status.RUNNING else retry(connection, row)

    return decide


def _demand_held(connection: Connection, row: MigrationRow, texts: Sequence[str]) -> None:
    """Raise `UnreadableKey` or `NotHeld` unless each of these is the key of a held row."""
    place = row.environment, row.name, row.generation
    try:
        held = issues.chosen(connection, *place, texts)
    except ValueError:
        raise UnreadableKey(row.name) from None
    missing = [text for text in dict.fromkeys(texts) if text not in held]
    if missing:
        raise NotHeld(row.name, len(missing), len(set(texts)), missing[0])


def _is_rollback(row: MigrationRow) -> bool:
    return row.run_kind is RunKind.ROLLBACK and row.status is not Status.COMPLETED


def check_window(migration: type[Migration], options: RunOptions) -> None:
    """Raise `Refused` where a run is to keep to a part of the table, and cannot."""
    if options.from_key is None and options.to_key is None:
        return
    if options.held_only:  # a held row outside of the range would pass for one that is gone, and be held no longer
        raise Refused("A retry is of held rows, all of them or chosen ones. Leave out the range of keys.")
    if not (issubclass(migration, BatchMigration) and migration.defines("pending")):
        raise Refused(
            f"Migration {migration.name} declares no pending(), so only the order of its batches tells what is done, "
            "and it cannot work on a part of the keys. Run it without --from-key and --to-key."
        )


def check_resumable(row: MigrationRow | None, name: str) -> None:
    """Raise `Refused` unless the migration is PAUSED."""
    if row is None or row.status is not Status.PAUSED:
        state = row.status if row is not None else Status.PENDING
        raise Refused(f"Migration {name} is {state}, not PAUSED. `migration run {name}` starts it, if it may start.")
