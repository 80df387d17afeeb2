"""PostgreSQL: one UPDATE joined with arrays of keys and values, guarded by the version of each row.

A row's `xmin` is the transaction that wrote this version of it; whatever changes the row writes another version. So an
unchanged `xmin` under the same key proves every column unchanged, whatever its type, also where SQL has no exact
equality for it (https://www.postgresql.org/docs/current/ddl-system-columns.html). It notices too much rather than too
little: a change of an undeclared column sends the batch to the locking re-read, which compares only what is declared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import cached_property
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CHAR,
    JSON,
    BigInteger,
    Boolean,
    ColumnClause,
    ColumnElement,
    Connection,
    Date,
    DateTime,
    Dialect,
    Double,
    Enum,
    Float,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    Select,
    SmallInteger,
    String,
    Table,
    Text,
    Time,
    Update,
    Uuid,
    bindparam,
    cast,
    column,
    false,
    func,
    select,
    type_coerce,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.sql.type_api import TypeEngine
from sqlalchemy.types import NullType, UserDefinedType

from system_migration.store.writers.base import Columns, Missed, Rows, Shape, Writer, Written, of_one_kind, stored_type

_SEPARATOR = "\x1f"


_OWN = "system_migration_"
"""What the names of our parameters and tables begin with, so that they are never the migrated table's."""


class _Named(UserDefinedType[Any]):
    """A type by its name alone. Without a length: a cast to varchar(3) would cut what an assignment refuses."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: Any) -> str:
        return self.name


class PostgreSQLWriter(Writer):
    """`UPDATE ... FROM unnest(...)`."""

    def __init__(self, shape: Shape, dialect: Dialect) -> None:
        super().__init__(shape, dialect)
        self._xmin: ColumnElement[Any] = _system_column(shape.table, "xmin")
        self.version = cast(self._xmin, Text)
        self._element_types = [_element_type(each) for each in (*shape.key, *shape.written)]

    @property
    def exact_guard(self) -> bool:
        return self._is_fast

    @property
    def _is_fast(self) -> bool:
        return all(each is not None for each in self._element_types)

    def weight(self, column: ColumnElement[Any]) -> ColumnElement[int]:
        return func.octet_length(cast(column, Text) if isinstance(column.type, JSON) else column)

    def write_guarded(self, connection: Connection, rows: Rows, values: Columns) -> Written:
        parameters = self._parameters(rows, values)
        if parameters is None:
            raise Missed
        parameters[_OWN + "version"] = "{" + ",".join([row[-1] for row in rows]) + "}"
        written = self._execute(connection, self._guarded, parameters)
        if written.matched != len(rows):
            raise Missed
        return written

    def write(self, connection: Connection, rows: Rows, values: Columns) -> Written:
        parameters = self._parameters(rows, values) if self._is_fast else None
        if parameters is None:
            return self.write_one_by_one(connection, rows, values)
        return self._execute(connection, self._plain, parameters)

    def assign(self, connection: Connection, todo: Sequence[ColumnElement[bool]], values: Mapping[str, Any]) -> Written:
        statement = update(self.shape.table).where(*todo).values(dict(values))
        counting = statement if self.shape.pending is None else self._counting(statement, self.shape.pending)
        return self._execute(connection, counting, {})

    def _execute(self, connection: Connection, statement: Any, parameters: dict[str, Any]) -> Written:
        result = connection.execute(statement, parameters)
        if self.shape.pending is None:
            return Written(result.rowcount)
        matched, still_pending = result.one()
        return Written(matched, still_pending)

    def _parameters(self, rows: Rows, values: Columns) -> dict[str, Any] | None:
        """Arrays of the keys and of the new values, and the outermost keys; None where a column mixes types."""
        columns = [*self.keys_of(rows), *self.bound(values)]
        if not all(map(of_one_kind, columns)):
            return None
        parameters = {f"{_OWN}array_{index}": _array(each) for index, each in enumerate(columns)}
        return parameters | {_OWN + "first": rows[0][0], _OWN + "last": rows[-1][0]}

    @cached_property
    def _guarded(self) -> Any:
        return self._statement(guarded=True)

    @cached_property
    def _plain(self) -> Any:
        return self._statement(guarded=False)

    def _statement(self, *, guarded: bool) -> Any:
        shape, keys = self.shape, len(self.shape.key)
        arrays: list[ColumnElement[Any]] = [
            cast(bindparam(f"{_OWN}array_{index}", type_=NullType()), ARRAY(element))
            for index, element in enumerate(self._element_types)
            if element is not None
        ]
        names = [f"key_{index}" for index in range(keys)] + [f"new_{index}" for index in range(len(shape.written))]
        if guarded:
            arrays.append(cast(bindparam(_OWN + "version", type_=NullType()), ARRAY(_Named("xid"))))
            names.append("version")
        given = func.unnest(*arrays).table_valued(*(column(name) for name in names)).render_derived(name=_OWN + "given")
        first = type_coerce(shape.key[0], NullType())
        # The outermost keys let the planner walk the batch's part of the index, whatever its statistics say.
        bounds = [
            first >= bindparam(_OWN + "first", type_=NullType()),
            first <= bindparam(_OWN + "last", type_=NullType()),
        ]
        statement = (
            update(shape.table)
            .where(*(type_coerce(part, NullType()) == given.c[f"key_{i}"] for i, part in enumerate(shape.key)))
            .where(*bounds)
            .values({each.name: given.c[f"new_{i}"] for i, each in enumerate(shape.written)})
        )
        if guarded:
            statement = statement.where(self._xmin == given.c.version)
        if shape.pending is None:
            return statement
        return self._counting(statement.where(shape.pending) if guarded else statement, shape.pending)

    def _counting(self, statement: Update, pending: ColumnElement[bool]) -> Select[int, int]:
        """The statement, counted on the server: rows written, and rows for which `pending` is still true."""
        written = statement.returning(func.coalesce(pending, false()).label("still")).cte(_OWN + "written")
        return select(func.count(), func.count().filter(written.c.still))


_PLAIN_NAMES: tuple[tuple[type[TypeEngine[Any]], str], ...] = (
    (CHAR, "bpchar"),
    (String, "text"),
    (SmallInteger, "smallint"),
    (BigInteger, "bigint"),
    (Integer, "integer"),
    (Double, "double precision"),
    (Float, "real"),
    (Numeric, "numeric"),
    (Boolean, "boolean"),
    (Date, "date"),
    (Interval, "interval"),
    (Uuid, "uuid"),
    (LargeBinary, "bytea"),
    (JSONB, "jsonb"),
    (JSON, "json"),
)


def _system_column(table: Table, name: str) -> ColumnElement[Any]:
    found: ColumnClause[Any] = column(name)
    found.table = table
    return found


def _element_type(of: ColumnElement[Any]) -> TypeEngine[Any] | None:
    """The type of an array of such values, or None where an array is not the way."""
    stored = stored_type(of)
    if isinstance(stored, Enum):
        return stored if getattr(stored, "native_enum", False) and stored.name else None
    if isinstance(stored, DateTime | Time):
        zone = " with time zone" if stored.timezone else ""
        return _Named(("timestamp" if isinstance(stored, DateTime) else "time") + zone)
    return next((_Named(name) for kind, name in _PLAIN_NAMES if isinstance(stored, kind)), None)


_WRITTEN: dict[type, Callable[[Any], str]] = {
    Decimal: str,
    float: repr,
    bool: str,
    date: date.isoformat,
    datetime: datetime.isoformat,
    UUID: str,
}
"""Values whose text needs no quotes in an array literal."""


def _array(values: Sequence[Any]) -> Any:
    """The values as an array literal, where that is simple; else as they are, for the driver (seven times slower)."""
    kinds = set(map(type, values))
    holes = type(None) in kinds
    if kinds <= {int, type(None)}:
        text = repr(values if isinstance(values, list) else list(values))[1:-1]
        return "{" + (text.replace("None", "NULL") if holes else text) + "}"
    if kinds == {str} and not holes:
        return _text_array(values)
    written = _WRITTEN.get(next(iter(kinds - {type(None)}), type(None)))
    if written is None:
        return list(values)
    return "{" + ",".join(["NULL" if value is None else written(value) for value in values]) + "}"


def _text_array(values: Sequence[str]) -> Any:
    joined = _SEPARATOR.join(values)
    if joined.count(_SEPARATOR) != len(values) - 1:
        return list(values)
    quoted = joined.replace("\\", "\\\\").replace('"', '\\"').replace(_SEPARATOR, '","')
    return '{"' + quoted + '"}'
