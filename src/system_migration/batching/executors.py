"""Handing the rows of a batch out: to the calling thread while that is quick, else to threads, or to processes."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any, Protocol

from system_migration.batch_migration import BatchMigration
from system_migration.batching.leaving import submitted
from system_migration.batching.processes import ProcessPool, Work
from system_migration.batching.slicing import Slicing
from system_migration.batching.slow_rows import SlowRows
from system_migration.batching.transform import Outcome, Task, prepared, transform_rows

INLINE_SECONDS = 0.02
"""How long the calling thread transforms by itself before others help. Shorter than one bcrypt at its lowest sensible
cost: a second row here would leave the other cores waiting."""
_LOOK_EVERY = 16
"""Cheap rows between two looks at the clock, at most: a look costs as much as a cheap row."""

Rows = Sequence[tuple[Any, ...]]
Done = Callable[[int], None]


def _for(seconds: float, rows: Rows) -> Iterator[tuple[Any, ...]]:
    """The first rows, until the time is over. The clock is looked at after one row, then after two more, four, ..."""
    until, start, size = time.monotonic() + seconds, 0, 1
    while start < len(rows) and (not start or time.monotonic() < until):
        yield from rows[start : start + size]
        start, size = start + size, min(_LOOK_EVERY, 2 * size)


class Pool(Protocol):
    """Whoever transforms slices besides the calling thread."""

    @property
    def size(self) -> int:
        """How many slices it can work on at once. It may change."""
        ...

    @property
    def slicing(self) -> Slicing:
        """Which slices are worth handing over."""
        ...

    def submit(self, task: Task) -> Future[list[Outcome]]:
        """The outcomes of a slice, in time."""
        ...

    def close(self) -> None:
        """Let the workers go; slices that have not begun are cancelled."""
        ...


class Inline:
    """Transforms in the thread that calls, on an instance of that thread's own. Nothing is left of it when it goes."""

    def __init__(self, migration: type[BatchMigration]) -> None:
        self._migration, self._local = migration, threading.local()
        self._slow = SlowRows(migration.name, migration.row_seconds)

    def prepare(self) -> BatchMigration:
        """This thread's instance. Raises whatever `setup_worker` raises."""
        instance: BatchMigration | None = getattr(self._local, "instance", None)
        if instance is None:
            instance = self._local.instance = prepared(self._migration)
        return instance

    def transform(self, task: Task) -> list[Outcome]:
        """The outcomes of a slice."""
        return transform_rows(self.prepare(), task.columns, self._slow.watched(task.rows))

    def transform_for_a_while(self, columns: tuple[str, ...], rows: Rows) -> list[Outcome]:
        """The outcomes of the first rows: of all that can be done in `INLINE_SECONDS`, and of one at least."""
        instance = self.prepare()
        return transform_rows(instance, columns, self._slow.watched(_for(INLINE_SECONDS, rows)))

    def close(self) -> None:
        self._slow.close()


class ThreadPool:
    """`count` threads that transform, each on an instance of its own."""

    slicing = Slicing()

    def __init__(self, inline: Inline, count: int) -> None:
        self.size = count
        self._inline, self._executor = inline, ThreadPoolExecutor(count, thread_name_prefix="transform")

    def submit(self, task: Task) -> Future[list[Outcome]]:
        """The outcomes of a slice, once a thread has transformed it."""
        return submitted(self._executor, self._inline.transform, task)

    def close(self) -> None:
        """Wait for the slices that have begun; the others are cancelled."""
        self._executor.shutdown(wait=True, cancel_futures=True)


class Transformer:
    """Transforms the rows of batches, for any number of threads at once.

    With `processes` every row is transformed in one of so many processes, where `row_seconds` and `row_memory` hold;
    with a `cluster`, by its workers, and whoever opened the cluster closes it. Without either, the calling thread works
    until `INLINE_SECONDS` are over; rows that are left then go to `threads` threads, which all callers share: a
    transform that releases the interpreter lock so gets every core.
    Making it raises what keeps the migration from being loaded or prepared in a process. Close it in the end.
    """

    def __init__(
        self,
        migration: type[BatchMigration],
        threads: int,
        processes: int | None = None,
        cluster: Pool | None = None,
    ) -> None:
        self._inline = None if processes or cluster else Inline(migration)
        self._pool, self._borrowed = cluster, cluster is not None
        if processes and cluster is None:
            self._pool = ProcessPool(Work.of(migration), processes)
        elif self._inline is not None and threads > 1:
            self._pool = ThreadPool(self._inline, threads)
        self._seconds_per_row = 0.0
        self._submitting, self._closed = threading.Lock(), False

    def run(
        self, columns: tuple[str, ...], rows: Rows, done: Done = lambda rows: None, seconds: float = math.inf
    ) -> list[Outcome]:
        """The outcome of every row, in order; or, when `seconds` are over, of the first rows, at least of one.

        `done` hears how many more are finished, in this thread. Only a failing `setup_worker` raises, or a worker
        process that cannot be replaced; a failing `transform` is an outcome. Closed meanwhile, it raises
        `CancelledError`; where the process ends, `Interrupted`.
        """
        began = time.monotonic()
        outcomes: list[Outcome] = []
        while self._inline is not None and len(outcomes) < len(rows) and not (outcomes and self._pool):
            found = self._inline.transform_for_a_while(columns, rows[len(outcomes) :])
            outcomes += found
            done(len(found))
            if time.monotonic() - began > seconds:
                return outcomes
        if self._pool is not None and len(outcomes) < len(rows):
            per_row = (time.monotonic() - began) / len(outcomes) if outcomes else self._seconds_per_row
            futures = self._submitted(self._pool, columns, rows[len(outcomes) :], per_row)
            outcomes += self._awaited(self._pool, futures, done, began + seconds)
        return outcomes

    def close(self) -> None:
        """Let the workers go. Threads end the slice they are at; processes are ended at once."""
        with self._submitting:
            self._closed = True
        if self._pool is not None and not self._borrowed:
            self._pool.close()
        if self._inline is not None:
            self._inline.close()

    def _submitted(
        self, pool: Pool, columns: tuple[str, ...], rows: Rows, per_row: float
    ) -> list[Future[list[Outcome]]]:
        # Worth its way, by what a row took in the batch before; no longer than a wish to stop may wait.
        parts = pool.slicing.parts(len(rows), pool.size, self._seconds_per_row, per_row)
        with self._submitting:  # nothing is handed to a pool that is being closed: nobody would do it
            if self._closed:
                raise CancelledError
            return [pool.submit(Task(columns, rows[part])) for part in parts]

    def _awaited(self, pool: Pool, futures: Sequence[Future[list[Outcome]]], done: Done, until: float) -> list[Outcome]:
        """The outcomes by the pool; this thread only waits, so that the pool has the cores."""
        began = time.monotonic()
        outcomes: list[Outcome] = []
        try:
            # Not `as_completed`, which waits for ever for a future that a closed pool has cancelled.
            for future in futures:
                if outcomes and time.monotonic() > until:
                    _cancel(futures)
                    if future.cancelled():
                        break  # slices begin in their order, so the later ones have not begun either
                found = future.result()
                outcomes += found
                done(len(found))
        finally:
            _cancel(futures)  # when one has failed, nobody asks for the others
        self._seconds_per_row = (time.monotonic() - began) * pool.size / len(outcomes)
        return outcomes


def _cancel(futures: Sequence[Future[list[Outcome]]]) -> None:
    """Those that have not begun, the last one first, so that none begins behind one that is cancelled."""
    for future in reversed(futures):
        future.cancel()
