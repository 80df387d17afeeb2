"""The executor port: transforms run on any `concurrent.futures.Executor`, with no database in reach.

Each worker makes its own instance of the migration and prepares it once with `setup_worker`; an instance is never
shipped, so keys and clients kept on it never travel.
"""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from system_migration.batch_migration import BatchMigration, Row, RowIssue, UndeclaredColumn

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

    migration: type[BatchMigration]
    columns: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]


_worker = threading.local()


def transform_slice(task: Task) -> list[Outcome]:
    """Run `transform` over a slice on this worker's own instance. Importable by name, for any executor."""
    instance = _instance(task.migration)
    positions = {column: index for index, column in enumerate(task.columns)}
    return [_transform_row(instance, Row(positions, values)) for values in task.rows]


def _instance(migration: type[BatchMigration]) -> BatchMigration:
    instances: dict[type[BatchMigration], BatchMigration] = vars(_worker).setdefault("instances", {})
    if migration not in instances:
        instance = migration()
        instance.setup_worker()
        instances[migration] = instance
    return instances[migration]


def _transform_row(instance: BatchMigration, row: Row) -> Outcome:
    try:
        values = instance.transform(row)
    except RowIssue as issue:
        return Held(issue.code, issue.message)
    except Exception as error:
        return Held(TRANSFORM_ERROR, _where(error))
    if not isinstance(values, Mapping):
        return Held(TRANSFORM_ERROR, f"transform returned {type(values).__name__}, not a mapping of new values")
    if not set(values) <= set(instance.writes):
        declared = ", ".join(instance.writes)
        return Held(TRANSFORM_ERROR, f"transform returned more than the columns declared in writes: {declared}")
    return dict(values)


def _where(error: Exception) -> str:
    """The kind and place of an error without its text, which may quote the row; that of our own names a column."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_LIBRARY)]
    place = f" at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""
    text = f": {error.args[0]}" if isinstance(error, UndeclaredColumn) else ""
    return f"{type(error).__name__} raised{place}{text}"


def slices(count: int, workers: int) -> Iterator[slice]:
    """Slices over `count` rows that shrink towards the end, so that all workers finish at about the same time."""
    start = 0
    while start < count:
        size = max(1, (count - start) // (2 * workers))
        yield slice(start, start + size)
        start += size


class Transformer:
    """Hands the rows of a batch to an executor and returns their outcomes in order."""

    def __init__(self, migration: type[BatchMigration], workers: int, executor: Executor | None = None) -> None:
        self.workers = workers
        self._migration = migration
        self._executor = executor or ThreadPoolExecutor(workers, thread_name_prefix="transform")

    def run(
        self,
        columns: tuple[str, ...],
        rows: Sequence[tuple[Any, ...]],
        done: Callable[[int], None] = lambda rows: None,
    ) -> list[Outcome]:
        """The outcome of every row, in order. `done` hears how many more are finished.

        Only a failing `setup_worker` raises; a failing `transform` is an outcome.
        """
        futures: dict[Future[list[Outcome]], slice] = {}
        for part in slices(len(rows), self.workers):
            futures[self._executor.submit(transform_slice, Task(self._migration, columns, rows[part]))] = part
        outcomes: list[Outcome] = [{}] * len(rows)
        for future in as_completed(futures):
            part = futures[future]
            outcomes[part] = future.result()
            done(part.stop - part.start)
        return outcomes

    def close(self) -> None:
        """Let the workers go; slices that have not begun are dropped."""
        self._executor.shutdown(wait=True, cancel_futures=True)
