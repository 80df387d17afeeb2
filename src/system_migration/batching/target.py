"""The table a batch migration works on, as SQL sees it: its key, its declared columns, ranges of its key."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    FromClause,
    MetaData,
    Select,
    Table,
    and_,
    bindparam,
    cast,
    func,
    inspect,
    null,
    or_,
    select,
    tuple_,
)
from sqlalchemy.exc import NoSuchTableError

from system_migration.batch_migration import BatchMigration, Row
from system_migration.batching.keys import Key
from system_migration.errors import Refused

SCAN_ROWS = 2_000
PARAMETERS = 10_000
"""Bound values in one statement, well below the least that a database allows (SQLite: 32,766)."""


@dataclass(frozen=True)
class Target:
    """The migrated table. `columns` are the declared reads, then the writes that are not read."""

    table: FromClause
    physical: Table
    key: tuple[ColumnElement[Any], ...]
    columns: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    pending: ColumnElement[bool] | None

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
        return self.rows_by_key(keys).add_columns(still.label("system_migration_pending"))

    def count(self, lower: Key | None = None, upper: Key | None = None) -> Select[int]:
        """How many rows of a range need the change."""
        query = select(func.count()).select_from(self.table).where(*self.between(lower, upper))
        return query if self.pending is None else query.where(self.pending)

    def highest(self) -> Select[Any]:
        """The highest key of the table."""
        return select(*self.key).order_by(*(part.desc() for part in self.key)).limit(1)

    def _rows(self) -> Select[Any]:
        return select(*self.key, *(self.table.c[name] for name in self.columns))

    def split(self, row: Sequence[Any]) -> tuple[Key, tuple[Any, ...]]:
        """A selected row as its key and its columns."""
        width = len(self.key)
        return tuple(row[:width]), tuple(row[width : width + len(self.columns)])

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
            return self.key[0].in_([key[0] for key in keys])
        return tuple_(*self.key).in_(list(keys))

    def is_key(self, prefix: str) -> ColumnElement[bool]:
        """Whether the row's key equals the parameters `prefix`0, `prefix`1, ..."""
        return and_(
            *(part == bindparam(f"{prefix}{index}", type_=part.type) for index, part in enumerate(self.physical_key))
        )

    @property
    def physical_key(self) -> tuple[Column[Any], ...]:
        """The key columns of the table itself, for an UPDATE."""
        return tuple(self.physical.primary_key.columns)


def _beyond(key: Sequence[ColumnElement[Any]], bound: Key) -> ColumnElement[bool]:
    """(a, b) > (1, 2) as a >= 1 AND (a > 1 OR b > 2): every database finds its index through the first part."""
    first, rest = key[0], key[1:]
    if not rest:
        return and_(first > bound[0])
    return and_(first >= bound[0], or_(first > bound[0], _beyond(rest, bound[1:])))


def _within(key: Sequence[ColumnElement[Any]], bound: Key) -> ColumnElement[bool]:
    first, rest = key[0], key[1:]
    if not rest:
        return and_(first <= bound[0])
    return and_(first <= bound[0], or_(first < bound[0], _within(rest, bound[1:])))


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
    missing = [name for name in declared if name not in source.c]
    if missing:
        raise Refused(
            f"Table {physical.name!r} has no column {missing[0]!r}, which migration {migration.name} declares. "
            "Check the migration's reads and writes, or add the column in prepare()."
        )
    return Target(
        table=source,
        physical=physical,
        key=tuple(source.c[column.name] for column in physical.primary_key.columns),
        columns=tuple(declared),
        reads=tuple(migration.reads),
        writes=tuple(migration.writes),
        pending=migration.pending(source) if migration.has_pending else None,
    )


def _reflect(connection: Connection, migration: BatchMigration) -> Table:
    declared = migration.table
    name, schema = (declared.name, declared.schema) if isinstance(declared, Table) else (declared, None)
    try:
        found = Table(name, MetaData(), schema=schema, autoload_with=connection, resolve_fks=False)
    except NoSuchTableError:
        views = inspect(connection).get_view_names(schema=schema)
        reason = "is a view" if name in views else "does not exist in this database"
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
