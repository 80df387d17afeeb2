"""A pool of worker processes that survives its workers.

`concurrent.futures.ProcessPoolExecutor` is no use here: one death breaks the whole pool, and a worker that hangs
cannot be ended. This one replaces a dead worker and costs nobody else anything.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any

from system_migration.batch_migration import BatchMigration
from system_migration.batching.isolation import isolate
from system_migration.batching.slicing import Slicing
from system_migration.batching.transform import Outcome, Task
from system_migration.batching.worker import Worker, WorkerDied
from system_migration.references import Reference, reference_to

ROW_SECONDS = 60.0
"""How long one row may take where the migration does not say."""

log = logging.getLogger(__name__)
Slice = tuple[Future[list[Outcome]], Task]


@dataclass(frozen=True)
class Work:
    """What processes are told of a migration: where its class is, and what one row may take."""

    reference: Reference
    row_seconds: float
    row_memory: int | None

    @classmethod
    def of(cls, migration: type[BatchMigration]) -> Work:
        """Raises `LoadError` when no other process could load the class."""
        return cls(reference_to(migration), migration.row_seconds or ROW_SECONDS, migration.row_memory)


class ProcessPool:
    """`count` processes, each with the migration prepared in it, behind `submit` and futures.

    Making it raises what keeps the migration from being loaded or prepared in a process.
    """

    slicing = Slicing()

    def __init__(self, work: Work, count: int) -> None:
        self.size = count
        self._waiting: SimpleQueue[Slice | None] = SimpleQueue()
        limits = work.row_seconds, work.row_memory
        self._keepers = [Keeper(self._waiting, work.reference, *limits) for _ in range(count)]
        try:
            for keeper in self._keepers:
                keeper.prepared.result()
        except BaseException:
            self.close()
            raise

    @property
    def deaths(self) -> int:
        """How many workers have died with a slice in hand."""
        return sum(keeper.deaths for keeper in self._keepers)

    def submit(self, task: Task) -> Future[list[Outcome]]:
        """The outcomes of a slice, once a process has transformed it."""
        future: Future[list[Outcome]] = Future()
        self._waiting.put((future, task))
        return future

    def close(self) -> None:
        """End all processes at once; slices that are not done are cancelled. A transform may always run again."""
        for keeper in self._keepers:
            keeper.close()
        for _ in self._keepers:
            self._waiting.put(None)
        for keeper in self._keepers:
            keeper.thread.join()


class Keeper:
    """A thread that keeps one worker alive and hands it one slice after another."""

    def __init__(
        self, waiting: SimpleQueue[Slice | None], reference: Reference, row_seconds: float, row_memory: int | None
    ) -> None:
        self._waiting, self._name = waiting, reference.migration
        self._make = partial(Worker, reference, row_seconds, row_memory)
        self._worker: Worker | None = None
        self._lock, self._closed = threading.Lock(), False
        self.deaths = 0
        self.prepared: Future[None] = Future()
        self.thread = threading.Thread(target=self._keep, name="worker-keeper", daemon=True)
        self.thread.start()

    def close(self) -> None:
        """End the worker, whatever it is doing, and start none any more."""
        with self._lock:
            self._closed = True
            if self._worker is not None:
                self._worker.kill()

    def _keep(self) -> None:
        try:
            self._start()
            self.prepared.set_result(None)
        except BaseException as error:
            self.prepared.set_exception(error)
        while (work := self._waiting.get()) is not None:
            self._do(*work)
        self._bury()

    def _do(self, future: Future[list[Outcome]], task: Task) -> None:
        if self._closed:
            future.cancel()
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(isolate(partial(self._ask, task.columns), task.rows))
        except BaseException as error:  # whatever it is, somebody waits for this future
            future.set_exception(CancelledError() if self._closed else error)

    def _ask(self, columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> list[Outcome]:
        worker = self._worker or self._start()
        try:
            return worker.ask(columns, rows)
        except WorkerDied as death:
            self._bury()
            if not self._closed:
                self.deaths += 1
                log.warning("%s: %s; another worker goes on without it.", self._name, death.message)
            raise

    def _start(self) -> Worker:
        """A worker that has done nothing yet, in place of the one before."""
        self._bury()
        with self._lock:  # or `close` could miss the one that is being started
            if self._closed:
                raise CancelledError
            worker = self._worker = self._make()
        try:
            worker.wait_ready()
        except BaseException:
            self._bury()
            raise
        return worker

    def _bury(self) -> None:
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.bury()
