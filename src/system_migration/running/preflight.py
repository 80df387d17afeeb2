"""Everything that can refuse a start, while the data is as it was."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import Connection

from system_migration.batch_migration import BatchMigration
from system_migration.batching import expectation, keys
from system_migration.batching.resolution import check_keys
from system_migration.batching.target import Target
from system_migration.errors import LoadError, Refused
from system_migration.migration import Migration
from system_migration.records import RunOptions
from system_migration.references import reference_to
from system_migration.running import journalling, rights, table_guards
from system_migration.running.batches import EMPTY_TABLE
from system_migration.running.contexts import batch_context, call, plain_context
from system_migration.running.run_log import RunLog
from system_migration.running.window import NO_WINDOW, Window, parse_window
from system_migration.running.workspace import Workspace
from system_migration.states import RunKind
from system_migration.store import ledger
from system_migration.store.migrations import MigrationRow
from system_migration.store.runs import Attempt


@dataclass
class Ready:
    """What preflight settled, before any write to the data."""

    pins: dict[str, str]
    upper_bound: str | None
    max_issues: int | None = None
    allowed_issues: int | None = None
    max_changed: int | None = None
    window: Window = NO_WINDOW


@dataclass(frozen=True)
class Preflight:
    """The look before a run of one migration. It only reads."""

    workspace: Workspace
    migration: Migration
    options: RunOptions
    log: RunLog
    row: MigrationRow

    def settle(self, connection: Connection) -> Ready:
        """What the run needs to know. Raises `Refused`, or whatever the migration's own preflight raises."""
        if self.row.applied:
            return Ready(dict(self.row.pins), self.row.upper_bound)  # `up` is done; only verification is left
        self.workspace.progress.phase(self.row.name, "preflight")
        if self.options.processes and isinstance(self.migration, BatchMigration):
            self._demand_a_reference()
        dialect = self.workspace.database.dialect
        with rights.needed(dialect):
            rights.check_tracking(connection, dialect)
            shortcomings = dialect.shortcomings(connection)
            if shortcomings:
                raise Refused(" ".join(shortcomings))
            if isinstance(self.migration, BatchMigration):
                return self._settle_table(connection, self.migration)
            call(self.migration.preflight, plain_context(self.workspace, connection, self.log, self.options))
            return Ready(dict(self.row.pins), None)

    def _demand_a_reference(self) -> None:
        try:
            reference_to(type(self.migration))
        except LoadError as error:
            raise Refused(str(error)) from error

    def _settle_table(self, connection: Connection, migration: BatchMigration) -> Ready:
        row, pins = self.row, dict(self.row.pins)
        target = self._survey(connection, migration)
        check_keys(connection, target)
        journalling.check(connection, migration, target)
        accepted = row.max_issues if self.options.max_issues is None else self.options.max_issues
        context = batch_context(
            self.workspace, connection, self.log, replace(self.options, max_issues=accepted), target, pins
        )
        call(migration.preflight, context)
        highest = connection.execute(target.highest()).one_or_none()
        upper = keys.encode(tuple(highest)) if highest is not None else EMPTY_TABLE
        upper = upper if row.upper_bound is None else row.upper_bound
        if reason := unexpected_rows(connection, migration, target, replace(row, upper_bound=upper)):
            raise Refused(reason)
        limit = expectation.max_changed(migration.expected_rows, self.options.max_rows)
        window = parse_window(connection, target, row.name, self.options)
        return Ready(pins, upper, accepted, context.allowed_issues, limit, window)

    def _survey(self, connection: Connection, migration: BatchMigration) -> Target:
        found = table_guards.survey(connection, self.workspace.database.dialect, migration, self.options)
        if found.findings.problems:
            raise Refused(" ".join(found.findings.problems))
        for warning in found.findings.warnings:
            self.log.warning("%s", warning)
        return found.target


def unexpected_rows(
    connection: Connection, migration: BatchMigration, target: Target, row: MigrationRow | None
) -> str | None:
    """Why the number of rows to change keeps the migration from starting, or None."""
    if migration.expected_rows is None:
        return None  # counting reads the whole table
    left, changed = _rows_of_generation(connection, target, row)
    return expectation.unexpected(migration.name, left, changed, migration.expected_rows)


def _rows_of_generation(connection: Connection, target: Target, row: MigrationRow | None) -> tuple[int, int]:
    """How many rows the generation has to change, and how many changes it made before it was resumed.

    Without `pending` the first number is that of all rows, done or not.
    """
    if target.pending is None:
        if row is not None and row.upper_bound == EMPTY_TABLE:
            return 0, 0
        bound = keys.decode(row.upper_bound) if row is not None and row.upper_bound else None
        return connection.execute(target.count(None, bound)).scalar_one(), 0
    left = connection.execute(target.count()).scalar_one()
    if row is None:
        return left, 0
    # Of the attempt, only what names the generation matters to the ledger.
    place = Attempt("", row.environment, row.name, row.generation, RunKind.RUN, 0)
    return left, ledger.totals(connection, place).changed
