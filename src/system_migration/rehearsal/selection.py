"""Which rows of which tables a copy has, so that it is small and every foreign key in it holds."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import and_, select

from system_migration.errors import Refused
from system_migration.rehearsal.sampling import Ask
from system_migration.rehearsal.tables import (
    Key,
    SourceTable,
    TableName,
    Tables,
    columns_of,
    is_one_of,
    portions,
    shown,
)
from system_migration.rehearsal.watching import Watch

MOST_TIMES_ROWS = 100
"""How many times the rows that were asked for a copy may have, with all that their foreign keys need."""


@dataclass
class Selection:
    """Of the tables in `whole` all rows are copied, of those in `keys` the rows with these keys, of others none.

    A key is a table's `key`. Rows that are referred to are added once, however many refer to them.
    """

    whole: set[TableName] = field(default_factory=set)
    keys: dict[TableName, dict[Key, None]] = field(default_factory=dict)

    def add(self, name: TableName, keys: Iterable[Key]) -> list[Key]:
        """Those of the keys that are new, added."""
        known = self.keys.setdefault(name, {})
        new = [key for key in dict.fromkeys(keys) if key not in known]
        known.update(dict.fromkeys(new))
        return new


def complete(ask: Ask, tables: Tables, selection: Selection, most: int, watch: Watch) -> None:
    """Add the rows that foreign keys of selected rows refer to, and what those need, until nothing is missing.

    Raises `Refused` when that is more than `most` rows.
    """
    work: deque[tuple[SourceTable, list[Key] | None]] = deque((tables[name], None) for name in selection.whole)
    work.extend((tables[name], list(keys)) for name, keys in selection.keys.items())
    while work:
        child, keys = work.popleft()
        for fk in child.foreign_keys:
            if fk.parent in selection.whole or fk.parent not in tables:
                continue
            watch.heed()
            parent = tables[fk.parent]
            needed = _referred(ask, child, fk.columns, keys)
            new = selection.add(fk.parent, _keys_of(ask, parent, fk.parent_columns, needed))
            if new:
                work.append((parent, new))
        _check_size(selection, most)


def _referred(ask: Ask, child: SourceTable, columns: tuple[str, ...], keys: list[Key] | None) -> list[Key]:
    """What these rows refer to, each once. With a NULL among its columns a row refers to nothing."""
    source = child.clause
    wanted = columns_of(source, columns)
    query = select(*wanted).distinct().where(and_(*(each.is_not(None) for each in wanted)))
    if keys is None:
        return _tuples(ask(query))
    of = columns_of(source, child.key)
    found = (row for part in portions(keys) for row in ask(query.where(is_one_of(of, part))))
    return list(dict.fromkeys(_tuples(found)))


def _keys_of(ask: Ask, parent: SourceTable, columns: tuple[str, ...], values: list[Key]) -> list[Key]:
    """The keys of the rows that have these values.

    Asked even where the values are the key: what equals it for the database may look different to Python.
    """
    source = parent.clause
    query, of = select(*columns_of(source, parent.key)), columns_of(source, columns)
    return _tuples(row for part in portions(values) for row in ask(query.where(is_one_of(of, part))))


def _tuples(rows: Iterable[Any]) -> list[Key]:
    return [tuple(row) for row in rows]


def _check_size(selection: Selection, most: int) -> None:
    total = sum(map(len, selection.keys.values()))
    if total > most:
        largest = max(selection.keys, key=lambda name: len(selection.keys[name]))
        raise Refused(
            f"A sample would need more than {most:,} rows, most of them of {shown(largest)}, because its rows refer to "
            "each other. Rehearse fewer with --rows N."
        )
