"""Tables of many shapes, each with a key that has once tripped up a walk by key."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import IntegrityError

BATCH = 3

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Shape:
    """A table `item` with a key of these types, and the keys that are tried on it."""

    name: str
    types: tuple[Any, ...]
    keys: Sequence[Key]

    def table(self) -> sa.Table:
        columns = [sa.Column(f"k{n}", kind, primary_key=True) for n, kind in enumerate(self.types, 1)]
        whole = [sa.Column(name, sa.Integer, nullable=False) for name in ("origin", "y")]
        return sa.Table("item", sa.MetaData(), *columns, *whole)

    def make(self, connection: sa.Connection) -> int:
        """Create and fill the table; how many rows there are. What the database says it has already is not a row."""
        table, rows = self.table(), 0
        table.drop(connection, checkfirst=True)
        table.create(connection)
        for number, key in enumerate(self.keys):
            values = dict(zip(table.primary_key.columns.keys(), key, strict=True))
            try:
                with connection.begin_nested():
                    connection.execute(table.insert().values(**values, origin=number, y=number))
            except IntegrityError:  # "a" and "A" are one where the collation says so
                continue
            rows += 1
        return rows


def _single(values: Sequence[Any]) -> list[Key]:
    return [(value,) for value in values]


_TEXT = sa.String(40)
_MOMENT = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql")
_BYTES = sa.LargeBinary().with_variant(mysql.VARBINARY(16), "mysql")
_INTEGER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_NOON = datetime(2024, 2, 29, 12)
_WORDS = ["a", "A", "a ", "ä", "Ä", "ae", "zebra", "Ωmega", "", "😀", "😀😀", "'; --", "%", "_", "\\", "ß", "ss"]

SHAPES = [
    Shape("sparse", (_INTEGER,), _single([1, 2, 3, 99_999, 100_000, 10_000_000_000])),
    Shape("negative", (_INTEGER,), _single([-10, -9, -2, -1, 0, 1, 9, 10])),
    Shape("two columns", (_INTEGER, _TEXT), [(n, word) for n in (2, 1, 10) for word in ("b", "a", "ä")]),
    Shape(
        "three columns",
        (_TEXT, _INTEGER, sa.Date),
        [(word, n, date(2024, 1, day)) for word in ("x", "X") for n in (-1, 1) for day in (1, 2)],
    ),
    Shape("text", (_TEXT,), _single(_WORDS)),
    Shape("uuid", (sa.Uuid,), _single([uuid.UUID(int=n << 120 | n) for n in (1, 9, 15, 128, 160, 255)])),
    Shape("datetime", (_MOMENT,), _single([_NOON + timedelta(microseconds=n) for n in (0, 1, 10, 100_000, 10**9)])),
    Shape("decimal", (sa.Numeric(20, 6),), _single([Decimal(n) / 8 for n in (-9, -8, 0, 1, 8, 9, 800)])),
    Shape("bytes", (_BYTES,), _single([b"\0", b"\0\0", b"\x7f", b"\x80", b"\xff", b"\xff\xff", b"a"])),
    Shape("one row", (_INTEGER,), _single([7])),
    Shape("empty", (_INTEGER,), []),
    Shape("full batches", (_INTEGER,), _single(range(1, 3 * BATCH + 1))),
    Shape("not quite full", (_INTEGER,), _single(range(1, 3 * BATCH))),
]
