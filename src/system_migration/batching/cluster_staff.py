"""The workers of a cluster that work for a run: each examined before it gets a row, and missed when it is gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from system_migration.batching import roll_call
from system_migration.batching.cluster_link import Link, SchedulerLost, Sent
from system_migration.batching.cluster_worker import Orders
from system_migration.batching.roll_call import Examined
from system_migration.errors import MigrationSystemError, Refused
from system_migration.wording import counted

PATIENCE_SECONDS = 60.0
"""How long a run waits for a worker when there is none."""
LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Listeners:
    """Whom a cluster tells what happens to it, and whom it asks.

    `inform` and `warn` are for the log; `staff` hears in a few words who works, `waiting` why nobody does. `heed`
    raises to end a wait for a worker.
    """

    inform: Callable[[str], None] = lambda text: None
    warn: Callable[[str], None] = lambda text: None
    staff: Callable[[str], None] = lambda text: None
    waiting: Callable[[str], None] = lambda reason: None
    heed: Callable[[], None] = lambda: None


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


class Staff:
    """Who works, as the scheduler sees it twice a second.

    `seated` is called for each worker that begins, `gone` after one was lost, and `alone` once when nobody is left for
    too long, or the scheduler is lost: with the reason, and with the error if somebody wishes to stop. While `idle`,
    nobody is missed.
    """

    seated: Callable[[Seat], None] = staticmethod(lambda seat: None)
    gone: Callable[[], None] = staticmethod(lambda: None)
    alone: Callable[[str, MigrationSystemError | None], None] = staticmethod(lambda reason, stop: None)
    idle: Callable[[], bool] = staticmethod(lambda: False)

    def __init__(self, link: Link, orders: Orders, listeners: Listeners) -> None:
        self._link, self._orders, self._listeners = link, orders, listeners
        self._seats: dict[str, Seat] = {}
        self._unfit: dict[str, str] = {}
        self._lost = 0
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._examining: threading.Thread | None = None
        self._watcher = threading.Thread(target=self._watch, name="cluster-watch", daemon=True)

    def __str__(self) -> str:
        """`2 workers: a, b; 1 lost`."""
        return roll_call.staff([seat.name for seat in self.present()], self._lost)

    def present(self) -> list[Seat]:
        """The workers that are here."""
        with self._lock:
            return list(self._seats.values())

    def gather(self) -> None:
        """Seat all workers, once there is one. Raises `Refused` when none comes, or one of them cannot work."""
        workers = self._first_workers()
        examined = roll_call.examined(self._link.examine(self._orders, workers), workers)
        if unfit := [each for each in examined if each.trouble]:
            raise Refused(roll_call.refusal(unfit))
        self._seat(examined)
        self._watcher.start()

    def turn_away(self, seat: Seat, reason: str) -> None:
        """Send one no more work, for a reason that it gave itself."""
        if seat.here:
            self._note_unfit(seat.address, f"Worker {seat.name} cannot work any more: {reason}")
            self._dismiss(seat)
            self._listeners.staff(str(self))

    def close(self) -> None:
        """Nobody works any more, and nobody is looked for."""
        self._stopped.set()
        for seat in self.present():
            self._dismiss(seat)
        if self._watcher.is_alive() and threading.current_thread() is not self._watcher:
            self._watcher.join()

    # Before the first row

    def _first_workers(self) -> Mapping[str, int]:
        until = time.monotonic() + PATIENCE_SECONDS
        while not (workers := self._asked()):
            self._listeners.waiting(self._what_for())
            self._listeners.heed()
            if time.monotonic() > until or self._stopped.wait(LOOK_SECONDS / 2):
                raise Refused(
                    f"The Dask scheduler at {self._link.address} has no worker, and none came in "
                    f"{PATIENCE_SECONDS:g} s, so nothing was started. Start workers, or start without --dask."
                )
        return workers

    def _asked(self) -> Mapping[str, int]:
        try:
            return self._link.workers()
        except SchedulerLost:
            raise Refused(
                f"The Dask scheduler at {self._link.address} was lost before the start, so nothing was started. "
                "Start it again, or start without --dask."
            ) from None

    def _what_for(self) -> str:
        return f"waits for a worker of {self._link.address}"

    # From then on

    def _watch(self) -> None:
        since = time.monotonic()
        while not self._stopped.wait(LOOK_SECONDS):
            try:
                present = self._link.workers()
            except SchedulerLost:
                return self.alone(f"the Dask scheduler at {self._link.address} is lost", None)
            self._miss(present)
            self._examine({address: threads for address, threads in present.items() if self._is_new(address)})
            if self.present() or self.idle():
                since = time.monotonic()
            elif self._give_up(since):
                return None
        return None

    def _give_up(self, since: float) -> bool:
        """Nobody works: whether that is so for too long, or somebody wishes to stop."""
        self._listeners.waiting(self._what_for())
        try:
            self._listeners.heed()
        except MigrationSystemError as stop:
            self.alone(str(stop), stop)
            return True
        if time.monotonic() - since <= PATIENCE_SECONDS:
            return False
        reasons = "".join(f" ({reason.rstrip('.')})" for reason in self._unfit.values())
        self.alone(f"{self._link.address} has had no worker for {PATIENCE_SECONDS:g} s that can do it{reasons}", None)
        return True

    def _is_new(self, address: str) -> bool:
        return address not in self._seats and address not in self._unfit

    def _miss(self, present: Mapping[str, int]) -> None:
        for seat in self.present():
            if seat.address in present:
                continue
            self._lost += 1
            in_hand = self._dismiss(seat)
            self._listeners.warn(
                f"worker {seat.name} is lost, {len(self.present())} left; "
                f"what it had in hand is computed again ({counted(in_hand, 'slice')})"
            )
            self._listeners.staff(str(self))

    def _dismiss(self, seat: Seat) -> int:
        """How many slices it had in hand."""
        with self._lock:
            self._seats.pop(seat.address, None)
        in_hand = seat.leave()
        self.gone()
        return in_hand

    def _examine(self, workers: Mapping[str, int]) -> None:
        """In a thread of its own: preparing may take a worker long, and nobody else's loss must wait for it."""
        if not workers or (self._examining is not None and self._examining.is_alive()):
            return

        def examine() -> None:
            examined = roll_call.examined(self._link.examine(self._orders, workers), workers)
            for each in examined:
                if each.trouble:
                    self._note_unfit(each.address, roll_call.sentence(each))
            self._seat([each for each in examined if not each.trouble])

        self._examining = threading.Thread(target=examine, name="cluster-examine", daemon=True)
        self._examining.start()

    def _note_unfit(self, address: str, reason: str) -> None:
        self._unfit[address] = reason
        self._listeners.warn(f"{reason} It gets no work.")

    def _seat(self, examined: list[Examined]) -> None:
        if not examined or self._stopped.is_set():
            return
        seats = [Seat(each.address, each.name, each.threads) for each in examined]
        with self._lock:
            self._seats |= {seat.address: seat for seat in seats}
        for seat in seats:
            self.seated(seat)
        self._listeners.inform(f"{self} of {self._link.address}")
        self._listeners.staff(str(self))
