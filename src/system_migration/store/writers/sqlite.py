"""SQLite: executemany, which is a loop in C over one prepared statement, with no server to travel to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Enum,
    Integer,
    LargeBinary,
    String,
    cast,
    func,
    select,
    type_coerce,
    update,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.types import NullType

from system_migration.store.writers.base import Columns, Missed, Rows, Writer, Written, stored_type


class SQLiteWriter(Writer):
    """`executemany("UPDATE ...")`."""

    @cached_property
    def exact_guard(self) -> bool:
        exact = all(_is_exact(column) and self.is_plain(column) for column in self.shape.guarded)
        return exact and (self.shape.pending is None or self.pending_sql is not None)

    def weight(self, column: ColumnElement[Any]) -> ColumnElement[int]:
        return func.length(cast(column, LargeBinary))  # octet_length is younger than many a SQLite

    def exact_form(self, of: ColumnElement[Any]) -> ColumnElement[Any] | None:
        # The stored value itself: a file may hold a date, say, in many spellings, of which SQLAlchemy writes one.
        return type_coerce(of, NullType()) if self._is_decoded(of) else None

    def _is_decoded(self, of: ColumnElement[Any]) -> bool:
        if isinstance(of.type, LargeBinary):
            return False  # its bytes are the stored ones
        try:
            return of.type.dialect_impl(self.dialect).result_processor(self.dialect, None) is not None
        except (SQLAlchemyError, TypeError):
            return True  # it depends on what the driver will say of the result

    def write_guarded(self, connection: Connection, rows: Rows, values: Columns) -> Written:
        first, last = len(self.shape.key), len(self.shape.key) + len(self.shape.guarded)
        old = [[row[index] for row in rows] for index in range(first, last)]
        matched = self._update(connection, self._guarded_sql, [*self.bound(values), *self.keys_of(rows), *old])
        if matched != len(rows):
            raise Missed
        return Written(matched, self.count_pending(connection, rows))

    def write(self, connection: Connection, rows: Rows, values: Columns) -> Written:
        matched = self._update(connection, self._plain_sql, [*self.bound(values), *self.keys_of(rows)])
        return Written(matched, self.count_pending(connection, rows))

    def assign(self, connection: Connection, todo: Sequence[ColumnElement[bool]], values: Mapping[str, Any]) -> Written:
        matched = connection.execute(update(self.shape.table).where(*todo).values(dict(values))).rowcount
        if self.shape.pending is None:
            return Written(matched)
        # Nobody else can have added a row: this transaction holds the only right to write.
        left = select(func.count()).select_from(self.shape.table).where(*todo)
        return Written(matched, connection.execute(left).scalar_one())

    def _update(self, connection: Connection, statement: str, columns: Sequence[Sequence[Any]]) -> int:
        return connection.exec_driver_sql(statement, list(zip(*columns, strict=True))).rowcount

    @cached_property
    def _plain_sql(self) -> str:
        sets = ", ".join(f"{self.quoted(column)} = ?" for column in self.shape.written)
        keys = " AND ".join(f"{self.quoted(part)} = ?" for part in self.shape.key)
        return f"UPDATE {self.quoted_table} SET {sets} WHERE {keys}"

    @cached_property
    def _guarded_sql(self) -> str:
        # The column's own collation may call texts equal that differ in case or in trailing spaces.
        still = "".join(f" AND {self.quoted(column)} COLLATE BINARY IS ?" for column in self.shape.guarded)
        pending = "" if self.pending_sql is None else f" AND ({self.pending_sql})"
        return self._plain_sql + still + pending


def _is_exact(column: ColumnElement[Any]) -> bool:
    """Whether its affinity leaves no two values that are equal and yet different: not so for 1 and 1.0 elsewhere."""
    stored = stored_type(column)
    return isinstance(stored, Integer | String) and not isinstance(stored, Enum)
