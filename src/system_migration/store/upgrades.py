"""Bringing older tracking tables forward: only ever adding, so that an older program that still runs is not broken.

Each step is found from what is missing, so an upgrade that died half-way (on MariaDB each ALTER commits) is completed
by the next one. The version is written last.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Column, Connection, Insert, Inspector, Table, Update, inspect, select, update
from sqlalchemy.engine import Dialect as SqlDialect
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable
from sqlalchemy.sql import ClauseElement

from system_migration.errors import HeldElsewhere
from system_migration.store import chain, tables
from system_migration.store.dialects import Dialect
from system_migration.store.leases import alive

ADDED_COLUMNS: dict[int, dict[Table, tuple[str, ...]]] = {
    2: {
        tables.migration: ("request", "requested_by", "cancelled"),
        tables.run: ("from_key", "to_key", "held_only"),
        tables.ledger: ("last_range", "batches"),
    },
    3: {tables.lease: ("pulse", "pulse_at")},
}
"""What each version adds to tables that were there before. New tables are made as at the first start."""

_WITH_REQUESTS = 2
"""The first version whose programs can be asked to pause."""
_WIDENED: dict[int, dict[Table, tuple[str, ...]]] = {
    2: {tables.ledger: ("rows_read", "changed", "unchanged", "held", "vanished")},
}
_ADDED_TABLES: dict[int, tuple[Table, ...]] = {
    2: (tables.death, tables.journal),
    3: (tables.issue,),
    4: (tables.event_link, tables.event_head),
}
"""Tables that each version adds, or gives an index that they lacked."""


def lacking(version: int) -> set[str]:
    """The names of the columns that tables of this version do not have yet."""
    later = (added for number, added in ADDED_COLUMNS.items() if number > version)
    return {name for added in later for names in added.values() for name in names}


def upgrade(connection: Connection, dialect: Dialect, version: int) -> bool:
    """Bring tables of `version` to ours; False when somebody else has just done it.

    Raises `HeldElsewhere` while a runner is at work: it may be an older program, whose batches would be misread.
    """
    meta = tables.meta.c
    seen = connection.execute(select(meta.schema_version)).scalar_one()
    if seen != version:
        return False
    _demand_nobody_runs(connection, version)
    for statement in _statements(connection, dialect, version):
        connection.exec_driver_sql(statement)
    for change in _fill(version):
        connection.execute(change)
    bumped = connection.execute(
        update(tables.meta).where(meta.schema_version == version).values(schema_version=tables.SCHEMA_VERSION)
    )
    return bumped.rowcount == 1


def upgrade_sql(connection: Connection, dialect: Dialect, version: int) -> list[str]:
    """The statements that bring tables of `version` to ours, for a role that may."""
    meta = tables.meta.c
    bump = update(tables.meta).where(meta.schema_version == version)
    changes = [*_fill(version), bump.values(schema_version=tables.SCHEMA_VERSION)]
    as_text = [str(change.compile(connection, compile_kwargs={"literal_binds": True})) for change in changes]
    return [*_statements(connection, dialect, version), *as_text]


def _demand_nobody_runs(connection: Connection, version: int) -> None:
    lease = tables.lease.c
    busy = connection.execute(select(lease.name, lease.held_by).where(alive()).limit(1)).first()
    if busy is not None:
        raise HeldElsewhere.on_older_tables(busy.name, busy.held_by, pausable=version >= _WITH_REQUESTS)


def _statements(connection: Connection, dialect: Dialect, version: int) -> Iterator[str]:
    """What is still to be altered, found by looking."""
    there, sql = inspect(connection), connection.dialect
    for number in range(version + 1, tables.SCHEMA_VERSION + 1):
        for table in _ADDED_TABLES.get(number, ()):
            yield from _creation(there, table, sql)
        for table, names in ADDED_COLUMNS.get(number, {}).items():
            present = {column["name"] for column in there.get_columns(table.name)}
            yield from (_addition(table.c[name], sql) for name in names if name not in present)
        for table, names in _WIDENED.get(number, {}).items():
            yield from filter(None, (dialect.widening(table.name, name) for name in names))


def _creation(there: Inspector, table: Table, sql: SqlDialect) -> Iterator[str]:
    if not there.has_table(table.name):
        yield _text(CreateTable(table), sql)
        present = set()
    else:
        present = {index["name"] for index in there.get_indexes(table.name)}
    yield from (_text(CreateIndex(index), sql) for index in table.indexes if index.name not in present)


def _addition(column: Column[object], sql: SqlDialect) -> str:
    return f"ALTER TABLE {column.table.name} ADD COLUMN {_text(CreateColumn(column), sql)}"


def _text(element: ClauseElement, sql: SqlDialect) -> str:
    return str(element.compile(dialect=sql)).strip()


def _fill(version: int) -> Iterator[Update | Insert]:
    """What the rows that are there mean in the new columns."""
    if version < 2:  # a row stood for one range
        ledger = tables.ledger.c
        yield update(tables.ledger).where(ledger.last_range < ledger["range"]).values(last_range=ledger["range"])
    if version < 4:
        yield chain.beginning()


def damage(connection: Connection) -> str | None:
    """The first table or column of ours that is not there, in words; None where all are."""
    there = inspect(connection)
    for table in tables.metadata.sorted_tables:
        if not there.has_table(table.name):
            return f"table {table.name} is missing"
        present = {column["name"] for column in there.get_columns(table.name)}
        for column in table.columns:
            if column.name not in present:
                return f"column {column.name} of table {table.name} is missing"
    return None
