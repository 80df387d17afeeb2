"""Making the context a migration is handed, and keeping its hands off our transaction."""

from __future__ import annotations

import os
import traceback
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Select, event
from sqlalchemy.exc import DBAPIError

from system_migration.batch_migration import BatchContext
from system_migration.batching.target import Target, scan
from system_migration.errors import Interrupted, MigrationSystemError
from system_migration.migration import Migration, MigrationContext
from system_migration.records import RunOptions
from system_migration.registry import file_of
from system_migration.running import statements
from system_migration.running.run_log import RunLog
from system_migration.running.workspace import Workspace
from system_migration.schema_changes import SchemaChanges
from system_migration.store import migrations
from system_migration.store.dialects import Dialect

_T = TypeVar("_T")


class HandsOff(MigrationSystemError):
    """A migration tried to end, or to leave, the transaction it was given."""


def plain_context(
    workspace: Workspace,
    connection: Connection,
    log: RunLog,
    options: RunOptions,
    *,
    schema: SchemaChanges | None = None,
    dry_run: bool = False,
) -> MigrationContext:
    """The context of an imperative migration."""
    return MigrationContext(
        connection=connection,
        schema=schema or SchemaChanges(connection),
        environment=workspace.environment,
        dry_run=dry_run,
        verbose=options.verbose,
        batch_size=options.batch_size,
        log=log,
        executed_by=workspace.actor.name,
        report=workspace.progress,
        ask=workspace.ask,
        completion=lambda name: migrations.completed_at(connection, workspace.environment, name),
    )


def batch_context(
    workspace: Workspace,
    connection: Connection,
    log: RunLog,
    options: RunOptions,
    target: Target,
    pins: dict[str, str],
    *,
    dry_run: bool = False,
) -> BatchContext:
    """The context of a batch migration's `preflight` and `verify`. Its scans heed a wish to stop."""

    def read(query: Select[Any]) -> Sequence[Any]:
        heed_stop(workspace)
        return connection.execute(query).all()

    def scan_rows(columns: Sequence[str], where: ColumnElement[bool] | None) -> Iterator[Any]:
        return scan(read, target, columns, where)

    plain = plain_context(workspace, connection, log, options, dry_run=dry_run)
    return BatchContext(
        **vars(plain), table=target.table, max_issues=options.max_issues, scan_rows=scan_rows, pins=pins
    )


def heed_stop(workspace: Workspace) -> None:
    """Raise `Interrupted` when a stop was asked for."""
    signal_number = workspace.stop_signal()
    if signal_number is not None:
        raise Interrupted(signal_number)


def schema_for_transaction(connection: Connection, dialect: Dialect) -> SchemaChanges:
    """DDL inside a transaction: refused where it would commit the transaction."""

    def refuse() -> None:
        if not dialect.transactional_ddl:
            raise HandsOff(_ddl_commits(dialect))

    return SchemaChanges(connection, refuse=refuse)


def _ddl_commits(dialect: Dialect) -> str:
    return (
        f"{dialect.product} commits the open transaction at every schema change. Set transactional = False and bring "
        "applied(context), or use a BatchMigration with prepare()."
    )


@contextmanager
def hands_off(connection: Connection, dialect: Dialect) -> Iterator[None]:
    """Within the block, user code on `connection` can neither commit nor roll back, by method, by SQL or by DDL."""

    def refuse(_: Connection) -> None:
        raise HandsOff("A migration must not commit or roll back: its work and its record are one transaction.")

    def before(_c: Any, _cursor: Any, statement: str, _p: Any, _x: Any, _many: bool) -> None:
        if statements.ends_transaction(statement):
            refuse(connection)
        if not dialect.transactional_ddl and statements.may_commit(statement):
            raise HandsOff(_ddl_commits(dialect))

    def after(_c: Any, _cursor: Any, statement: str, _p: Any, _x: Any, _many: bool) -> None:
        if not dialect.in_transaction(connection):
            raise HandsOff(
                "A statement ended the transaction of the migration and of its record. What ran before it may be "
                "committed: check it, and take the statement out."
            )

    listeners: list[tuple[str, Callable[..., Any]]] = [
        ("commit", refuse),
        ("rollback", refuse),
        ("before_cursor_execute", before),
        ("after_cursor_execute", after),
    ]
    for name, listener in listeners:
        event.listen(connection, name, listener)
    try:
        yield
    finally:
        for name, listener in listeners:
            event.remove(connection, name, listener)


@contextmanager
def no_second_connection(workspace: Workspace) -> Iterator[None]:
    """Within the block, nobody opens another connection of our engine: a dry run could not undo its work."""

    def refuse(_: Connection) -> None:
        raise HandsOff("A dry run cannot undo what a second connection does; use context.connection.")

    event.listen(workspace.database.engine, "engine_connect", refuse)
    try:
        yield
    finally:
        event.remove(workspace.database.engine, "engine_connect", refuse)


def call(method: Callable[[Any], _T | Awaitable[_T]], context: MigrationContext) -> _T:
    """Call a migration's method, awaiting what an async one returns."""
    result = method(context)
    if isinstance(result, Awaitable):
        import asyncio  # 30 ms that few migrations need

        awaited: _T = asyncio.run(_wait_for(result))
        return awaited
    return result


async def _wait_for(result: Awaitable[_T]) -> _T:
    return await result


def describe(error: BaseException, dialect: Dialect, migration: type[Migration]) -> str:
    """An error as one line for the record: our own sentences, and those that the migration's author wrote.

    Other texts may quote a row: a database's is shown without the values, Python's and a library's not at all.
    """
    if isinstance(error, MigrationSystemError):
        return str(error)
    if isinstance(error, DBAPIError):
        return dialect.describe(error) + "."
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return f"{type(error).__name__}."
    own = [frame for frame in frames if frame.filename == file_of(migration)]
    frame = own[-1] if own else frames[-1]
    written = frame is frames[-1] and bool(own) and (frame.line or "").startswith("raise ")
    text = f": {' '.join(str(error).split())}" if written else ""
    return f"{type(error).__name__} at {os.path.basename(frame.filename)}:{frame.lineno}{text}"
