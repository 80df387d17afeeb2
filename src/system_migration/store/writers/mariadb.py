"""MariaDB: one UPDATE joined with a derived table of literals; executemany costs a round trip for each row.

The table itself comes first in the join, walked by its key, and is written while it is walked. With the derived table
first the server would collect the changes in a temporary table, at twice the price. The derived table begins with an
empty SELECT from the table itself, which gives its key the type and the collation of the real one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any

from sqlalchemy import ColumnElement, Connection, Date, DateTime, Dialect, Float, Integer, Numeric, Select, String
from sqlalchemy.exc import DBAPIError

from system_migration.store.writers.base import (
    BadValue,
    Columns,
    Missed,
    Rows,
    Shape,
    Writer,
    Written,
    of_one_kind,
    stored_type,
)
from system_migration.store.writers.gathering_mariadb import can_gather, gather, is_integer
from system_migration.store.writers.literals_mariadb import Literals

_KNOWN = (type(None), bool, int, float, str, bytes, bytearray, Decimal, date, time, timedelta)
"""What the driver writes as itself: a datetime is a date, too."""
_GIVEN = "system_migration_given"


class MariaDBWriter(Writer):
    """`UPDATE table STRAIGHT_JOIN (... VALUES ...)`."""

    def __init__(self, shape: Shape, dialect: Dialect) -> None:
        super().__init__(shape, dialect)
        self._key_names = [f"key_{index}" for index in range(len(shape.key))]
        self._new_names = [f"new_{index}" for index in range(len(shape.written))]
        self._old_names = [f"old_{index}" for index in range(len(shape.guarded))]

    @cached_property
    def exact_guard(self) -> bool:
        exact = all(_is_exact(column) and self.is_plain(column) for column in self.shape.guarded)
        return exact and (self.shape.pending is None or self.pending_sql is not None)

    def gather(self, connection: Connection, query: Select[Any], columns: Sequence[ColumnElement[Any]]) -> Rows | None:
        if not self._gathers:
            return None
        stored = [stored_type(each) for each in (*self.shape.key, *self.shape.guarded)]
        return gather(connection, query, list(zip(columns, stored, strict=True)), len(self.shape.key))

    @cached_property
    def _gathers(self) -> bool:
        guarded = all(can_gather(stored_type(each)) and self.is_plain(each) for each in self.shape.guarded)
        return guarded and all(is_integer(stored_type(part)) for part in self.shape.key)

    def bound(self, values: Columns) -> list[Sequence[Any]]:
        columns = super().bound(values)
        for kind in {kind for column in columns for kind in set(map(type, column))}:
            if not issubclass(kind, _KNOWN):
                # The driver would write its repr.
                raise BadValue from TypeError(f"a value of type {kind.__name__}")
        return columns

    def write_guarded(self, connection: Connection, rows: Rows, values: Columns) -> Written:
        first, last = len(self.shape.key), len(self.shape.key) + len(self.shape.guarded)
        old = [[row[index] for row in rows] for index in range(first, last)]
        columns = [*self.keys_of(rows), *self.bound(values), *old]
        if not all(map(of_one_kind, columns)):
            raise Missed
        names = [*self._key_names, *self._new_names, *self._old_names]
        conditions = list(self._still_there)
        if self.pending_sql is not None:
            conditions.append(f"({self.pending_sql})")
        try:
            written = self._update(connection, rows, names, columns, conditions)
        except DBAPIError as error:
            if _is_mix_of_collations(error):
                raise Missed from None
            raise
        if written.matched != len(rows):
            raise Missed
        return written

    def write(self, connection: Connection, rows: Rows, values: Columns) -> Written:
        columns = [*self.keys_of(rows), *self.bound(values)]
        if not all(map(of_one_kind, columns)):
            return self.write_one_by_one(connection, rows, values)
        try:
            return self._update(connection, rows, [*self._key_names, *self._new_names], columns, [])
        except DBAPIError as error:
            if _is_mix_of_collations(error):
                return self.write_one_by_one(connection, rows, values)
            raise

    def _update(
        self, connection: Connection, rows: Rows, names: list[str], columns: list[Any], conditions: list[str]
    ) -> Written:
        empty = ", ".join([f"{key} AS {name}" for key, name in zip(self._keys, self._key_names, strict=True)])
        empty += "".join(f", NULL AS {name}" for name in names[len(self._key_names) :])
        key, sets = self._keys[0], zip(self.shape.written, self._new_names, strict=True)
        joined = " AND ".join(
            f"{_GIVEN}.{name} = {part}" for part, name in zip(self._keys, self._key_names, strict=True)
        )
        statement = (
            f"UPDATE {self.quoted_table} STRAIGHT_JOIN (SELECT {empty} FROM {self.quoted_table} WHERE FALSE"
            f" UNION ALL VALUES %s) AS {_GIVEN} ON {joined}"
            f" SET {', '.join(f'{self.quoted_table}.{self.quoted(column)} = {_GIVEN}.{name}' for column, name in sets)}"
            f" WHERE {' AND '.join([f'{key} >= %s', f'{key} <= %s', *conditions])}"
        )
        given = Literals(columns, connection.connection.driver_connection)
        matched = connection.exec_driver_sql(statement, (given, rows[0][0], rows[-1][0])).rowcount
        return Written(matched, self.count_pending(connection, rows))

    @cached_property
    def _keys(self) -> list[str]:
        return [f"{self.quoted_table}.{self.quoted(part)}" for part in self.shape.key]

    @cached_property
    def _still_there(self) -> list[str]:
        return [
            _is_still(column, f"{self.quoted_table}.{self.quoted(column)}", old)
            for column, old in zip(self.shape.guarded, self._old_names, strict=True)
        ]


def _is_mix_of_collations(error: DBAPIError) -> bool:
    """Whether the server will not put the keys in one column: beyond ASCII, for keys of a character set but UTF-8.

    It says so before it looks at a row; the transaction goes on.
    """
    return error.orig is not None and error.orig.args[:1] in ((1267,), (1270,), (1271,))


def _is_exact(column: ColumnElement[Any]) -> bool:
    """Whether the database calls two values of the column equal only if they are the same."""
    stored = stored_type(column)
    return not isinstance(stored, Float) and isinstance(stored, String | Integer | Numeric | Date | DateTime)


def _is_still(column: ColumnElement[Any], name: str, old: str) -> str:
    if isinstance(stored_type(column), String):
        # Byte by byte: many collations call texts equal that differ in case, accents or trailing spaces. In one
        # character set: the latin1 bytes of one text are the UTF-8 bytes of another.
        return f"BINARY CONVERT({name} USING utf8mb4) <=> BINARY CONVERT({_GIVEN}.{old} USING utf8mb4)"
    return f"{name} <=> {_GIVEN}.{old}"
