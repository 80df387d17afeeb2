"""No start before its schema: asked in the transaction that wins the lease, so that no answer from before counts."""

from __future__ import annotations

from sqlalchemy import Connection

from system_migration.migration import Migration
from system_migration.running.claim import Decision
from system_migration.schema_history import SchemaHistory
from system_migration.states import RunKind
from system_migration.store import schema_revision
from system_migration.store.migrations import MigrationRow


def after_schema(migration: type[Migration], history: SchemaHistory, decide: Decision) -> Decision:
    """`decide`, which raises `WaitsForSchema` where it calls for a run before its schema revision is applied.

    A rollback that goes on waits for nothing: it leads back to where the schema may have been another one.
    """

    def decided(connection: Connection, row: MigrationRow) -> RunKind | None:
        kind = decide(connection, row)
        if kind is RunKind.RUN:
            demand_schema(connection, migration, history)
        return kind

    return decided


def demand_schema(connection: Connection, migration: type[Migration], history: SchemaHistory) -> None:
    """Raise `WaitsForSchema` unless the schema revision that the migration requires, if any, is applied."""
    if migration.requires_schema is not None:
        history.demand(migration, schema_revision.current(connection))
