"""A pool whose workers are those of a Dask scheduler. They compute; nobody but us writes.

Dask may run a task twice, or lose it with its worker: `transform` is pure, so both are harmless. Each slice is sent to
one worker that was examined, and two for each of its threads at the most are under way; all others wait here, so that
little is lost with a worker, and nothing but time with the scheduler.
"""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol
from uuid import uuid4

from system_migration.batching import roll_call
from system_migration.batching.cluster_desk import Desk, Errand
from system_migration.batching.cluster_link import Link, SchedulerLost, Sent
from system_migration.batching.cluster_worker import Orders
from system_migration.batching.isolation import isolate
from system_migration.batching.processes import Work
from system_migration.batching.roll_call import Examined
from system_migration.batching.slicing import Slicing
from system_migration.batching.transform import Outcome, Task
from system_migration.batching.worker import WORKER_DIED, WorkerDied
from system_migration.errors import MigrationFailed, MigrationSystemError, Refused

PATIENCE_SECONDS = 60.0
"""How long a run waits for a worker when there is none."""
LOOK_SECONDS = 0.5
IN_HAND = 2
"""Slices under way for each thread of a worker: one that is computed, and one that lies ready."""
TOLERATED = 2
"""Workers lost with the same slice in hand that say nothing about it: machines are switched off, too."""
MOST = 512
"""So many threads wait for slices under way; beyond them, a worker that comes has one in hand."""


class Locally(Protocol):
    """A pool of this machine, that goes on when the cluster is lost."""

    @property
    def size(self) -> int: ...
    def submit(self, task: Task) -> Future[list[Outcome]]: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Surroundings:
    """Whom a cluster tells what happens to it, and whom it asks.

    `inform` and `warn` are for the log; `staff` hears in a few words who works; `waiting` why nobody does. `heed`
    raises to end the wait for a first worker. `locally` opens the pool that takes over, if one may.
    """

    inform: Callable[[str], None] = lambda text: None
    warn: Callable[[str], None] = lambda text: None
    staff: Callable[[str], None] = lambda text: None
    waiting: Callable[[str], None] = lambda reason: None
    heed: Callable[[], None] = lambda: None
    locally: Callable[[], Locally] | None = None
    patience: float = PATIENCE_SECONDS


@dataclass(eq=False)
class Seat:
    """A worker at work for us, and the slices it has in hand."""

    address: str
    name: str
    threads: int
    here: bool = True
    in_hand: set[Sent] = field(default_factory=set)

    def leave(self) -> int:
        """It is lost. How many slices it had in hand; whoever waits for one learns it."""
        self.here = False
        lost = list(self.in_hand)
        for sent in lost:
            sent.arrived.set()
        return len(lost)


class Cluster:
    """The workers of the scheduler at `address`, each examined before it gets a row; behind `submit` and futures.

    Opening it waits for a first worker. Raises `ConfigurationError`, or `Refused` when no scheduler or worker answers,
    or one of the workers cannot do this migration. Close it in the end.
    """

    slicing = Slicing(shortest=0.05, longest=0.5, unmeasured=8)

    def __init__(self, address: str, migration: str, work: Work, around: Surroundings) -> None:
        self.address, self._migration, self._around = address, migration, around
        self._orders = Orders(str(uuid4()), work)
        self._desk, self._seats, self._lost = Desk(), dict[str, Seat](), 0
        self._unfit: dict[str, str] = {}
        self._couriers = 0
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._examining: threading.Thread | None = None
        self._broken: str | None = None
        self._stop: MigrationSystemError | None = None
        self._instead: Locally | None = None
        self._link = Link(address)
        try:
            self._open()
        except BaseException:
            self._link.leave(self._orders.run)
            self._link.close()
            raise
        self._watcher = threading.Thread(target=self._watch, name="cluster-watch", daemon=True)
        self._watcher.start()

    @property
    def size(self) -> int:
        """Threads of the workers that are here; where the cluster was lost, of whoever took over."""
        if self._instead is not None:
            return self._instead.size
        return max(1, sum(seat.threads for seat in self._present()))

    def submit(self, task: Task) -> Future[list[Outcome]]:
        """The outcomes of a slice, once a worker has transformed it."""
        errand = Errand(task)
        if not self._desk.put(errand):
            self._give_up(errand)
        return errand.future

    def close(self) -> None:
        """Let the workers go. Slices that are not done are cancelled; what a worker still computes is forgotten."""
        self._stopped.set()
        for errand in self._desk.close():
            errand.future.cancel()
        for seat in self._present():
            seat.leave()
        self._watcher.join()
        self._link.leave(self._orders.run)
        self._link.close()
        if self._instead is not None:
            self._instead.close()

    # Who is there

    def _open(self) -> None:
        workers = self._first_workers()
        examined = roll_call.examined(self._link.examine(self._orders, workers), workers)
        if unfit := [each for each in examined if each.trouble]:
            raise Refused(roll_call.refusal(self.address, unfit))
        self._seat(examined)

    def _first_workers(self) -> Mapping[str, int]:
        until = time.monotonic() + self._around.patience
        while not (workers := self._asked()):
            self._around.waiting(f"waits for a worker of {self.address}")
            self._around.heed()
            if time.monotonic() > until or self._stopped.wait(LOOK_SECONDS / 2):
                raise Refused(
                    f"The Dask scheduler at {self.address} has no worker, and none came in {self._around.patience:g} "
                    "s, so nothing was started. Start workers, or start without --dask."
                )
        return workers

    def _asked(self) -> Mapping[str, int]:
        try:
            return self._link.workers()
        except SchedulerLost:
            raise Refused(
                f"The Dask scheduler at {self.address} was lost before the start, so nothing was started. "
                "Start it again, or start without --dask."
            ) from None

    def _watch(self) -> None:
        """See who comes and who goes, until the end."""
        since = time.monotonic()
        while not self._stopped.wait(LOOK_SECONDS):
            try:
                present = self._link.workers()
            except SchedulerLost:
                return self._break(f"the Dask scheduler at {self.address} is lost")
            self._note_lost(present)
            self._examine({address: count for address, count in present.items() if self._is_new(address)})
            if self._present() or self._desk.is_idle:
                since = time.monotonic()
                continue
            self._around.waiting(f"waits for a worker of {self.address}")
            try:
                self._around.heed()
            except MigrationSystemError as stop:
                return self._break(str(stop), stop)
            if time.monotonic() - since > self._around.patience:
                reasons = "".join(f"; {reason}" for reason in self._unfit.values())
                return self._break(
                    f"{self.address} has had no worker for {self._around.patience:g} s that can do it{reasons}"
                )
        return None

    def _is_new(self, address: str) -> bool:
        return address not in self._seats and address not in self._unfit

    def _note_lost(self, present: Mapping[str, int]) -> None:
        for seat in self._present():
            if seat.address not in present:
                self._lost += 1
                in_hand = self._dismiss(seat)
                self._around.warn(
                    f"worker {seat.name} is lost, {len(self._present())} left; its {in_hand} slices are computed again"
                )

    def _dismiss(self, seat: Seat) -> int:
        with self._lock:
            self._seats.pop(seat.address, None)
        in_hand = seat.leave()
        self._desk.wake()
        self._around.staff(self.staff())
        return in_hand

    def _examine(self, workers: Mapping[str, int]) -> None:
        """In a thread of its own: preparing may take a worker long, and nobody else's loss must wait for it."""
        if not workers or (self._examining is not None and self._examining.is_alive()):
            return

        def examine() -> None:
            examined = roll_call.examined(self._link.examine(self._orders, workers), workers)
            for each in examined:
                if each.trouble:
                    self._turn_away(each.address, roll_call.sentence(each))
            self._seat([each for each in examined if not each.trouble])

        self._examining = threading.Thread(target=examine, name="cluster-examine", daemon=True)
        self._examining.start()

    def _turn_away(self, address: str, reason: str) -> None:
        self._unfit[address] = reason
        self._around.warn(f"{reason} It gets no work.")

    def _seat(self, examined: list[Examined]) -> None:
        if not examined or self._stopped.is_set():
            return
        seats = [Seat(each.address, each.name, each.threads) for each in examined]
        with self._lock:
            self._seats |= {seat.address: seat for seat in seats}
        for seat in seats:
            for number in range(IN_HAND * seat.threads):
                if number == 0 or self._couriers < MOST:
                    self._start_courier(seat)
        self._around.inform(f"{self.staff()} of {self.address}")
        self._around.staff(self.staff())

    def _present(self) -> list[Seat]:
        with self._lock:
            return list(self._seats.values())

    def staff(self) -> str:
        """`2 workers: a, b; 1 lost`."""
        return roll_call.staff([seat.name for seat in self._present()], self._lost)

    # Carrying slices there and back

    def _start_courier(self, seat: Seat) -> None:
        with self._lock:
            self._couriers += 1
        threading.Thread(target=self._carry, args=(seat,), name="cluster-courier", daemon=True).start()

    def _carry(self, seat: Seat) -> None:
        while (errand := self._desk.take(lambda: seat.here)) is not None:
            try:
                self._settle(errand, seat, self._ask(errand.task, seat))
            except BaseException as error:  # whatever it is, somebody waits for this slice
                errand.future.set_exception(error)
            finally:
                self._desk.finish(errand)
        with self._lock:
            self._couriers -= 1

    def _ask(self, task: Task, seat: Seat) -> bytes | None:
        payload = pickle.dumps(task, pickle.HIGHEST_PROTOCOL)
        sent = self._link.send(seat.address, self._orders, seat.threads, payload)
        seat.in_hand.add(sent)
        try:
            if not seat.here:
                sent.arrived.set()  # it was lost in between, and nobody has told this one
            return sent.reply(lambda: seat.here)
        finally:
            seat.in_hand.discard(sent)

    def _settle(self, errand: Errand, seat: Seat, reply: bytes | None) -> None:
        if reply is None:
            return self._lost_with(errand)
        kind, found = pickle.loads(reply)
        if kind == "done":
            errand.future.set_result(found)
            return None
        if seat.here:
            self._turn_away(seat.address, f"Worker {seat.name} cannot work any more: {found}")
            self._dismiss(seat)
        return self._again(errand)

    def _lost_with(self, errand: Errand) -> None:
        errand.losses += 1
        if errand.alone and self._broken is None:
            message = "transform ended its worker, or the worker was lost meanwhile"
            errand.future.set_exception(WorkerDied(WORKER_DIED, message, None))
        elif errand.losses > TOLERATED and self._broken is None:
            threading.Thread(target=self._isolate, args=(errand,), name="cluster-isolate", daemon=True).start()
        else:
            self._again(errand)

    def _again(self, errand: Errand) -> None:
        if not self._desk.put(errand, first=True):
            self._give_up(errand)

    def _isolate(self, errand: Errand) -> None:
        """Find the rows that end workers, with nothing else under way; they are held, the others are done."""
        try:
            errand.future.set_result(isolate(partial(self._ask_alone, errand.task.columns), errand.task.rows))
        except BaseException as error:
            errand.future.set_exception(error)

    def _ask_alone(self, columns: tuple[str, ...], rows: Any) -> list[Outcome]:
        suspect = Errand(Task(columns, rows), alone=True)
        self._again(suspect)
        return suspect.future.result()

    # When the cluster is lost

    def _break(self, reason: str, stop: MigrationSystemError | None = None) -> None:
        """Nobody is left who could do it. What waits is done here, if that was asked for; else it fails.

        So it does where somebody wishes to `stop`: a run that waits for nobody must not keep them.
        """
        self._stop, locally = stop, self._around.locally if stop is None else None
        if locally is not None:
            self._instead = locally()
            count = self._instead.size
            self._around.warn(f"{reason}; the run goes on with {count} threads of this machine (--dask-fallback)")
            self._around.staff(f"{count} threads of this machine, as {self.address} is lost")
        self._broken = reason
        left = self._desk.close()
        for seat in self._present():
            self._dismiss_silently(seat)
        for errand in left:
            self._give_up(errand)

    def _dismiss_silently(self, seat: Seat) -> None:
        with self._lock:
            self._seats.pop(seat.address, None)
        seat.leave()
        self._desk.wake()

    def _give_up(self, errand: Errand) -> None:
        if not errand.begin():
            return
        if self._instead is not None:
            self._instead.submit(errand.task).add_done_callback(partial(_pass_on, errand.future))
        elif self._stop is not None:
            errand.future.set_exception(self._stop)
        elif self._broken is not None:
            errand.future.set_exception(MigrationFailed(self._migration, self._what_to_do()))
        else:
            errand.future.set_exception(CancelledError())

    def _what_to_do(self) -> str:
        return (
            f"{self._broken}. What is committed stays; `migration run {self._migration}` continues, "
            "with --dask when the cluster is back, or without."
        )


def _pass_on(future: Future[list[Outcome]], done: Future[list[Outcome]]) -> None:
    if done.cancelled():
        future.set_exception(CancelledError())
    elif (error := done.exception()) is not None:
        future.set_exception(error)
    else:
        future.set_result(done.result())
