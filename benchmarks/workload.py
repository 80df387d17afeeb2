"""The table that writers change, and the changes: in Python, in SQL, and as migrations.

The changes undo nothing when made twice, so a row that was changed twice shows as well as one that was missed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from system_migration import BatchMigration, Row

_CHUNK = 10_000
_SETTLE = {
    "postgresql": ("VACUUM ANALYZE item", "CHECKPOINT"),
    # For InnoDB the export is what a checkpoint is elsewhere: it writes the table's dirty pages.
    "mariadb": ("ANALYZE TABLE item", "FLUSH TABLES item FOR EXPORT", "UNLOCK TABLES"),
    "sqlite": ("VACUUM", "ANALYZE item", "PRAGMA wal_checkpoint(TRUNCATE)"),
}


def rotate(text: str) -> str:
    """The change to a text: its first character goes to its end."""
    return text[1:] + text[:1]


def _rotate_sql(t: sa.FromClause) -> sa.ColumnElement[Any]:
    rest, first = sa.func.substr(t.c.v, 2, type_=sa.Text()), sa.func.substr(t.c.v, 1, 1, type_=sa.Text())
    return rest.concat(first)


class RotateInPython(BatchMigration):
    """In place and without `pending`: the ledger alone says what is done."""

    name = "001-rotate"
    table = "item"
    reads = ("v",)
    writes = ("v",)

    def transform(self, row: Row) -> Mapping[str, Any]:
        return {"v": rotate(row.v)}


class RotateInSql(BatchMigration):
    """The same change, as an expression."""

    name = "001-rotate-in-sql"
    table = "item"
    reads = ("v",)
    writes = ("v",)

    def assign(self, t: sa.FromClause) -> Mapping[str, Any]:
        return {"v": _rotate_sql(t)}


class AddOne(BatchMigration):
    """A change of exact numbers, which SQL finds equal when they are not written the same (1.0 and 1.00)."""

    name = "001-add-one"
    table = "item"
    reads = ("v",)
    writes = ("v",)

    def transform(self, row: Row) -> Mapping[str, Any]:
        return {"v": row.v + 1}


@dataclass(frozen=True)
class Change:
    """A column type, what each row holds at first, and the change in all its forms."""

    column: sa.types.TypeEngine[Any]
    original: Callable[[int], Any]
    changed: Callable[[Any], Any]
    in_sql: Callable[[sa.FromClause], sa.ColumnElement[Any]]
    migration: type[BatchMigration]

    def table(self, name: str = "item") -> sa.Table:
        key = sa.Column("id", sa.BigInteger(), primary_key=True, autoincrement=False)
        return sa.Table(name, sa.MetaData(), key, sa.Column("v", self.column, nullable=False))


TEXT = Change(sa.Text(), lambda i: f"row {i} of a table that grows", rotate, _rotate_sql, RotateInPython)
NUMERIC = Change(sa.Numeric(), lambda i: Decimal(i) + Decimal("0.50"), lambda v: v + 1, lambda t: t.c.v + 1, AddOne)


def fill_source(engine: sa.Engine, change: Change, rows: int) -> None:
    """Create `source`, from which each contestant gets its table, with the keys 1 to `rows`."""
    source = change.table("source")
    with engine.begin() as connection:
        source.create(connection)
        for first in range(1, rows + 1, _CHUNK):
            keys = range(first, min(first + _CHUNK, rows + 1))
            connection.execute(source.insert(), [{"id": i, "v": change.original(i)} for i in keys])


def fresh_table(engine: sa.Engine, change: Change) -> None:
    """Drop everything but `source`, make `item` anew, and leave the database nothing to tidy up later."""
    found = sa.MetaData()
    found.reflect(engine)
    found.remove(found.tables["source"])
    found.drop_all(engine)
    item, source = change.table(), change.table("source")
    with engine.begin() as connection:
        item.create(connection)
        connection.execute(item.insert().from_select(["id", "v"], sa.select(source).order_by(source.c.id)))
    kind = "mariadb" if engine.dialect.name == "mysql" else engine.dialect.name
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in _SETTLE[kind]:
            connection.execute(sa.text(statement))


def wrong_rows(engine: sa.Engine, change: Change, rows: int) -> int:
    """How many of the `rows` rows do not hold the changed value, or are not there."""
    item = change.table()
    right = 0
    with engine.connect().execution_options(stream_results=True) as connection:
        for key, value in connection.execute(sa.select(item)):
            expected = change.changed(change.original(key))
            right += value == expected
    return rows - right
