"""Carrying slices from the desk to the workers of a cluster, and what they make of them back."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from system_migration.batching.cluster_desk import Desk, Errand
from system_migration.batching.cluster_link import Link
from system_migration.batching.cluster_staff import Seat
from system_migration.batching.cluster_worker import Orders
from system_migration.batching.isolation import isolate
from system_migration.batching.transform import Outcome, Task
from system_migration.batching.worker import WORKER_DIED, WorkerDied

IN_HAND = 2
"""Slices under way for each thread of a worker: one that is computed, and one that lies ready."""
TOLERATED = 2
"""Workers lost with the same slice in hand that say nothing about it: machines are switched off, too."""
MOST = 512
"""So many threads wait for slices under way; of those that come when there are more, each worker gets one."""


class Couriers:
    """Threads, each of which brings one slice after the other to its worker, until that is lost or the desk closes.

    `unfit` hears of a worker that says itself that it cannot work; `left_over` gets what nobody can be given any more.
    """

    def __init__(
        self,
        link: Link,
        orders: Orders,
        desk: Desk,
        unfit: Callable[[Seat, str], None],
        left_over: Callable[[Errand], None],
    ) -> None:
        self._link, self._orders, self._desk = link, orders, desk
        self._unfit, self._left_over = unfit, left_over
        self._lock, self._count = threading.Lock(), 0

    def serve(self, seat: Seat) -> None:
        """Bring work to a worker from now on."""
        for number in range(IN_HAND * seat.threads):
            with self._lock:
                if number > 0 and self._count >= MOST:
                    return
                self._count += 1
            threading.Thread(target=self._carry, args=(seat,), name="cluster-courier", daemon=True).start()

    def again(self, errand: Errand) -> None:
        """Have it done next, by whoever is free."""
        if not self._desk.put(errand, first=True):
            self._left_over(errand)

    def _carry(self, seat: Seat) -> None:
        while (errand := self._desk.take(lambda: seat.here)) is not None:
            try:
                self._settle(errand, seat, self._ask(errand.task, seat))
            except BaseException as error:  # whatever it is, somebody waits for this slice
                errand.future.set_exception(error)
            finally:
                self._desk.finish(errand)
        with self._lock:
            self._count -= 1

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
        self._unfit(seat, found)
        return self.again(errand)

    def _lost_with(self, errand: Errand) -> None:
        """A worker was lost with it. It is suspected only after several, and only alone it is found guilty."""
        errand.losses += 1
        if self._desk.closed:
            self.again(errand)
        elif errand.alone:
            message = "transform ended its worker, or the worker was lost meanwhile"
            errand.future.set_exception(WorkerDied(WORKER_DIED, message, None))
        elif errand.losses > TOLERATED:
            threading.Thread(target=self._isolate, args=(errand,), name="cluster-isolate", daemon=True).start()
        else:
            self.again(errand)

    def _isolate(self, errand: Errand) -> None:
        """Find the rows that end workers, with nothing else under way; they are held, the others are done."""
        try:
            errand.future.set_result(isolate(partial(self._ask_alone, errand.task.columns), errand.task.rows))
        except BaseException as error:
            errand.future.set_exception(error)

    def _ask_alone(self, columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> list[Outcome]:
        suspect = Errand(Task(columns, rows), alone=True)
        self.again(suspect)
        return suspect.future.result()
