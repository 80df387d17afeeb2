"""DDL for migrations: each change looks into the catalogue first, so repeating it after a crash is harmless.

A change is a description, a probe that is false before and true after it, and a step built from Alembic operations
(which emit portable DDL). PostgreSQL and SQLite run the steps inside the caller's transaction. MariaDB commits each
statement by itself, so there the probe alone carries a crash.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Connection, inspect
from sqlalchemy.engine import Inspector

if TYPE_CHECKING:
    from alembic.operations import Operations


class SchemaChanges:
    """What `prepare` and `up` change the schema with. `planned` keeps the descriptions of what was not there yet."""

    def __init__(
        self, connection: Connection, *, perform: bool = True, refuse: Callable[[], None] | None = None
    ) -> None:
        self.planned: list[str] = []
        self._planned_columns: dict[str, list[Column[Any]]] = {}
        self._connection = connection
        self._perform = perform
        self._refuse = refuse or (lambda: None)

    def add_column(self, table: str, column: Column[Any], schema: str | None = None) -> None:
        """Add a column unless the table has one of that name."""
        done = self._has_column(table, column.name, schema)
        if not done:
            self._planned_columns.setdefault(table, []).append(column)
        self._change(done, f"add column {table}.{column.name}", lambda op: op.add_column(table, column, schema=schema))

    def drop_column(self, table: str, column: str, schema: str | None = None) -> None:
        """Drop a column if the table has it."""
        done = not self._has_column(table, column, schema)
        self._change(done, f"drop column {table}.{column}", lambda op: op.drop_column(table, column, schema=schema))

    def create_table(self, name: str, *columns: Any, schema: str | None = None) -> None:
        """Create a table unless it exists."""
        done = self._inspector.has_table(name, schema=schema)
        self._change(done, f"create table {name}", lambda op: op.create_table(name, *columns, schema=schema))

    def drop_table(self, name: str, schema: str | None = None) -> None:
        """Drop a table if it exists."""
        done = not self._inspector.has_table(name, schema=schema)
        self._change(done, f"drop table {name}", lambda op: op.drop_table(name, schema=schema))

    def create_index(
        self, name: str, table: str, columns: Sequence[str], *, unique: bool = False, schema: str | None = None
    ) -> None:
        """Create an index unless the table has one of that name."""
        done = self._has_index(name, table, schema)
        self._change(
            done,
            f"create index {name} on {table}",
            lambda op: op.create_index(name, table, list(columns), unique=unique, schema=schema),
        )

    def drop_index(self, name: str, table: str, schema: str | None = None) -> None:
        """Drop an index if the table has it."""
        done = not self._has_index(name, table, schema)
        self._change(done, f"drop index {name}", lambda op: op.drop_index(name, table_name=table, schema=schema))

    def columns_of(self, table: str) -> list[Column[Any]]:
        """The columns that were asked for and not there yet."""
        return self._planned_columns.get(table, [])

    @property
    def _inspector(self) -> Inspector:
        return inspect(self._connection)  # a new one each time: it remembers what it saw

    def _has_column(self, table: str, column: str, schema: str | None) -> bool:
        return self._inspector.has_table(table, schema=schema) and any(
            found["name"] == column for found in self._inspector.get_columns(table, schema=schema)
        )

    def _has_index(self, name: str, table: str, schema: str | None) -> bool:
        return self._inspector.has_table(table, schema=schema) and any(
            found["name"] == name for found in self._inspector.get_indexes(table, schema=schema)
        )

    def _change(self, done: bool, description: str, step: Callable[[Operations], Any]) -> None:
        if done:
            return
        self.planned.append(description)
        if self._perform:
            self._refuse()
            step(_operations(self._connection))


def _operations(connection: Connection) -> Operations:
    from alembic.migration import MigrationContext  # 60 ms that most commands never need
    from alembic.operations import Operations

    return Operations(MigrationContext.configure(connection))
