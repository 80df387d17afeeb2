"""Rows from one MariaDB connection to another, just as they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Select, literal_column, select

from system_migration.rehearsal.schema_mariadb import quoted
from system_migration.rehearsal.tables import Key, SourceTable, columns_of, is_one_of
from system_migration.rehearsal.watching import Watch

_ROWS_AT_ONCE = 500


def copy_rows(source: Connection, target: Connection, table: SourceTable, keys: list[Key] | None, watch: Watch) -> None:
    """Copy all rows of a table, or those with these keys."""
    into = _insertion(table)
    writer = target.connection.cursor()
    with _undecoded(source):
        found = source.execute(_wanted(table, keys), execution_options={"stream_results": True})
        for part in found.partitions(_ROWS_AT_ONCE):
            writer.executemany(into, [tuple(row) for row in part])
            watch.heed()
    writer.close()


@contextmanager
def _undecoded(source: Connection) -> Iterator[None]:
    """Let the connection read each value as the server spells it: not every one is a value that Python has."""
    driver: Any = source.connection.dbapi_connection
    decoders, driver.decoders = driver.decoders, {}
    try:
        yield
    finally:
        driver.decoders = decoders


def _wanted(table: SourceTable, keys: list[Key] | None) -> Select[Any]:
    source = table.clause
    columns = [
        column + literal_column("0e0") if column.name in table.floats else column
        for column in columns_of(source, table.columns)
    ]
    query = select(*columns)
    return query if keys is None else query.where(is_one_of(columns_of(source, table.key), keys))


def _insertion(table: SourceTable) -> str:
    names = ", ".join(map(quoted, table.columns)).replace("%", "%%")
    values = ", ".join(["%s"] * len(table.columns))
    return f"INSERT INTO {quoted(table.name[1]).replace('%', '%%')} ({names}) VALUES ({values})"
