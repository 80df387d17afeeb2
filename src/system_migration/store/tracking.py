"""Making the tracking tables, and binding the database to its environment."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import Connection, insert, inspect, select, update
from sqlalchemy.engine import Dialect as SqlDialect
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, ProgrammingError
from sqlalchemy.schema import CreateIndex, CreateTable

from system_migration.errors import MigrationSystemError, Refused
from system_migration.settings import PRODUCTION
from system_migration.store import chain, leases, tables, upgrades
from system_migration.store.database import Database
from system_migration.store.dialects import Dialect, Fault, Fingerprint
from system_migration.store.times import now

_ATTEMPTS = 50
_PAUSE_SECONDS = 0.1
_PASSING = (Fault.RETRY, Fault.LOST, Fault.NO_TABLE)


@dataclass(frozen=True)
class Binding:
    """What the database says about itself: the version of our tables, its environment, the marks it was bound with."""

    schema_version: int
    environment: str
    fingerprint: Fingerprint


def read_binding(connection: Connection) -> Binding | None:
    """The binding, or None where nothing was ever written."""
    meta = tables.meta.c
    row = connection.execute(select(meta.schema_version, meta.environment, meta.place, meta.body)).one_or_none()
    return row and Binding(row.schema_version, row.environment, Fingerprint(row.place, row.body))


def find_binding(database: Database) -> Binding | None:
    """The binding, or None where nothing was ever written, tables included."""
    try:
        with database.read() as connection:
            return read_binding(connection)
    except DBAPIError as error:
        if database.dialect.fault(error) is Fault.NO_TABLE:
            return None
        raise


def ensure(database: Database, environment: str) -> bool:
    """Create what is missing and bind the database to `environment`; True when this call bound it.

    Any number of processes may do this at once. Dying half-way leaves some tables and no row in `meta`; the next
    call completes them.
    """
    for _ in range(_ATTEMPTS):
        try:
            if find_binding(database) is not None:
                return False
            with database.write() as connection:
                create_tables(connection, database.dialect)
                _bind(connection, database, environment)
            return True
        except (IntegrityError, OperationalError, ProgrammingError) as error:
            # Another process creates the same tables right now: look again. A missing right persists.
            last = error
            time.sleep(_PAUSE_SECONDS)
            if database.dialect.fault(error) not in _PASSING and not _racing(database, error):
                break
    raise MigrationSystemError(
        f"The tracking tables could not be created: {database.dialect.describe(last)}. "
        "Let a privileged role run `migration init`, or give it the output of `migration init --sql`."
    )


def upgrade(database: Database, binding: Binding) -> None:
    """Bring older tracking tables forward, if they are older. Any number of processes may do this at once.

    Raises `HeldElsewhere` while a runner is at work. Dying half-way leaves the old version, which the next call
    upgrades to the end.
    """
    if binding.schema_version >= tables.SCHEMA_VERSION:
        return
    _set_options(database.dialect)
    for _ in range(_ATTEMPTS):
        try:
            with database.write() as connection:
                upgrades.upgrade(connection, database.dialect, binding.schema_version)
            return
        except (IntegrityError, OperationalError, ProgrammingError) as error:
            last = error  # another process adds the same column right now: look again. A missing right persists.
            time.sleep(_PAUSE_SECONDS)
            if database.dialect.fault(error) is not Fault.RETRY and not _racing(database, error):
                break
    raise MigrationSystemError(
        f"The tracking tables could not be upgraded from version {binding.schema_version} to {tables.SCHEMA_VERSION}: "
        f"{database.dialect.describe(last)}. "
        "Let a privileged role run `migration init`, or give it the output of `migration init --sql`."
    )


def check_whole(database: Database) -> None:
    """Raise `MigrationSystemError` before any work when one of our tables was lost. Columns: see `explain`."""
    with database.read() as connection:
        there = set(inspect(connection).get_table_names())
        if {table.name for table in tables.metadata.sorted_tables} <= there:
            return
    if damage := explain(database):
        raise MigrationSystemError(damage)


def explain(database: Database) -> str | None:
    """Why our own tables do not answer as they should: one sentence, or None when they are whole, old or absent."""
    binding = find_binding(database)
    if binding is None or binding.schema_version != tables.SCHEMA_VERSION:
        return None
    with database.read() as connection:
        found = upgrades.damage(connection)
    if found is None:
        return None
    return (
        f"The tracking tables of this database are damaged: {found}. Restore them from a backup; nothing was started, "
        "because without them nobody knows what is done."
    )


def create_tables(connection: Connection, dialect: Dialect) -> None:
    """Create those of our tables that are missing."""
    _set_options(dialect)
    there = inspect(connection)
    for table in tables.metadata.sorted_tables:
        if not there.has_table(table.name):
            table.create(connection)
            continue
        for index in table.indexes:  # somebody may have died between creating the table and indexing it
            index.create(connection, checkfirst=True)


def _set_options(dialect: Dialect) -> None:
    # Here and not where the tables are declared: SQLAlchemy would load MariaDB's dialect to check the names.
    for table in tables.metadata.sorted_tables:
        for name, value in dialect.table_options().items():
            table.dialect_kwargs[name] = value


def _racing(database: Database, error: DBAPIError) -> bool:
    words = str(error.orig).lower()
    return "exist" in words or "duplicate" in words or "unique" in words or "concurrent" in words


def _bind(connection: Connection, database: Database, environment: str) -> None:
    marks = database.dialect.fingerprint(connection, tables.meta.name)
    connection.execute(
        insert(tables.meta).values(
            id=1,
            schema_version=tables.SCHEMA_VERSION,
            environment=environment,
            place=marks.place,
            body=marks.body,
            bound_at=now(),
        )
    )
    connection.execute(chain.beginning())


def check_writable(database: Database, binding: Binding, environment: str, *, allow_environment: bool) -> None:
    """Raise `Refused` when this process must not write here: other environment, foreign copy, newer tables."""
    _check_version(binding)
    with database.read() as connection:
        here = database.dialect.fingerprint(connection, tables.meta.name)
    if here.is_copy_of(binding.fingerprint):
        raise Refused(
            f"This database is a copy: its record was made for {binding.environment!r} in another place. If it is "
            f"meant to be {environment!r} from now on, run `migration adopt --environment {environment}`."
        )
    if environment != binding.environment and not allow_environment:
        raise Refused(
            f"This database belongs to environment {binding.environment!r}, not {environment!r}. "
            "Check DATABASE_URL and MIGRATION_ENVIRONMENT; if both environments really share it, "
            "add --allow-environment."
        )


def _check_version(binding: Binding) -> None:
    if binding.schema_version > tables.SCHEMA_VERSION:
        raise Refused(
            f"The tracking tables have version {binding.schema_version}, this program knows {tables.SCHEMA_VERSION}. "
            "Upgrade system-migration; until then this database can only be looked at."
        )


def keep_production(connection: Connection, database: Database, environment: str, old: Binding) -> None:
    """Raise `Refused` where production's own database, and no copy of it, is to be called something else."""
    here = database.dialect.fingerprint(connection, tables.meta.name)
    if old.environment == PRODUCTION != environment and not here.is_copy_of(old.fingerprint):
        raise Refused(
            f"This is production's own database, not a copy of it. As {environment!r} it would need no approval, which "
            "REQUIRE_APPROVAL asks for. Check DATABASE_URL and MIGRATION_ENVIRONMENT."
        )


def adopt(connection: Connection, database: Database, environment: str, old: Binding) -> None:
    """Rebind the database to `environment`, with its history. Leases that came along end, their fences rise.

    Raises `Refused` when the tables are newer, or when `environment` has a history here too (the two would mix) or a
    start that goes on.
    """
    _check_version(old)
    if environment != old.environment:
        _make_room(connection, environment, old)
    marks = database.dialect.fingerprint(connection, tables.meta.name)
    connection.execute(
        update(tables.meta).values(environment=environment, place=marks.place, body=marks.body, bound_at=now())
    )
    lease = tables.lease
    connection.execute(
        update(lease)
        .where(lease.c.environment == old.environment)
        .values(fence=lease.c.fence + 1, released=True, expires_at=now(), takeover_at=now())
    )
    run = tables.run
    connection.execute(
        update(run).where(run.c.environment == old.environment, run.c.outcome.is_(None)).values(fence=run.c.fence + 1)
    )
    if environment != old.environment:
        for table in tables.metadata.sorted_tables:
            if "environment" in table.c and table is not tables.meta:
                connection.execute(
                    update(table).where(table.c.environment == old.environment).values(environment=environment)
                )


def _make_room(connection: Connection, environment: str, old: Binding) -> None:
    # Of either: two histories under one name could not be told apart, nor the audit chain checked, ever again.
    known = (select(t.c.name).where(t.c.environment == environment).limit(1) for t in (tables.migration, tables.event))
    if any(connection.execute(each).first() for each in known):
        raise Refused(
            f"Environment {environment!r} already has a history of its own in this database, beside that of "
            f"{old.environment!r}. Adopt it as an environment that has none here."
        )
    if not leases.forget_free(connection, environment):
        raise Refused(
            f"Somebody starts a migration in this database as {environment!r} right now. Try again when that has ended."
        )


def creation_sql(database: Database) -> str:
    """The statements that make the tracking tables, or that bring older ones forward, for a role that may."""
    _set_options(database.dialect)
    binding = find_binding(database)
    if binding is not None and binding.schema_version < tables.SCHEMA_VERSION:
        with database.read() as connection:
            statements = upgrades.upgrade_sql(connection, database.dialect, binding.schema_version)
    else:
        statements = _creation_statements(database.engine.dialect)
    return "".join(f"{statement};\n\n" for statement in statements)


def _creation_statements(dialect: SqlDialect) -> list[str]:
    statements = []
    for table in tables.metadata.sorted_tables:
        statements.append(str(CreateTable(table).compile(dialect=dialect)).strip())
        statements += [str(CreateIndex(index).compile(dialect=dialect)).strip() for index in table.indexes]
    return statements
