"""Can this migration be rolled back now? Answered from the record alone, without a look at the migrated table."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection

from system_migration.batch_migration import BatchMigration
from system_migration.migration import Migration
from system_migration.registry import Registry
from system_migration.states import RunKind, Status
from system_migration.store import journal, ledger, migrations
from system_migration.store.migrations import MigrationRow
from system_migration.store.runs import Attempt

POSSIBLE = "can be rolled back"
"""How every `sentence` begins that says so, and none that does not."""


def sentence(connection: Connection, registry: Registry, rows: Mapping[str, MigrationRow], name: str) -> str:
    """Whether `rollback` would take the migration, and if not, why not. Before any work: what it declares."""
    if name not in registry:
        return "cannot be rolled back: its file is missing."
    migration, row = registry[name], rows.get(name)
    declared = declaration(migration)
    if not migration.rollbackable or row is None or row.status not in (Status.COMPLETED, Status.FAILED, Status.PAUSED):
        return declared
    reason = dependent(registry, rows, name) or _without_work(connection, migration, row)
    if reason is not None:
        return f"cannot be rolled back: {reason}"
    if not keeps_journal(migration):
        return declared
    place = Attempt("", row.environment, row.name, row.generation, RunKind.ROLLBACK, 0)
    reason = obstacle(connection, place, row.pins)
    if reason is not None:
        return f"cannot be rolled back: {reason}"
    return f"{POSSIBLE} from its journal of {journal.size(connection, place).rows:,} changes."


def dependent(registry: Registry, rows: Mapping[str, MigrationRow], name: str) -> str | None:
    """Which completed migration has to be rolled back before this one, as a sentence, or None."""
    for other in registry:
        row = rows.get(other.name)
        if name in other.requires and row is not None and row.status is Status.COMPLETED:
            return f"{other.name} requires {name} and is COMPLETED. Roll back {other.name} first."
    return None


def _without_work(connection: Connection, migration: type[Migration], row: MigrationRow) -> str | None:
    if row.status is Status.COMPLETED or row.run_kind is RunKind.ROLLBACK:
        return None
    if row.status is Status.PAUSED and not keeps_journal(migration):
        return "it is PAUSED before its end. Cancel it first."
    if row.applied or ledger.has_batches(connection, row.environment, row.name, row.generation):
        return None
    return f"it is {row.status} and has done no work."


def declaration(migration: type[Migration]) -> str:
    """What the migration says about it."""
    if not migration.rollbackable:
        return "cannot be rolled back: it declares rollbackable = False."
    if secret := sensitive_column(migration):
        return f"would journal the sensitive column {secret!r}, and is refused until it sets journal_sensitive = True."
    if keeps_journal(migration):
        return "journals its changes, so that it can be rolled back."
    return f"{POSSIBLE} by its down()."


def keeps_journal(migration: type[Migration]) -> bool:
    """Whether every change is journalled."""
    return issubclass(migration, BatchMigration) and migration.keeps_journal()


def sensitive_column(migration: type[Migration]) -> str | None:
    """A column that would be journalled although nobody said that it may be."""
    if not (issubclass(migration, BatchMigration) and migration.keeps_journal()) or migration.journal_sensitive:
        return None
    return next((name for name in migration.writes if name in migration.sensitive), None)


def obstacle(connection: Connection, run: Attempt, pins: Mapping[str, str]) -> str | None:
    """Why a generation's journal cannot undo it, or None. It looks at numbers, not at the journal's texts."""
    if migrations.PRUNED_PIN in pins:
        return "its journal was pruned."
    expected, found = journal.changed(connection, run), journal.size(connection, run)
    if expected and not found.parts:
        return f"it has no journal of the {expected:,} rows it changed."
    if expected != found.rows:
        return f"its journal is incomplete: it has {found.rows:,} of {expected:,} changes."
    if expected and migrations.JOURNAL_PIN not in pins:
        return "nothing tells which schema its journal belongs to."
    return None
