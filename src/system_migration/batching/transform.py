"""What a worker does with a slice of rows, wherever it runs: no database is in reach here.

A worker transforms on its own instance of the migration, prepared once with `setup_worker`; an instance is never
shipped, so keys and clients kept on it never travel.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from system_migration.batch_migration import BatchMigration, RowIssue, UndeclaredColumn, fill_row, row_class

TRANSFORM_ERROR = "transform_error"
_LIBRARY = os.path.dirname(os.path.dirname(__file__)) + os.sep


@dataclass(frozen=True)
class Held:
    """A row that transform declined, with the code and message of the issue."""

    code: str
    message: str


Outcome = dict[str, Any] | Held
"""What became of one row: its new values, or the reason it is held."""


@dataclass(frozen=True)
class Task:
    """One slice of a batch, as a worker receives it."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]


def prepared(migration: type[BatchMigration]) -> BatchMigration:
    """A worker's own instance. Raises whatever `setup_worker` raises."""
    instance = migration()
    instance.setup_worker()
    return instance


def transform_rows(
    instance: BatchMigration,
    columns: tuple[str, ...],
    rows: Iterable[tuple[Any, ...]],
    out_of_memory: Callable[[], None] = lambda: None,
) -> list[Outcome]:
    """The outcome of every row, in order; a failing `transform` is an outcome too.

    `out_of_memory` hears of a MemoryError before its row is held: in a process of its own that is a reason to end.
    """
    # A cheap transform takes a tenth of a microsecond, so whatever can be known before the loop is.
    transform, kind, new, fill = instance.transform, row_class(tuple(columns)), object.__new__, fill_row
    declared = frozenset(instance.writes)
    width, covers = len(declared), declared.issuperset
    outcomes: list[Outcome] = []
    add = outcomes.append
    for values in rows:
        row = new(kind)
        fill(row, values)
        try:
            result = transform(row)
            if result.__class__ is dict and len(result) == width and covers(result):
                add(result.copy())  # the migration may keep it, and change it for the next row
            else:
                add(_judged(result, declared, instance))
        except RowIssue as issue:
            add(Held(issue.code, issue.message))
        except (Exception, SystemExit) as error:
            if isinstance(error, MemoryError):
                out_of_memory()
            add(Held(TRANSFORM_ERROR, where(error)))
    return outcomes


def _judged(values: object, declared: frozenset[str], instance: BatchMigration) -> Outcome:
    """What is not simply a dict of all declared columns: fewer of them, another mapping, or a mistake."""
    if not isinstance(values, Mapping):
        return Held(TRANSFORM_ERROR, f"transform returned {type(values).__name__}, not a mapping of new values")
    if not declared.issuperset(values):
        names = ", ".join(instance.writes)
        return Held(TRANSFORM_ERROR, f"transform returned more than the columns declared in writes: {names}")
    return dict(values)


def where(error: BaseException) -> str:
    """The kind and place of an error without its text, which may quote the row; that of our own names a column."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_LIBRARY)]
    place = f" at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""
    text = f": {error.args[0]}" if isinstance(error, UndeclaredColumn) else ""
    return f"{type(error).__name__} raised{place}{text}"
