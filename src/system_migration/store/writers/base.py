"""What a bulk writer is asked for, and the slow way that every database knows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time
from functools import cached_property
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    Connection,
    Dialect,
    Double,
    Float,
    Select,
    String,
    Table,
    and_,
    bindparam,
    cast,
    func,
    literal_column,
    select,
    tuple_,
    type_coerce,
    update,
)
from sqlalchemy.exc import CompileError, SQLAlchemyError
from sqlalchemy.sql.type_api import TypeEngine
from sqlalchemy.types import NullType

_NAMES = "system_migration_"
"""What the names of our own parameters begin with, so that they are never a column's."""
KEYS_AT_ONCE = 1_000


class Missed(Exception):
    """Rows no longer are what was read. Roll back, and find out which by the locking re-read."""


class BadValue(Exception):
    """A new value that its column's type cannot turn into one of the database; the cause says why."""


@dataclass(frozen=True)
class Shape:
    """What a writer has to know of a table: its key, the columns that must be as they were read, those to write."""

    table: Table
    key: tuple[Column[Any], ...]
    guarded: tuple[ColumnElement[Any], ...]
    written: tuple[ColumnElement[Any], ...]
    pending: ColumnElement[bool] | None


@dataclass(frozen=True)
class Written:
    """How many rows a write matched, and of how many it left `pending` true."""

    matched: int
    still_pending: int = 0


Rows = Sequence[Sequence[Any]]
"""Selected rows: the key, the guarded columns, then what else was selected."""

Columns = Sequence[Sequence[Any]]
"""New values, a list for each written column, in the order of the rows."""


class Writer(ABC):
    """Writes the new values of one batch in one statement, where the database has one that is fast.

    `version` is an expression that changes whenever a row does, where the database offers one; a row that is read
    carries it as its last value. `exact_guard` tells whether `write_guarded` notices every change of a row.
    """

    version: ColumnElement[Any] | None = None

    def __init__(self, shape: Shape, dialect: Dialect) -> None:
        self.shape = shape
        self.dialect = dialect
        self._binds = [_bind_processor(column, dialect) for column in shape.written]

    @property
    @abstractmethod
    def exact_guard(self) -> bool:
        """Whether SQL alone can tell that the rows still are what was read. Proven by a test for each type."""

    @abstractmethod
    def write_guarded(self, connection: Connection, rows: Rows, values: Columns) -> Written:
        """Write `values` to those of `rows` that still are what was read. Raises `Missed` when some are not."""

    @abstractmethod
    def write(self, connection: Connection, rows: Rows, values: Columns) -> Written:
        """Write `values` to `rows`, which are locked."""

    def assign(self, connection: Connection, todo: Sequence[ColumnElement[bool]], values: Mapping[str, Any]) -> Written:
        """Give all rows for which `todo` holds the values of these expressions, in one UPDATE.

        Where `pending` selects the rows they are locked first: a row that somebody adds meanwhile is not ours to judge.
        """
        statement = update(self.shape.table).where(*todo).values(dict(values))
        if self.shape.pending is None:
            return Written(connection.execute(statement).rowcount)
        keys = select(*(type_coerce(part, NullType()) for part in self.shape.key)).where(*todo)
        rows = connection.execute(keys.with_for_update()).all()
        return Written(connection.execute(statement).rowcount, self.count_pending(connection, rows))

    def gather(self, connection: Connection, query: Select[Any], columns: Sequence[ColumnElement[Any]]) -> Rows | None:
        """The rows of a `query` for these columns, the key first, where there is a faster way than to ask it.

        None where there is none, and when it did not lead to rows that are surely right: then ask the query itself.
        """
        return None

    def weight(self, column: ColumnElement[Any]) -> ColumnElement[int]:
        """How many bytes a value of the column takes."""
        return func.octet_length(column)

    def exact_form(self, of: ColumnElement[Any]) -> ColumnElement[Any] | None:
        """What tells values apart that are decoded to the same, and brings back what was there; None: they tell it.

        Needed for intervals, JSON numbers and single-precision floats.
        """
        if _is_interval(of.type) or isinstance(of.type, JSON):
            return cast(of, String)
        return cast(of, Double) if isinstance(of.type, Float) and not isinstance(of.type, Double) else None

    def bound(self, values: Columns) -> list[Sequence[Any]]:
        """The values of each written column, as the driver takes them. Raises `BadValue`."""
        try:
            return [
                column if bind is None else [bind(value) for value in column]
                for column, bind in zip(values, self._binds, strict=True)
            ]
        except Exception as error:  # a type may be the host's own
            raise BadValue from error

    def keys_of(self, rows: Rows) -> list[list[Any]]:
        """The values of each part of the key."""
        return [[row[index] for row in rows] for index in range(len(self.shape.key))]

    def write_one_by_one(self, connection: Connection, rows: Rows, values: Columns) -> Written:
        """The way that every database knows and that takes values of any type: executemany."""
        written = self.shape.written
        statement = (
            update(self.shape.table)
            .where(self.is_key())
            .values({column.name: bindparam(f"{_NAMES}new_{column.name}") for column in written})
        )
        names = [f"{_NAMES}new_{column.name}" for column in written]
        parts = [f"{_NAMES}key_{index}" for index in range(len(self.shape.key))]
        parameters = [
            dict(zip(parts, row, strict=False)) | dict(zip(names, new, strict=True))
            for row, new in zip(rows, zip(*values, strict=True), strict=True)
        ]
        matched = connection.execute(statement, parameters).rowcount
        return Written(matched, self.count_pending(connection, rows))

    def count_pending(self, connection: Connection, rows: Rows) -> int:
        """Of how many of these rows `pending` is true now."""
        if self.shape.pending is None:
            return 0
        found = 0
        query = select(func.count()).select_from(self.shape.table).where(self.shape.pending)
        for start in range(0, len(rows), KEYS_AT_ONCE):
            keys = [tuple(row[: len(self.shape.key)]) for row in rows[start : start + KEYS_AT_ONCE]]
            found += connection.execute(query.where(self._is_among(keys))).scalar_one()
        return found

    def is_key(self) -> ColumnElement[bool]:
        """Whether the row's key is in the parameters system_migration_key_0, system_migration_key_1, ..."""
        return and_(
            *(
                type_coerce(part, NullType()) == bindparam(f"{_NAMES}key_{index}", type_=NullType())
                for index, part in enumerate(self.shape.key)
            )
        )

    def _is_among(self, keys: Sequence[tuple[Any, ...]]) -> ColumnElement[bool]:
        parts = [type_coerce(part, NullType()) for part in self.shape.key]
        if len(parts) == 1:
            values = [key[0] for key in keys]
            return parts[0].in_(bindparam(f"{_NAMES}keys", values, type_=NullType(), expanding=True))
        return tuple_(*parts, types=[NullType()] * len(parts)).in_(list(keys))

    def is_plain(self, column: ColumnElement[Any]) -> bool:
        """Whether its values travel as they are: what was read is what a guard in SQL compares with."""
        kind = column.type.dialect_impl(self.dialect)
        try:
            return kind.bind_processor(self.dialect) is None and kind.result_processor(self.dialect, None) is None
        except (SQLAlchemyError, TypeError):
            return False  # it depends on what the driver will say of the result

    @cached_property
    def pending_sql(self) -> str | None:
        """`pending` with its values written out; None where a value of it has no literal form.

        Compiled as the condition of a SELECT from the table: on its own, a subquery that asks about the row would
        bring the table along in its FROM, and ask about any row.
        """
        if self.shape.pending is None:
            return None
        everything: Select[Any] = select(literal_column("1")).select_from(self.shape.table)
        try:
            start = self._literally(everything) + " \nWHERE "
            whole = self._literally(everything.where(self.shape.pending))
        except (CompileError, NotImplementedError, ValueError):
            return None
        return whole.removeprefix(start) if whole.startswith(start) else None

    def _literally(self, query: Select[Any]) -> str:
        compiled = query.compile(dialect=self.dialect, compile_kwargs={"literal_binds": True})
        if compiled.params:
            raise ValueError("some function leaves values to the driver")
        return str(compiled)

    @cached_property
    def quoted_table(self) -> str:
        """The table's name as SQL has it."""
        return self.dialect.identifier_preparer.format_table(self.shape.table)

    def quoted(self, column: ColumnElement[Any]) -> str:
        """A column's name as SQL has it."""
        return self.dialect.identifier_preparer.quote(column.name)


def _bind_processor(column: ColumnElement[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    return column.type.dialect_impl(dialect).bind_processor(dialect)


def _is_interval(kind: TypeEngine[Any]) -> bool:
    # By name: PostgreSQL's own INTERVAL, as it is reflected, is no subclass of Interval.
    return kind.__visit_name__ in ("interval", "INTERVAL")


STORED_TYPE = "system_migration_stored_type"
"""Where a reflected column keeps its own type when the host has declared another."""


def stored_type(of: ColumnElement[Any]) -> TypeEngine[Any]:
    """The type that the database has for a column, whatever the host calls it."""
    found: TypeEngine[Any] = of.info.get(STORED_TYPE, of.type) if isinstance(of, Column) else of.type
    return found


def of_one_kind(values: Sequence[Any]) -> bool:
    """Whether values other than None share a type, so that one statement can hold them without changing any."""
    kinds = set(map(type, values)) - {type(None)}
    if kinds <= {datetime} or kinds <= {time}:
        return len({value.tzinfo is None for value in values if value is not None}) <= 1
    return len(kinds) <= 1
