"""The table a batch migration works on, as SQL sees it: its key, its declared columns, ranges of its key."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    Connection,
    Double,
    Float,
    FromClause,
    MetaData,
    Select,
    String,
    Table,
    and_,
    bindparam,
    cast,
    func,
    inspect,
    literal,
    null,
    or_,
    select,
    tuple_,
    type_coerce,
)
from sqlalchemy.exc import NoSuchTableError
from sqlalchemy.types import NullType, TypeEngine

from system_migration.batch_migration import BatchMigration, Row
from system_migration.batching.keys import Key, encode
from system_migration.errors import Refused

SCAN_ROWS = 2_000
KEY_SAMPLE = 1_000
_KEY_TRIES = 5
PARAMETERS = 10_000
"""Bound values in one statement, well below the least that a database allows (SQLite: 32,766)."""


OWN_NAMES = "system_migration_"
"""What the names of our own columns and parameters begin with, so that they are never the table's."""


@dataclass(frozen=True)
class ReadRow:
    """A row as it was read: key, the declared columns, and what else tells their values apart."""

    key: Key
    values: tuple[Any, ...]
    exact: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Target:
    """The migrated table. `columns` are the declared reads, then the writes that are not read.

    Keys are read and bound as the driver has them, untyped: what came out of the database is what goes back, and the
    database compares it as its own column's type.
    """

    table: FromClause
    physical: Table
    key: tuple[ColumnElement[Any], ...]
    columns: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    pending: ColumnElement[bool] | None
    journalled: bool = False

    def batch(self, lower: Key | None, upper: Key | None, limit: int | None) -> Select[Any]:
        """Key and columns of the rows in a range that need the change, in key order."""
        query = self._rows().where(*self.between(lower, upper)).order_by(*self.key).limit(limit)
        return query if self.pending is None else query.where(self.pending)

    def rows_by_key(self, keys: Sequence[Key]) -> Select[Any]:
        """Key and columns of named rows, in key order."""
        return self._rows().where(self.is_one_of(keys)).order_by(*self.key)

    def guarded(self, keys: Sequence[Key]) -> Select[Any]:
        """As `rows_by_key`, with one more value: whether the row still needs the change."""
        still = func.coalesce(self.pending, False) if self.pending is not None else null()
        return self.rows_by_key(keys).add_columns(still.label(OWN_NAMES + "pending"))

    def count(self, lower: Key | None = None, upper: Key | None = None) -> Select[int]:
        """How many rows of a range need the change."""
        query = select(func.count()).select_from(self.table).where(*self.between(lower, upper))
        return query if self.pending is None else query.where(self.pending)

    def count_pending(self, keys: Sequence[Key]) -> Select[int]:
        """How many of these rows need the change."""
        return self.count().where(self.is_one_of(keys))

    def count_by_key(self, keys: Sequence[Key]) -> Select[int]:
        """How many of these rows are found again by their key."""
        return select(func.count()).select_from(self.table).where(self.is_one_of(keys))

    def lowest_keys(self, limit: int) -> Select[Any]:
        """The first keys of the table."""
        return select(*self.key).order_by(*self.key).limit(limit)

    def without_key(self) -> Select[Any]:
        """A row whose key has a NULL, which SQLite allows; no walk by key would meet it."""
        return select(literal(1)).select_from(self.table).where(or_(*(part.is_(None) for part in self.key))).limit(1)

    def highest(self) -> Select[Any]:
        """The highest key of the table."""
        return select(*self.key).order_by(*(part.desc() for part in self.key)).limit(1)

    def _rows(self) -> Select[Any]:
        declared = [self.table.c[name] for name in self.columns]
        return select(*self.key, *declared, *_exact_forms(declared))

    def split(self, row: Sequence[Any]) -> ReadRow:
        """A selected row."""
        key, columns = len(self.key), len(self.key) + len(self.columns)
        exact = columns + len(_exact_forms([self.table.c[name] for name in self.columns]))
        return ReadRow(tuple(row[:key]), tuple(row[key:columns]), tuple(row[columns:exact]))

    @property
    def exact_writes(self) -> tuple[str, ...]:
        """Those of the written columns that have an exact form."""
        return tuple(name for name in self.writes if _exact_forms([self.table.c[name]]))

    def images_by_key(self, keys: Sequence[Key]) -> Select[Any]:
        """Key, written columns and their exact forms of named rows, in key order."""
        written = [self.table.c[name] for name in self.writes]
        return select(*self.key, *written, *_exact_forms(written)).where(self.is_one_of(keys)).order_by(*self.key)

    def image(self, row: ReadRow) -> tuple[Any, ...]:
        """Of a row that was read, what `images_by_key` has of it after the key."""
        values = dict(zip(self.columns, row.values, strict=True))
        forms = (name for name in self.columns if _exact_forms([self.table.c[name]]))
        exact = dict(zip(forms, row.exact, strict=True))
        return *(values[name] for name in self.writes), *(exact[name] for name in self.exact_writes)

    def between(self, lower: Key | None, upper: Key | None) -> list[ColumnElement[bool]]:
        """Above `lower` and up to `upper`, in the database's own order."""
        limits = []
        if lower is not None:
            limits.append(_beyond(self.key, lower))
        if upper is not None:
            limits.append(_within(self.key, upper))
        return limits

    def portions(self, keys: Sequence[Key]) -> Iterator[Sequence[Key]]:
        """The keys, in portions that a statement has parameters for on every database."""
        size = PARAMETERS // len(self.key)
        return (keys[start : start + size] for start in range(0, len(keys), size))

    def is_one_of(self, keys: Sequence[Key]) -> ColumnElement[bool]:
        """Whether the row's key is one of these."""
        if len(self.key) == 1:
            values = [key[0] for key in keys]
            return self.key[0].in_(bindparam(OWN_NAMES + "keys", values, type_=NullType(), expanding=True))
        return tuple_(*self.key, types=[NullType()] * len(self.key)).in_(list(keys))

    def is_key(self, prefix: str) -> ColumnElement[bool]:
        """Whether the row of the physical table has the key in the parameters `prefix`0, `prefix`1, ..."""
        parts = (type_coerce(part, NullType()) for part in self.physical.primary_key.columns)
        return and_(*(part == bindparam(f"{prefix}{index}", type_=NullType()) for index, part in enumerate(parts)))


def _exact_forms(columns: Sequence[ColumnElement[Any]]) -> list[ColumnElement[Any]]:
    """What tells values apart that the driver decodes to the same: intervals, JSON numbers, single-precision floats."""
    forms: list[ColumnElement[Any]] = []
    for column in columns:
        if _is_interval(column.type) or isinstance(column.type, JSON):
            forms.append(cast(column, String))
        elif isinstance(column.type, Float) and not isinstance(column.type, Double):
            forms.append(cast(column, Double))
    return [form.label(f"{OWN_NAMES}exact_{number}") for number, form in enumerate(forms)]


def _is_interval(kind: TypeEngine[Any]) -> bool:
    # By name: PostgreSQL's own INTERVAL, as it is reflected, is no subclass of Interval.
    return kind.__visit_name__ in ("interval", "INTERVAL")


def _untyped(value: Any) -> ColumnElement[Any]:
    return literal(value, NullType())


def _beyond(key: Sequence[ColumnElement[Any]], bound: Key) -> ColumnElement[bool]:
    """(a, b) > (1, 2) as a >= 1 AND (a > 1 OR b > 2): every database finds its index through the first part."""
    first, rest, limit = key[0], key[1:], _untyped(bound[0])
    if not rest:
        return and_(first > limit)
    return and_(first >= limit, or_(first > limit, _beyond(rest, bound[1:])))


def _within(key: Sequence[ColumnElement[Any]], bound: Key) -> ColumnElement[bool]:
    first, rest, limit = key[0], key[1:], _untyped(bound[0])
    if not rest:
        return and_(first <= limit)
    return and_(first <= limit, or_(first < limit, _within(rest, bound[1:])))


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
    return Target(
        table=source,
        physical=physical,
        key=tuple(type_coerce(source.c[column.name], NullType()) for column in physical.primary_key.columns),
        columns=tuple(declared),
        reads=tuple(migration.reads),
        writes=tuple(migration.writes),
        pending=migration.pending(source) if migration.has_pending else None,
        journalled=migration.keeps_journal(),
    )


def resolve_written(connection: Connection, migration: BatchMigration) -> Target:
    """As `resolve`, of the written columns alone: what a rollback needs, whatever became of the others."""
    physical = _reflect(connection, migration)
    return Target(
        table=physical,
        physical=physical,
        key=tuple(type_coerce(column, NullType()) for column in physical.primary_key.columns),
        columns=tuple(migration.writes),
        reads=(),
        writes=tuple(migration.writes),
        pending=None,
        journalled=True,
    )


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
    try:
        found = Table(name, MetaData(), schema=schema, autoload_with=connection, resolve_fks=False)
    except NoSuchTableError:
        views = inspect(connection).get_view_names(schema=schema)
        reason = "is a view" if name in views else "does not exist in this database"
        if "." in name:
            reason += " (for a schema, give a sqlalchemy.Table with schema=...)"
        raise Refused(f"Table {name!r} {reason}. Check DATABASE_URL and the migration's table.") from None
    if not isinstance(declared, Table):
        return found
    # The host's own column types, where it gave them; the database's for the rest.
    for column in declared.columns:
        if column.name in found.c:
            found.c[column.name].type = column.type
    return found


def _with_planned(physical: Table, planned: Sequence[Column[Any]]) -> FromClause:
    absent = [column for column in planned if column.name not in physical.c]
    if not absent:
        return physical
    nulls = [cast(null(), column.type).label(column.name) for column in absent]
    return select(*physical.columns, *nulls).subquery(physical.name)


def scan(
    read: Callable[[Select[Any]], Sequence[Any]],
    target: Target,
    columns: Sequence[str],
    where: ColumnElement[bool] | None,
) -> Iterator[tuple[Key, Row]]:
    """Every row as (key, row), walked by key, a bounded number at a time. `read` runs one query to its end."""
    positions = {name: index for index, name in enumerate(columns)}
    width = len(target.key)
    lower: Key | None = None
    while True:
        query = select(*target.key, *(target.table.c[name] for name in columns)).order_by(*target.key)
        query = query.where(*target.between(lower, None)).limit(SCAN_ROWS)
        rows = read(query if where is None else query.where(where))
        for row in rows:
            yield tuple(row[:width]), Row(positions, tuple(row[width:]))
        if len(rows) < SCAN_ROWS:
            return
        lower = tuple(rows[-1][:width])
