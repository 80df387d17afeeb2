"""What an application, or an accident, does to single rows of a scratch database meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Engine, and_, column, delete, insert, table, text, update
from sqlalchemy.exc import SQLAlchemyError

from system_migration.rehearsal.fingerprints import Cells, Key, Snapshot

EDITED, DELETED, ADDED = "edited", "deleted", "added"
_SHORT_WAITS = {
    "sqlite": "PRAGMA busy_timeout = 300",
    "postgresql": "SET LOCAL lock_timeout = '300ms'",
    "mysql": "SET SESSION innodb_lock_wait_timeout = 1",
    "mariadb": "SET SESSION innodb_lock_wait_timeout = 1",
}


@dataclass(frozen=True)
class Act:
    """One write to one row. `key_columns` and `key` name it; `values` are what is written."""

    kind: str
    table: str
    key_columns: tuple[str, ...]
    key: Key
    values: Cells

    def statement(self) -> Any:
        names = dict.fromkeys([*self.key_columns, *self.values])
        target = table(self.table, *map(column, names))
        there = and_(*(target.c[name] == part for name, part in zip(self.key_columns, self.key, strict=True)))
        match self.kind:
            case "edited":
                return update(target).where(there).values(self.values)
            case "deleted":
                return delete(target).where(there)
        return insert(target).values(self.values)


def do(engine: Engine, act: Act) -> bool:
    """Write in a transaction of its own; False if the database refuses, or keeps the row locked."""
    try:
        with engine.begin() as connection:
            if engine.dialect.name in _SHORT_WAITS:
                connection.execute(text(_SHORT_WAITS[engine.dialect.name]))
            result = connection.execute(act.statement())
            return act.kind == ADDED or result.rowcount == 1  # of an INSERT not every driver tells
    except SQLAlchemyError:
        return False  # a constraint, or a value that cannot be bound by itself: then this write is not tried


def edit_like(snapshot: Snapshot, table_name: str, key_columns: tuple[str, ...], key: Key, donor: Key) -> Act:
    """Give a row all that another one has, but the key."""
    values = {name: value for name, value in snapshot.row(table_name, donor).items() if name not in key_columns}
    return Act(EDITED, table_name, key_columns, key, values)


def copy_of(snapshot: Snapshot, table_name: str, key_columns: tuple[str, ...], key: Key, number: int) -> Act | None:
    """Add a row like another one, behind all others where keys are numbers; None for a key that cannot be made up."""
    last = [each[-1] for each in snapshot.tables[table_name]]
    part = _another(key[-1], last, number)
    if part is None:
        return None
    values = {**snapshot.row(table_name, key), key_columns[-1]: part}
    return Act(ADDED, table_name, key_columns, (*key[:-1], part), values)


def _another(part: Any, present: list[Any], number: int) -> Any:
    match part:
        case bool():
            return None
        case int():
            return max(present) + number
        case UUID():
            return uuid4()
        case str():
            return str(uuid4()) if len(part) == 36 else part[: max(0, len(part) - 2)] + f"~{number}"
    return None
