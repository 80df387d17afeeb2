"""`up` and `down`: work and record in one transaction; or intent, step, probe and record where none protects."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from system_migration.errors import MigrationFailed
from system_migration.migration import Migration, MigrationContext, MigrationResult, MigrationRollbackResult
from system_migration.records import RunOptions
from system_migration.running.contexts import (
    call,
    hands_off,
    no_second_connection,
    plain_context,
    schema_for_transaction,
)
from system_migration.running.run_log import RunLog
from system_migration.running.workspace import Workspace
from system_migration.schema_changes import SchemaChanges
from system_migration.states import Outcome, RunKind, Status
from system_migration.store import audit, migrations, runs
from system_migration.store.runs import Attempt

_T = TypeVar("_T")
IDLE_SECONDS = 600.0
"""A migration may compute for minutes between two statements of its transaction; a frozen one is ended after this."""


def apply(
    workspace: Workspace, migration: Migration, attempt: Attempt, options: RunOptions, log: RunLog
) -> MigrationResult:
    """Run `up` and record that it is applied. Dying before the commit leaves nothing; after it, the record.

    A non-transactional `up` leaves what it did; the next run asks `applied` before it does anything.
    """
    if not migration.transactional:
        return _apply_unprotected(workspace, migration, attempt, options, log)
    try:
        return _apply_in_transaction(workspace, migration, attempt, options, log)
    except DBAPIError:
        if not _is_recorded(workspace, attempt):
            raise
        return MigrationResult()  # the commit arrived and only its answer was lost


def _apply_in_transaction(
    workspace: Workspace, migration: Migration, attempt: Attempt, options: RunOptions, log: RunLog
) -> MigrationResult:
    dialect = workspace.database.dialect
    with workspace.database.write(IDLE_SECONDS) as connection:
        schema = schema_for_transaction(connection, dialect)
        with hands_off(connection, dialect):
            result = _step(workspace, migration.up, plain_context(workspace, connection, log, options, schema=schema))
        _demand_success(attempt, result)
        _record_applied(connection, attempt, result)
        runs.check_fence(connection, dialect, attempt)
    return result


def _apply_unprotected(
    workspace: Workspace, migration: Migration, attempt: Attempt, options: RunOptions, log: RunLog
) -> MigrationResult:
    with workspace.database.read() as connection:
        context = plain_context(workspace, connection, log, options)
        if runs.intended(connection, attempt) and call(migration.applied, context) is True:
            result = MigrationResult()
        else:
            _record_surely(workspace, attempt, lambda own: runs.record_intent(own, attempt))
            result = _step(workspace, migration.up, context)
            _demand_success(attempt, result)
    _record_surely(workspace, attempt, lambda own: _record_applied(own, attempt, result))
    return result


def _step(
    workspace: Workspace, method: Callable[[MigrationContext], _T | Awaitable[_T]], context: MigrationContext
) -> _T:
    """Call `up` or `down`, which may send more at once than a server that works reads for a while."""
    with workspace.database.dialect.unhurried(context.connection):
        return call(method, context)


def _record_surely(workspace: Workspace, attempt: Attempt, record: Callable[[Connection], None]) -> None:
    """Write what may be written twice, however long the database is away: what it tells of cannot be undone."""

    def step(connection: Connection) -> None:
        record(connection)
        runs.check_fence(connection, workspace.database.dialect, attempt)

    workspace.database.transact(step, workspace.progress.waiting)


def _demand_success(attempt: Attempt, result: MigrationResult | MigrationRollbackResult) -> None:
    if not isinstance(result, MigrationResult | MigrationRollbackResult):
        step, wanted = (
            ("down", MigrationRollbackResult) if attempt.kind is RunKind.ROLLBACK else ("up", MigrationResult)
        )
        raise MigrationFailed(attempt.name, f"{step}() returned {type(result).__name__}, not a {wanted.__name__}.")
    if not result.success:
        raise MigrationFailed(attempt.name, result.error or "it returned success=False without an error text.")


def _record_applied(connection: Connection, attempt: Attempt, result: MigrationResult) -> None:
    migrations.update_values(
        connection, attempt.environment, attempt.name, applied=True, records_processed=result.records_processed
    )


def _is_recorded(workspace: Workspace, attempt: Attempt) -> bool:
    row = workspace.database.ask(
        lambda connection: migrations.read(connection, attempt.environment, attempt.name), workspace.progress.waiting
    )
    return row is not None and row.applied and row.run_id == attempt.id


def undo(
    workspace: Workspace, migration: Migration, attempt: Attempt, options: RunOptions, log: RunLog
) -> MigrationRollbackResult:
    """Run `down` and record ROLLED_BACK and the next generation, all in one transaction where there is one."""
    try:
        if migration.transactional:
            return _undo_in_transaction(workspace, migration, attempt, options, log)
        return _undo_unprotected(workspace, migration, attempt, options, log)
    except DBAPIError:
        if not _is_rolled_back(workspace, attempt):
            raise
        return MigrationRollbackResult()  # the commit arrived and only its answer was lost


def _is_rolled_back(workspace: Workspace, attempt: Attempt) -> bool:
    ended = workspace.database.ask(lambda own: runs.outcome(own, attempt), workspace.progress.waiting)
    return ended is Outcome.SUCCEEDED


def _undo_in_transaction(
    workspace: Workspace, migration: Migration, attempt: Attempt, options: RunOptions, log: RunLog
) -> MigrationRollbackResult:
    dialect = workspace.database.dialect
    with workspace.database.write(IDLE_SECONDS) as connection:
        schema = schema_for_transaction(connection, dialect)
        with hands_off(connection, dialect):
            result = _step(workspace, migration.down, plain_context(workspace, connection, log, options, schema=schema))
        _demand_success(attempt, result)
        _record_rolled_back(workspace, connection, attempt, result, log)
    return result


def _undo_unprotected(
    workspace: Workspace, migration: Migration, attempt: Attempt, options: RunOptions, log: RunLog
) -> MigrationRollbackResult:
    with workspace.database.read() as connection:
        context = plain_context(workspace, connection, log, options)
        runs.check_fence(connection, workspace.database.dialect, attempt)
        if call(migration.applied, context) is True:
            result = _step(workspace, migration.down, context)
            _demand_success(attempt, result)
        else:
            result = MigrationRollbackResult()  # a runner died between `down` and its record

    def record(own: Connection) -> bool:
        _record_rolled_back(workspace, own, attempt, result, log)
        return True

    def landed(own: Connection) -> bool | None:
        return runs.outcome(own, attempt) is Outcome.SUCCEEDED or None

    workspace.database.transact(record, workspace.progress.waiting, landed=landed)
    return result


def _record_rolled_back(
    workspace: Workspace, connection: Connection, attempt: Attempt, result: MigrationRollbackResult, log: RunLog
) -> None:
    runs.check_fence(connection, workspace.database.dialect, attempt)
    row = migrations.read(connection, attempt.environment, attempt.name)
    assert row is not None
    migrations.begin_generation(
        connection, row, Status.ROLLED_BACK, finished=True, records_processed=result.records_processed
    )
    runs.finish(connection, attempt, Outcome.SUCCEEDED, records_processed=result.records_processed)
    log.store(connection, attempt.id)
    audit.add_event(connection, attempt.environment, attempt.name, "rolled_back", workspace.actor, run_id=attempt.id)


@dataclass(frozen=True)
class Trial:
    """What `up` came to before it was rolled back."""

    result: MigrationResult
    planned: list[str]
    refused_ddl: list[str]


class _Undo(Exception):
    """Ends a rehearsal's transaction by rolling it back."""


def rehearse(workspace: Workspace, migration: Migration, options: RunOptions, log: RunLog) -> Trial:
    """Run `up` and roll everything back. DDL is left out where it would commit."""
    dialect = workspace.database.dialect
    trial: list[Trial] = []
    try:
        with workspace.database.write(IDLE_SECONDS) as connection:
            schema = SchemaChanges(connection, perform=dialect.transactional_ddl)
            context = plain_context(workspace, connection, log, options, schema=schema, dry_run=True)
            with hands_off(connection, dialect), no_second_connection(workspace):
                result = _step(workspace, migration.up, context)
            if not result.success:
                raise MigrationFailed(
                    migration.name, result.error or "it returned success=False without an error text."
                )
            trial.append(Trial(result, schema.planned, [] if dialect.transactional_ddl else schema.planned))
            raise _Undo
    except _Undo:
        return trial[0]
