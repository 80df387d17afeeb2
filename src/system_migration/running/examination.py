"""What `doctor` looks at: everything a run depends on, each finding with what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from sqlalchemy import false
from sqlalchemy.exc import DBAPIError

from system_migration.batch_migration import BatchMigration
from system_migration.errors import MigrationSystemError
from system_migration.migration import Migration
from system_migration.records import Finding, RunOptions
from system_migration.running import rights, table_guards
from system_migration.running.contexts import describe
from system_migration.states import Status
from system_migration.store import tables, tracking
from system_migration.store.database import Database
from system_migration.store.migrations import Snapshot

_Coming = tuple[type[Migration], str | None]
"""A migration that `run` would come to, and the schema revision that it waits for, if any."""


def examine(
    database: Database,
    environment: str | None,
    snapshot: Callable[[], Snapshot],
    to_do: Callable[[Snapshot], Sequence[_Coming]] = lambda snapshot: (),
) -> list[Finding]:
    """Connection, settings, rights, binding, stuck runs, and the tables of the migrations that `run` would take next.

    Stops at the first thing without which the rest is moot.
    """
    try:
        return list(_examine(database, environment, snapshot, to_do))
    except DBAPIError as error:
        message = f"{database.dialect.describe(error)}. Check DATABASE_URL, the server and the role's rights."
        return [Finding("problem", "connection", message)]


def _examine(
    database: Database,
    environment: str | None,
    snapshot: Callable[[], Snapshot],
    to_do: Callable[[Snapshot], Sequence[_Coming]],
) -> Iterator[Finding]:
    dialect = database.dialect
    with database.read() as connection:
        version = ".".join(str(part) for part in connection.dialect.server_version_info or ())
        yield Finding("ok", "connection", f"{dialect.product} {version} answers.")
        shortcomings = dialect.shortcomings(connection)
        yield from (Finding("problem", "settings", text) for text in shortcomings)
        if not shortcomings:
            yield Finding("ok", "settings", "The connection's settings keep our promises.")
        if dialect.read_only(connection):
            yield Finding(
                "problem", "rights", "The database is read-only. Connect to the primary, as a role that writes."
            )
            return
    yield from _rights(database)
    yield from _binding(database, environment)
    try:
        standing = snapshot()
    except MigrationSystemError as error:
        yield Finding("problem", "environment", str(error))
        return
    for row in standing.rows.values():
        if row.stale:
            yield Finding("warning", row.name, "RUNNING, but its runner is gone. `migration run` takes over.")
        elif row.status is Status.FAILED:
            yield Finding("warning", row.name, f"FAILED: {row.error} `migration run` tries again.")

    for migration, waits in to_do(standing):
        if waits is not None:  # its table is not yet what it will be
            yield Finding("warning", migration.name, f"Waits for {waits}. `alembic upgrade` applies it.")
        elif issubclass(migration, BatchMigration):
            yield from _table(database, migration)


def _table(database: Database, migration: type[BatchMigration]) -> Iterator[Finding]:
    """What would refuse the run of a migration, or be worth knowing, as its table is now."""
    subject = f"{migration.name} table"
    try:
        with database.read() as connection, rights.needed(database.dialect):
            found = table_guards.survey(connection, database.dialect, migration(), RunOptions()).findings
    except Exception as error:
        yield Finding("problem", subject, describe(error, database.dialect, migration))
        return
    if found.problems:
        yield Finding("problem", subject, " ".join(found.problems))
    elif found.warnings:
        yield Finding("warning", subject, " ".join(found.warnings))


class _Undo(Exception):
    """Ends the probe's transaction by rolling it back."""


def _rights(database: Database) -> Iterator[Finding]:
    """Whether the role may create and write our tables: tried where it can be undone, else only looked up."""
    binding = tracking.find_binding(database)
    if binding is not None and binding.schema_version < tables.SCHEMA_VERSION:
        yield Finding(
            "warning",
            "tables",
            f"The tracking tables have version {binding.schema_version}. `migration init`, or the next run, brings "
            f"them to {tables.SCHEMA_VERSION}.",
        )
        return
    if damage := tracking.explain(database):
        yield Finding("problem", "tables", damage)
        return
    if binding is None and not database.dialect.transactional_ddl:
        yield Finding(
            "ok", "tables", "The tracking tables do not exist yet; `migration init` or the first run makes them."
        )
        return
    try:
        with database.write() as connection:
            if binding is None:
                tracking.create_tables(connection, database.dialect)
            for table in tables.metadata.sorted_tables:
                connection.execute(table.delete().where(false()))
            raise _Undo
    except _Undo:
        state = "exist" if binding else "can be made"
        yield Finding("ok", "tables", f"The tracking tables {state} and can be written.")
    except DBAPIError as error:
        yield Finding(
            "problem",
            "tables",
            f"{database.dialect.describe(error)}. Grant this role the rights, or let a privileged role run the output "
            "of `migration init --sql`.",
        )


def _binding(database: Database, environment: str | None) -> Iterator[Finding]:
    binding = tracking.find_binding(database)
    if binding is None:
        yield Finding("ok", "environment", "The database is not bound to an environment yet; the first write binds it.")
        return
    try:
        tracking.check_writable(database, binding, environment or binding.environment, allow_environment=False)
    except MigrationSystemError as error:
        yield Finding("problem", "environment", str(error))
        return
    yield Finding("ok", "environment", f"The database belongs to {binding.environment!r}.")
