"""What `doctor` looks at: everything a run depends on, each finding with what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sqlalchemy import false
from sqlalchemy.exc import DBAPIError

from system_migration.errors import MigrationSystemError
from system_migration.records import Finding
from system_migration.states import Status
from system_migration.store import tables, tracking
from system_migration.store.database import Database
from system_migration.store.migrations import Snapshot


def examine(database: Database, environment: str | None, snapshot: Callable[[], Snapshot]) -> list[Finding]:
    """Connection, settings, rights, binding and stuck runs. Stops at the first thing without which the rest is moot."""
    try:
        return list(_examine(database, environment, snapshot))
    except DBAPIError as error:
        message = f"{database.dialect.describe(error)}. Check DATABASE_URL, the server and the role's rights."
        return [Finding("problem", "connection", message)]


def _examine(database: Database, environment: str | None, snapshot: Callable[[], Snapshot]) -> Iterator[Finding]:
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
        rows = snapshot().rows.values()
    except MigrationSystemError as error:
        yield Finding("problem", "environment", str(error))
        return
    for row in rows:
        if row.stale:
            yield Finding("warning", row.name, "RUNNING, but its runner is gone. `migration run` takes over.")
        elif row.status is Status.FAILED:
            yield Finding("warning", row.name, f"FAILED: {row.error} `migration run` tries again.")


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
