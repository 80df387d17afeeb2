"""The table a batch migration works on, as SQL sees it: its key, its declared columns, ranges of its key."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    Connection,
    FromClause,
    LargeBinary,
    Select,
    String,
    Table,
    and_,
    bindparam,
    func,
    literal,
    not_,
    null,
    or_,
    select,
    tuple_,
)
from sqlalchemy.types import NullType

from system_migration.batch_migration import Row
from system_migration.batching.keys import Key
from system_migration.store.writers import Writer

SCAN_ROWS = 2_000
PARAMETERS = 10_000
"""Bound values in one statement, well below the least that a database allows (SQLite: 32,766)."""


WIDE_LENGTH = 1_000
"""Columns that may hold more characters or bytes than this are weighed before they are read."""

OWN_NAMES = "system_migration_"
"""What the names of our own columns and parameters begin with, so that they are never the table's."""


@dataclass(frozen=True)
class Target:
    """The migrated table. `columns` are the declared reads, then the writes that are not read.

    Keys are read and bound as the driver has them, untyped: what came out of the database is what goes back, and the
    database compares it as its own column's type. A selected row holds, in this order, the key, the columns, the
    forms that tell their values apart exactly, and the version of the row where the writer guards by it.
    """

    table: FromClause
    physical: Table
    key: tuple[ColumnElement[Any], ...]
    columns: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    pending: ColumnElement[bool] | None
    writer: Writer
    assigned: Mapping[str, ColumnElement[Any]] | None = None
    journalled: bool = False
    window: tuple[ColumnElement[bool], ...] = ()

    def batch(self, lower: Key | None, upper: Key | None, limit: int | None, *, preview: bool = False) -> Select[Any]:
        """Key and columns of the rows in a range that need the change, in key order.

        With `preview` also what the expressions of `assign` come to, as the last values.
        """
        query = self._rows().where(*self.todo(lower, upper))
        if preview and self.assigned is not None:
            new = self.assigned.values()
            query = query.add_columns(*(value.label(f"{OWN_NAMES}new_{n}") for n, value in enumerate(new)))
        return query.order_by(*self.key).limit(limit)

    def weights(self, lower: Key | None, upper: Key | None, limit: int) -> Select[int]:
        """How many bytes each row of such a batch weighs, in the same order."""
        query = select(self._weight).where(*self.todo(lower, upper))
        return query.order_by(*self.key).limit(limit)

    def edge(self, lower: Key | None, upper: Key | None, size: int) -> Select[Any]:
        """The key of the row that ends a batch of `size` rows; none if there are fewer."""
        query = select(*self.key).where(*self.todo(lower, upper))
        return query.order_by(*self.key).limit(1).offset(size - 1)

    def keys_todo(self, lower: Key | None, upper: Key | None) -> Select[Any]:
        """The keys of the rows in a range that need the change, in order."""
        return select(*self.key).where(*self.todo(lower, upper)).order_by(*self.key)

    def last(self, lower: Key | None, upper: Key | None) -> Select[Any]:
        """The key of the last row of a range that needs the change."""
        backwards = (part.desc() for part in self.key)
        return select(*self.key).where(*self.todo(lower, upper)).order_by(*backwards).limit(1)

    def todo(self, lower: Key | None, upper: Key | None) -> list[ColumnElement[bool]]:
        """The conditions on the rows of a range that need the change."""
        wanted = [*self.between(lower, upper), *self.window]
        return wanted if self.pending is None else [*wanted, self.pending]

    def rows_by_key(self, keys: Sequence[Key]) -> Select[Any]:
        """Key and columns of named rows, in key order."""
        return self._rows().where(self.is_one_of(keys)).order_by(*self.key)

    def named_todo(self, keys: Sequence[Key]) -> Select[Any]:
        """As `rows_by_key`, of those rows that need the change."""
        return self.rows_by_key(keys).where(*self.todo(None, None))

    def guarded(self, keys: Sequence[Key]) -> Select[Any]:
        """As `rows_by_key`, with one more value: whether the row still needs the change."""
        still = func.coalesce(self.pending, False) if self.pending is not None else null()
        return self.rows_by_key(keys).add_columns(still.label(OWN_NAMES + "pending"))

    def count(self, lower: Key | None = None, upper: Key | None = None) -> Select[int]:
        """How many rows of a range need the change."""
        return select(func.count()).select_from(self.table).where(*self.todo(lower, upper))

    def heaviest(self) -> Select[int, int]:
        """How many rows need the change, and how many bytes the heaviest of them weighs."""
        weight = func.max(self._weight) if self._wide else literal(0)
        return select(func.count(), weight).select_from(self.table).where(*self.todo(None, None))

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
        return select(*self._selected)

    @cached_property
    def _selected(self) -> list[ColumnElement[Any]]:
        return [*self.key, *self._declared, *self._exact, *self._version]

    @cached_property
    def _version(self) -> list[ColumnElement[Any]]:
        version = self.writer.version
        there = version is not None and self.table is self.physical
        return [version.label(OWN_NAMES + "version")] if there and version is not None else []

    @cached_property
    def _declared(self) -> list[ColumnElement[Any]]:
        return [self.table.c[name] for name in self.columns]

    @cached_property
    def _exact(self) -> list[ColumnElement[Any]]:
        return self._exact_forms(self._declared)

    @cached_property
    def _wide(self) -> list[ColumnElement[Any]]:
        """The declared columns whose values know no sensible limit."""
        return [column for column in self._declared if _is_wide(column)]

    @property
    def _weight(self) -> ColumnElement[int]:
        total: ColumnElement[int] = literal(0)
        for column in self._wide:
            total = total + func.coalesce(self.writer.weight(column), 0)
        return total

    @cached_property
    def _is_plain(self) -> bool:
        """Whether the driver's own rows are what SQLAlchemy would make of them."""
        return all(map(self.writer.is_plain, [*self._declared, *self._exact]))

    def fetch(self, connection: Connection, query: Select[Any]) -> Sequence[Sequence[Any]]:
        """The rows of a query of this table: the driver's own tuples, where that makes no difference but speed."""
        result = connection.execute(query)
        if not self._is_plain or result.cursor is None:
            return result.all()
        rows: Sequence[Sequence[Any]] = result.cursor.fetchall()
        result.close()
        return rows

    def gather(self, connection: Connection, query: Select[Any]) -> Sequence[Sequence[Any]] | None:
        """As `fetch`, in a way that is faster where it works; None where it does not, and then `fetch` does."""
        return self.writer.gather(connection, query, self._selected)

    @cached_property
    def key_width(self) -> int:
        """How many values of a selected row are its key."""
        return len(self.key)

    @cached_property
    def values_end(self) -> int:
        """Where the declared columns of a selected row end."""
        return len(self.key) + len(self.columns)

    @cached_property
    def compared_end(self) -> int:
        """Where in a selected row the values end that must be as they were read."""
        return self.values_end + len(self._exact)

    @cached_property
    def reads_end(self) -> int:
        """Where the columns end that `transform` sees."""
        return len(self.key) + len(self.reads)

    @cached_property
    def written_at(self) -> tuple[int, ...]:
        """Where in a selected row the values of the written columns stand."""
        return tuple(self.key_width + self.columns.index(name) for name in self.writes)

    def key_of(self, row: Sequence[Any]) -> Key:
        """The key of a selected row."""
        return tuple(row[: self.key_width])

    def values_of(self, row: Sequence[Any]) -> dict[str, Any]:
        """The declared columns of a selected row."""
        return dict(zip(self.columns, row[self.key_width : self.values_end], strict=True))

    @cached_property
    def exact_writes(self) -> tuple[str, ...]:
        """Those of the written columns that have an exact form."""
        return tuple(name for name in self.writes if self._has_exact_form(name))

    def images_by_key(self, keys: Sequence[Key]) -> Select[Any]:
        """Key, written columns and their exact forms of named rows, in key order."""
        written = [self.table.c[name] for name in self.writes]
        return select(*self.key, *written, *self._exact_forms(written)).where(self.is_one_of(keys)).order_by(*self.key)

    def image(self, row: Sequence[Any]) -> tuple[Any, ...]:
        """Of a selected row, what `images_by_key` has of it after the key."""
        return tuple([row[place] for place in self._image_at])

    @cached_property
    def _image_at(self) -> tuple[int, ...]:
        forms = [name for name in self.columns if self._has_exact_form(name)]
        return *self.written_at, *(self.values_end + forms.index(name) for name in self.exact_writes)

    def _exact_forms(self, columns: Sequence[ColumnElement[Any]]) -> list[ColumnElement[Any]]:
        forms = [form for form in map(self.writer.exact_form, columns) if form is not None]
        return [form.label(f"{OWN_NAMES}exact_{number}") for number, form in enumerate(forms)]

    def _has_exact_form(self, name: str) -> bool:
        return self.writer.exact_form(self.table.c[name]) is not None

    def between(self, lower: Key | None, upper: Key | None) -> list[ColumnElement[bool]]:
        """Above `lower` and up to `upper`, in the database's own order."""
        limits = []
        if lower is not None:
            limits.append(_beyond(self.key, lower))
        if upper is not None:
            limits.append(_within(self.key, upper))
        return limits

    def from_to(self, first: Key | None, last: Key | None) -> Target:
        """The same table between two keys, both included; None leaves a side open."""
        limits = [_from(self.key, first)] if first is not None else []
        limits += [_within(self.key, last)] if last is not None else []
        return replace(self, window=(*self.window, *limits))

    def without(self, keys: Sequence[Key]) -> Target:
        """The same table without these rows."""
        left_out = [not_(self.is_one_of(part)) for part in self.portions(keys)]
        return replace(self, window=(*self.window, *left_out))

    def portions(self, keys: Sequence[Key]) -> Iterator[Sequence[Key]]:
        """The keys, in portions that a statement has parameters for on every database."""
        return (keys[start : start + self.at_once] for start in range(0, len(keys), self.at_once))

    @property
    def at_once(self) -> int:
        """How many rows one statement can name."""
        return PARAMETERS // len(self.key)

    def is_one_of(self, keys: Sequence[Key]) -> ColumnElement[bool]:
        """Whether the row's key is one of these."""
        if len(self.key) == 1:
            values = [key[0] for key in keys]
            # Unique, for a statement may name some rows and leave out others.
            named = bindparam(OWN_NAMES + "keys", values, type_=NullType(), expanding=True, unique=True)
            return self.key[0].in_(named)
        return tuple_(*self.key, types=[NullType()] * len(self.key)).in_(list(keys))


def _is_wide(column: ColumnElement[Any]) -> bool:
    """Whether a row can outgrow a batch by this column: text and bytes without a length, or with a large one."""
    if isinstance(column.type, String | LargeBinary):
        return column.type.length is None or column.type.length > WIDE_LENGTH
    return isinstance(column.type, JSON)


def _untyped(value: Any) -> ColumnElement[Any]:
    return literal(value, NullType())


def _beyond(key: Sequence[ColumnElement[Any]], bound: Key) -> ColumnElement[bool]:
    """(a, b) > (1, 2) as a >= 1 AND (a > 1 OR b > 2): every database finds its index through the first part."""
    first, rest, limit = key[0], key[1:], _untyped(bound[0])
    if not rest:
        return and_(first > limit)
    return and_(first >= limit, or_(first > limit, _beyond(rest, bound[1:])))


def _from(key: Sequence[ColumnElement[Any]], bound: Key) -> ColumnElement[bool]:
    first, rest, limit = key[0], key[1:], _untyped(bound[0])
    if not rest:
        return and_(first >= limit)
    return and_(first >= limit, or_(first > limit, _from(rest, bound[1:])))


def _within(key: Sequence[ColumnElement[Any]], bound: Key) -> ColumnElement[bool]:
    first, rest, limit = key[0], key[1:], _untyped(bound[0])
    if not rest:
        return and_(first <= limit)
    return and_(first <= limit, or_(first < limit, _within(rest, bound[1:])))


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
