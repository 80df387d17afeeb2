"""What a database makes up by itself: numbers of new rows, and moments. It differs between two runs of the same work.

A number is taken for good, also by a run that was rolled back or killed. So rows that a run has added are compared
without what was made up, and what refers to them by what they hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, inspect

from system_migration.rehearsal.fingerprints import Cells, Change, Key, Snapshot

MOVING = re.compile(
    r"\b(now|random|rand|randomblob|uuid|uuid_generate_v4|gen_random_uuid|clock_timestamp|statement_timestamp|sysdate"
    r"|getdate|utc_timestamp|curdate|curtime|unix_timestamp)\s*\(|\bcurrent_(timestamp|date|time)\b|\blocaltime",
    re.IGNORECASE,
)
"""What SQL calls that is another value each time."""


@dataclass(frozen=True)
class Generated:
    """Which columns the database fills by itself, by table, and which single columns refer to which table's key."""

    columns: Mapping[str, frozenset[str]]
    parents: Mapping[tuple[str, str], str]

    def settled(self, snapshot: Snapshot, before: Snapshot, changed: Sequence[Change]) -> Snapshot:
        """The snapshot without what was made up: of rows that a run adds, and where it has not changed it itself.

        `changed` is what an undisturbed run changed. Rows that an application adds have keys that were chosen.
        """
        adds = {change.table for change in changed if change.kind == "added"}
        touched = {(change.table, name) for change in changed if change.kind == "changed" for name in change.columns}
        rows = {}
        for name, found in snapshot.tables.items():
            untouched = {column for column in self.columns.get(name, ()) if (name, column) not in touched}
            old = before.tables.get(name, {}) if name in adds else found
            rows[name] = dict(self._rows(name, snapshot, old, untouched, before))
        return Snapshot(rows)

    def _rows(
        self, name: str, snapshot: Snapshot, old: Mapping[Key, Cells], untouched: set[str], before: Snapshot
    ) -> Iterator[tuple[Key, Cells]]:
        seen = dict[Key, int]()
        for key, cells in snapshot.tables[name].items():
            without = untouched if key in old else self.columns.get(name, frozenset())
            kept = {
                column: self._referred(name, column, value, snapshot, before)
                for column, value in cells.items()
                if column not in without
            }
            named = key if key in old else (f"added {_mark(kept)}",)
            seen[named] = seen.get(named, 0) + 1
            yield (named if seen[named] == 1 else (*named, seen[named])), kept

    def _referred(self, name: str, column: str, value: Any, snapshot: Snapshot, before: Snapshot) -> Any:
        parent = self.parents.get((name, column))
        if parent is None or (value,) in before.tables.get(parent, {}):
            return value
        row, made_up = snapshot.row(parent, (value,)), self.columns.get(parent, frozenset())
        return tuple(sorted((n, repr(v)) for n, v in row.items() if n not in made_up)) or value


def _mark(cells: Cells) -> str:
    """Tells rows apart and nothing of what they hold: Python's hashes are salted anew in each process."""
    return f"{hash(repr(sorted(cells.items(), key=lambda cell: cell[0]))) & 0xFFFFFFFF:08x}"


def generated(engine: Engine) -> Generated:
    """What the database of `engine` says of its columns."""
    catalogue = inspect(engine)
    columns, parents = dict[str, frozenset[str]](), dict[tuple[str, str], str]()
    for name in catalogue.get_table_names():
        key = catalogue.get_pk_constraint(name)["constrained_columns"]
        columns[name] = frozenset(each["name"] for each in catalogue.get_columns(name) if _is_made_up(each))
        for foreign in catalogue.get_foreign_keys(name):
            if len(foreign["constrained_columns"]) == 1 and foreign.get("referred_schema") is None:
                parents[name, foreign["constrained_columns"][0]] = foreign["referred_table"]
        if engine.dialect.name == "sqlite" and len(key) == 1:
            columns[name] |= {each["name"] for each in catalogue.get_columns(name) if _is_row_number(each, key[0])}
    return Generated(columns, parents)


def _is_made_up(column: Mapping[str, Any]) -> bool:
    default = str(column.get("default") or "")
    numbered = column.get("autoincrement") is True or column.get("identity") is not None or "nextval(" in default
    return numbered or MOVING.search(default) is not None


def _is_row_number(column: Mapping[str, Any], key: str) -> bool:
    return column["name"] == key and str(column["type"]).upper() == "INTEGER"
