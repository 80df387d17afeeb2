"""What a scratch database holds, row by row and column by column, so that two moments of it can be compared.

Values are compared and never shown. The tables of our own record are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, inspect

from system_migration.batching import keys

OWN_TABLES = "system_migration_"
Key = tuple[Any, ...]
Cells = dict[str, Any]
"""The values of one row by column."""


@dataclass(frozen=True)
class Snapshot:
    """Tables by name; of each its rows by key."""

    tables: Mapping[str, Mapping[Key, Cells]]

    def row(self, table: str, key: Key) -> Cells:
        """A row, empty if it is not there."""
        return dict(self.tables.get(table, {}).get(key, {}))


@dataclass(frozen=True)
class Change:
    """One row that is not what it was: which of its columns differ. An added or a removed one has all of them."""

    table: str
    key: Key
    kind: str
    columns: tuple[str, ...]
    old: Cells
    new: Cells

    @property
    def shown(self) -> Any:
        """The key as people read it."""
        return keys.shown(self.key)


def primary_keys(engine: Engine) -> dict[str, tuple[str, ...]]:
    """The key columns of every table, none for a table without a key."""
    catalogue = inspect(engine)
    return {name: tuple(catalogue.get_pk_constraint(name)["constrained_columns"]) for name in _tables(catalogue)}


def take(connection: Connection, key_columns: Mapping[str, tuple[str, ...]]) -> Snapshot:
    """All rows of all tables now. A table without a key, or made since, is told apart by its whole rows."""
    names = _tables(inspect(connection))
    return Snapshot({name: _rows(connection, name, key_columns.get(name, ())) for name in names})


def _tables(catalogue: Any) -> list[str]:
    return sorted(name for name in catalogue.get_table_names() if not name.startswith(OWN_TABLES))


def _rows(connection: Connection, table: str, key: tuple[str, ...]) -> dict[Key, Cells]:
    quote = connection.dialect.identifier_preparer.quote
    order = f" ORDER BY {', '.join(map(quote, key))}" if key else ""  # as batches walk, whatever lies first on the disk
    result = connection.exec_driver_sql(f"SELECT * FROM {quote(table)}{order}")
    columns = list(result.keys())
    rows: dict[Key, Cells] = {}
    for values in result:
        cells = {name: _comparable(value) for name, value in zip(columns, values, strict=True)}
        named = tuple(cells[name] for name in key) if key else tuple(map(repr, values))
        while not key and named in rows:
            named = (*named, "again")  # a row that is there twice
        rows[named] = cells
    return rows


def _comparable(value: Any) -> Any:
    return bytes(value) if isinstance(value, bytearray | memoryview) else value


def changes(before: Snapshot, after: Snapshot) -> Iterator[Change]:
    """Every row that differs, by table and key. A column that was not there counts as one of NULLs."""
    for table in sorted({*before.tables, *after.tables}):
        old, new = before.tables.get(table, {}), after.tables.get(table, {})
        for key in [*old, *(key for key in new if key not in old)]:
            change = _change(table, key, old.get(key), new.get(key))
            if change is not None:
                yield change


def _change(table: str, key: Key, old: Cells | None, new: Cells | None) -> Change | None:
    if old is None or new is None:
        kind = "added" if old is None else "removed"
        return Change(table, key, kind, tuple(new or old or ()), old or {}, new or {})
    differing = tuple(name for name in {**old, **new} if not _same(old.get(name), new.get(name)))
    return Change(table, key, "changed", differing, old, new) if differing else None


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) or (one != one and other != other)  # the latter for what is not a number
