"""A pool whose workers are those of a Dask scheduler. They compute; nobody but us writes.

Dask may run a task twice, or lose it with its worker: `transform` is pure, so both are harmless. Each slice is sent to
one worker that was examined, and two for each of its threads at the most are under way; all others wait here, so that
little is lost with a worker, and nothing but time with the scheduler.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import Protocol
from uuid import uuid4

from system_migration.batching.cluster_couriers import Couriers
from system_migration.batching.cluster_desk import Desk, Errand
from system_migration.batching.cluster_link import Link
from system_migration.batching.cluster_staff import Listeners, Staff
from system_migration.batching.cluster_worker import Orders
from system_migration.batching.processes import Work
from system_migration.batching.slicing import Slicing
from system_migration.batching.transform import Outcome, Task
from system_migration.errors import MigrationFailed, MigrationSystemError


class Locally(Protocol):
    """A pool of this machine, which goes on when the cluster is lost."""

    @property
    def size(self) -> int: ...
    def submit(self, task: Task) -> Future[list[Outcome]]: ...
    def close(self) -> None: ...


class Cluster:
    """The workers of the scheduler at `address`, behind `submit` and futures. `locally` opens who may take over.

    Opening it waits for a first worker. Raises `ConfigurationError`, or `Refused` when no scheduler or no worker
    answers, or one of the workers cannot do this migration. Close it in the end.
    """

    slicing = Slicing(shortest=0.05, longest=0.5, unmeasured=8)

    def __init__(
        self,
        address: str,
        migration: str,
        work: Work,
        listeners: Listeners,
        locally: Callable[[], Locally] | None = None,
    ) -> None:
        self.address, self._migration, self._listeners, self._locally = address, migration, listeners, locally
        self._instead: Locally | None = None
        self._lost: Callable[[], MigrationSystemError | CancelledError] = CancelledError
        self._orders = Orders(str(uuid4()), work)
        self._link, self._desk = Link(address), Desk()
        self._staff = Staff(self._link, self._orders, listeners)
        couriers = Couriers(self._link, self._orders, self._desk, self._staff.turn_away, self._give_up)
        self._staff.seated, self._staff.gone = couriers.serve, self._desk.wake
        self._staff.alone, self._staff.idle = self._break, self._desk.is_idle
        try:
            self._staff.gather()
        except BaseException:
            self._leave()
            raise

    @property
    def size(self) -> int:
        """Threads of the workers that are here; where the cluster was lost, of whoever took over."""
        if self._instead is not None:
            return self._instead.size
        return max(1, sum(seat.threads for seat in self._staff.present()))

    def submit(self, task: Task) -> Future[list[Outcome]]:
        """The outcomes of a slice, once a worker has transformed it.

        A slice that no worker can be given fails with `MigrationFailed`, or with the wish to stop that ended the wait.
        """
        errand = Errand(task)
        if not self._desk.put(errand):
            self._give_up(errand)
        return errand.future

    def close(self) -> None:
        """Let the workers go. Slices that are not done are cancelled; what a worker still computes is forgotten."""
        for errand in self._desk.close():
            errand.future.cancel()
        self._leave()
        if self._instead is not None:
            self._instead.close()

    def _leave(self) -> None:
        self._staff.close()
        self._link.leave(self._orders.run)
        self._link.close()

    def _break(self, reason: str, stop: MigrationSystemError | None) -> None:
        """Nobody is left who could work. What waits is done here, if that was asked for; else it fails.

        Where somebody wishes to stop it fails with that wish: a run that waits for nobody must not keep them.
        """
        self._lost = partial(self._failure, reason) if stop is None else lambda: stop
        if stop is None and self._locally is not None:
            self._instead = self._locally()
            here = f"{self._instead.size} threads of this machine"
            self._listeners.warn(f"{reason}; the run goes on with {here} (--dask-fallback)")
            self._listeners.staff(f"{here}, as {self.address} is lost")
        left = self._desk.close()
        self._staff.close()
        for errand in left:
            self._give_up(errand)

    def _give_up(self, errand: Errand) -> None:
        if not errand.begin():
            return
        if self._instead is None:
            errand.future.set_exception(self._lost())
        else:
            self._instead.submit(errand.task).add_done_callback(partial(_pass_on, errand.future))

    def _failure(self, reason: str) -> MigrationFailed:
        return MigrationFailed(
            self._migration,
            f"{reason}. What is committed stays; `migration run {self._migration}` continues, with --dask when the "
            "cluster is back, or without.",
        )


def _pass_on(future: Future[list[Outcome]], done: Future[list[Outcome]]) -> None:
    if done.cancelled():
        future.set_exception(CancelledError())
    elif (error := done.exception()) is not None:
        future.set_exception(error)
    else:
        future.set_result(done.result())
