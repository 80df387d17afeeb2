"""Everything that can refuse a start, while the data is as it was."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import Connection

from system_migration.batch_migration import BatchMigration
from system_migration.batching import keys
from system_migration.batching.target import check_keys, resolve
from system_migration.errors import Refused
from system_migration.migration import Migration
from system_migration.records import RunOptions
from system_migration.running.batches import EMPTY_TABLE
from system_migration.running.contexts import batch_context, call, plain_context
from system_migration.running.run_log import RunLog
from system_migration.running.workspace import Workspace
from system_migration.schema_changes import SchemaChanges
from system_migration.store.migrations import MigrationRow


@dataclass
class Ready:
    """What preflight settled, before any write to the data."""

    pins: dict[str, str]
    upper_bound: str | None
    max_issues: int | None = None
    allowed_issues: int | None = None


@dataclass(frozen=True)
class Preflight:
    """The look before a run of one migration. It only reads."""

    workspace: Workspace
    migration: Migration
    options: RunOptions
    log: RunLog
    row: MigrationRow

    def settle(self) -> Ready:
        """What the run needs to know. Raises `Refused`, or whatever the migration's own preflight raises."""
        if self.row.applied:
            return Ready(dict(self.row.pins), self.row.upper_bound)  # `up` is done; only verification is left
        self.workspace.progress.phase(self.row.name, "preflight")
        with self.workspace.database.read() as connection:
            shortcomings = self.workspace.database.dialect.shortcomings(connection)
            if shortcomings:
                raise Refused(" ".join(shortcomings))
            if isinstance(self.migration, BatchMigration):
                return self._settle_table(connection, self.migration)
            call(self.migration.preflight, plain_context(self.workspace, connection, self.log, self.options))
            return Ready(dict(self.row.pins), None)

    def _settle_table(self, connection: Connection, migration: BatchMigration) -> Ready:
        row, schema = self.row, SchemaChanges(connection, perform=False)
        migration.prepare(schema)
        target = resolve(connection, migration, schema.columns_of(migration.table_name))
        check_keys(connection, target)
        pins = dict(row.pins)
        accepted = row.max_issues if self.options.max_issues is None else self.options.max_issues
        context = batch_context(
            self.workspace, connection, self.log, replace(self.options, max_issues=accepted), target, pins
        )
        call(migration.preflight, context)
        highest = connection.execute(target.highest()).one_or_none()
        upper = keys.encode(tuple(highest)) if highest is not None else EMPTY_TABLE
        return Ready(pins, upper if row.upper_bound is None else row.upper_bound, accepted, context.allowed_issues)
