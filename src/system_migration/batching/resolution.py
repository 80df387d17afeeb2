"""From a migration's declarations to its table as it is now: reflected, checked, and ready to be walked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    FromClause,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    cast,
    inspect,
    literal,
    null,
    select,
    type_coerce,
)
from sqlalchemy.exc import NoSuchTableError
from sqlalchemy.types import NullType

from system_migration.batch_migration import BatchMigration
from system_migration.batching.keys import encode
from system_migration.batching.target import Target
from system_migration.errors import Refused
from system_migration.store.writers import Shape, writer_for
from system_migration.store.writers.base import STORED_TYPE

KEY_SAMPLE = 1_000
_KEY_TRIES = 5


def resolve(connection: Connection, migration: BatchMigration, planned: Sequence[Column[Any]] = ()) -> Target:
    """The migration's table as it is now. `planned` columns, which `prepare` has yet to add, read as typed NULLs.

    Raises `Refused` when the table, its key or a declared column is missing.
    """
    physical = _reflect(connection, migration)
    if not physical.primary_key.columns:
        raise Refused(
            f"Table {physical.name!r} has no primary key, so its rows cannot be told apart. Give it one first."
        )
    source = _with_planned(physical, planned)
    declared = dict.fromkeys((*migration.reads, *migration.writes))
    in_key = [column.name for column in physical.primary_key.columns if column.name in migration.writes]
    if in_key:
        raise Refused(
            f"Migration {migration.name} writes {in_key[0]!r}, which is part of the primary key of {physical.name!r}. "
            "Batches walk by the key and would meet the row again; change keys in a Migration with up()."
        )
    missing = [name for name in declared if name not in source.c]
    if missing:
        raise Refused(
            f"Table {physical.name!r} has no column {missing[0]!r}, which migration {migration.name} declares. "
            "Check the migration's reads and writes, or add the column in prepare()."
        )
    pending = migration.pending(source) if migration.has_pending else None
    shape = Shape(
        table=physical,
        key=tuple(physical.primary_key.columns),
        guarded=tuple(source.c[name] for name in declared),
        written=tuple(source.c[name] for name in migration.writes),
        pending=pending,
    )
    return Target(
        table=source,
        physical=physical,
        key=tuple(type_coerce(source.c[column.name], NullType()) for column in physical.primary_key.columns),
        columns=tuple(declared),
        reads=tuple(migration.reads),
        writes=tuple(migration.writes),
        pending=pending,
        writer=writer_for(connection.dialect, shape),
        assigned=_assigned(migration, source),
        journalled=migration.keeps_journal(),
    )


def resolve_written(connection: Connection, migration: BatchMigration) -> Target:
    """As `resolve`, of the written columns alone: what a rollback needs, whatever became of the others."""
    physical = _reflect(connection, migration)
    written = tuple(physical.c[name] for name in migration.writes)
    shape = Shape(physical, tuple(physical.primary_key.columns), written, written, None)
    return Target(
        table=physical,
        physical=physical,
        key=tuple(type_coerce(column, NullType()) for column in physical.primary_key.columns),
        columns=tuple(migration.writes),
        reads=(),
        writes=tuple(migration.writes),
        pending=None,
        writer=writer_for(connection.dialect, shape),
        journalled=True,
    )


def _assigned(migration: BatchMigration, source: FromClause) -> Mapping[str, ColumnElement[Any]] | None:
    """The expressions of `assign`, for the declared columns and no others."""
    if not migration.defines("assign"):
        return None
    given = dict(migration.assign(source))
    if set(given) - set(migration.writes) or not given:
        raise Refused(
            f"assign() of migration {migration.name} must return expressions for columns declared in writes: "
            f"{', '.join(migration.writes)}."
        )
    return {
        name: value if isinstance(value, ColumnElement) else literal(value, source.c[name].type)
        for name, value in given.items()
    }


def check_keys(connection: Connection, target: Target) -> None:
    """Raise `Refused` when rows could not be found again by the key that was read, or when a key has a NULL."""
    name = target.physical.name
    if connection.execute(target.without_key()).first() is not None:
        raise Refused(
            f"Table {name!r} has rows with NULL in the primary key; a walk by key never meets them. Mend them."
        )
    for _ in range(_KEY_TRIES):
        found = [tuple(row) for row in connection.execute(target.lowest_keys(KEY_SAMPLE))]
        try:
            for key in found:
                encode(key)
        except TypeError as error:
            raise Refused(f"The primary key of {name!r} cannot be used: {error}.") from None
        if not found or connection.execute(target.count_by_key(found)).scalar_one() == len(found):
            return  # otherwise somebody deleted a row in between, or the values do not survive the way out and back
    raise Refused(
        f"Rows of {name!r} are not found again by the primary key that was read from them, as with single-precision "
        "floats. Give the table a key whose values are exact."
    )


def _reflect(connection: Connection, migration: BatchMigration) -> Table:
    declared = migration.table
    name, schema = (declared.name, declared.schema) if isinstance(declared, Table) else (declared, None)
    there = inspect(connection)
    try:
        columns = there.get_columns(name, schema)
    except NoSuchTableError:
        reason = "is a view" if name in there.get_view_names(schema) else "does not exist in this database"
        if "." in name:
            reason += " (for a schema, give a sqlalchemy.Table with schema=...)"
        raise Refused(f"Table {name!r} {reason}. Check DATABASE_URL and the migration's table.") from None
    # No more is asked: all that SQLAlchemy reflects of a table costs PostgreSQL three times as much.
    key = PrimaryKeyConstraint(*there.get_pk_constraint(name, schema)["constrained_columns"])
    found = Table(name, MetaData(), *(Column(each["name"], each["type"]) for each in columns), key, schema=schema)
    if not isinstance(declared, Table):
        return found
    # The host's own column types, where it gave them; the database's for the rest.
    for column in declared.columns:
        if column.name in found.c:
            found.c[column.name].info[STORED_TYPE] = found.c[column.name].type
            found.c[column.name].type = column.type
    return found


def _with_planned(physical: Table, planned: Sequence[Column[Any]]) -> FromClause:
    absent = [column for column in planned if column.name not in physical.c]
    if not absent:
        return physical
    nulls = [cast(null(), column.type).label(column.name) for column in absent]
    return select(*physical.columns, *nulls).subquery(physical.name)
