"""Rows from one MariaDB connection to another, just as they are."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from sqlalchemy import Connection, Select, literal_column, select

from system_migration.rehearsal.schema_mariadb import quoted
from system_migration.rehearsal.tables import Key, SourceTable, columns_of, is_one_of
from system_migration.rehearsal.watching import Watch

_ROWS_AT_ONCE = 500


def copy_rows(source: Connection, target: Connection, table: SourceTable, keys: list[Key] | None, watch: Watch) -> None:
    """Copy all rows of a table, or those with these keys."""
    into = _insertion(table)
    found = source.execute(_wanted(table, keys), execution_options={"stream_results": True})
    with closing(target.connection.cursor()) as writer:
        for part in found.partitions(_ROWS_AT_ONCE):
            writer.executemany(into, [tuple(row) for row in part])
            watch.heed()


def _wanted(table: SourceTable, keys: list[Key] | None) -> Select[Any]:
    source = table.clause
    columns = [  # a float is shown with six digits, and has more
        column + literal_column("0e0") if column.name in table.floats else column
        for column in columns_of(source, table.columns)
    ]
    query = select(*columns)
    return query if keys is None else query.where(is_one_of(columns_of(source, table.key), keys))


def _insertion(table: SourceTable) -> str:
    names = ", ".join(map(quoted, table.columns)).replace("%", "%%")
    values = ", ".join(["%s"] * len(table.columns))
    return f"INSERT INTO {quoted(table.name[1]).replace('%', '%%')} ({names}) VALUES ({values})"
