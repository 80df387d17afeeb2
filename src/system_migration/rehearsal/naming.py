"""Changed rows as sentences name them: tables and columns in words, rows by key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from system_migration.rehearsal.fingerprints import Change
from system_migration.wording import counted, shown


def keys_of(changed: Iterable[Change]) -> list[Any]:
    """Their keys, as people read them."""
    return [change.shown for change in changed]


def where(changed: Sequence[Change]) -> str:
    """`column phone of account (3 rows)`: the first table and columns that are concerned, and how many rows."""
    first = changed[0]
    alike = [change for change in changed if (change.table, change.kind) == (first.table, first.kind)]
    rows = counted(len(alike), "row")
    if first.kind != "changed":
        return f"table {shown(first.table)} ({rows} {first.kind})"
    names = list(dict.fromkeys(name for change in alike for name in change.columns))
    noun = "column" if len(names) == 1 else "columns"
    return f"{noun} {', '.join(map(shown, names))} of {shown(first.table)} ({rows})"
