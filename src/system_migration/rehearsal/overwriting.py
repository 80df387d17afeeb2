"""Columns that a migration overwrites with what it makes of them: the row no longer tells what it was made of."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnClause
from sqlalchemy.sql import visitors

from system_migration.batching.resolution import resolve
from system_migration.rehearsal.fingerprints import Cells
from system_migration.rehearsal.stage import Stage


def overwritten(stage: Stage) -> frozenset[str]:
    """What batches both read and write; none for what works through up, which declares neither."""
    migration = stage.batches
    if migration is None:
        return frozenset()
    if not migration.defines("assign"):
        return frozenset(migration.reads) & frozenset(migration.writes)
    with stage.main.engine.connect() as connection:
        assigned = resolve(connection, migration()).assigned or {}
    parts = (part for value in assigned.values() for part in visitors.iterate(value))
    read = {part.name for part in parts if isinstance(part, ColumnClause)}
    return frozenset(read | set(migration.reads)) & frozenset(migration.writes)


def was_null(stage: Stage, table: str, columns: tuple[str, ...]) -> bool:
    """Whether any row held NULL in all of these before, so that one may hold it now by right."""
    return any(all(row.get(name) is None for name in columns) for row in stage.before.tables.get(table, {}).values())


def odd(cells: Cells) -> Cells:
    """Values that hardly any check takes for good; those of a type for which there is none stay as they are."""
    return {name: _odd(value) for name, value in cells.items()}


def _odd(value: Any) -> Any:
    match value:
        case bool():
            return value
        case int() | float():
            return -abs(value) - 1
        case Decimal():
            return -abs(value) - 1
        case str():
            return "?"
        case bytes():
            return b"?"
    return value
