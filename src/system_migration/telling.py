"""Telling one listener of what happens, in a thread of its own: slow or broken, no run feels it.

What is told is at most once: a process that is killed takes with it what it had not told yet.
"""

from __future__ import annotations

import atexit
import contextvars
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from system_migration.facts import BatchCommitted, Fact, Waits, WhichRun

T = TypeVar("T")
LIMIT = 1_000
"""So many facts wait for a slow listener. Of batches more are dropped; beginnings and ends have as much room again."""
FLUSH_SECONDS = 10.0
"""How long the end of a process waits for what is not told yet."""
_MANY_RUNS = 1_000

Complain = Callable[[WhichRun, str], None]


class NotTold(Exception):
    """What a listener raises whose sentence may stand in the log. Of any other error only the class may."""


class NotYetTold(NotTold):
    """What may succeed in a while: it is told again after the next pause, and what is newer goes first."""


@dataclass
class _Item(Generic[T]):
    context: contextvars.Context
    run: WhichRun
    wanted: T
    failures: int = 0
    due: float = 0.0


class Teller(Generic[T]):
    """Tells `deliver` what `wants` makes of each fact; None of it means that this one is not for it.

    `wants` is asked in the run's own thread, so it only looks. `deliver` has a thread, which lives while there is
    something to tell, and the context (`contextvars`) in which it happened. `complain` hears of the
    first failure in each run. After a `NotYetTold` it is tried again, once for each of `pauses`: so many seconds
    later, drawn out by up to a half.
    """

    def __init__(
        self,
        name: str,
        wants: Callable[[Fact], T | None],
        deliver: Callable[[T], object],
        complain: Complain,
        pauses: Sequence[float] = (),
    ) -> None:
        self.name = name
        self._wants, self._deliver, self._complain = wants, deliver, complain
        self._pauses = pauses
        self._complained: set[str] = set()
        self.begin_anew()
        _wait_at_exit_for(self)

    def begin_anew(self) -> None:
        """Nothing is waiting, no thread is there, nobody holds the lock. A forked process begins so."""
        self._waiting: deque[_Item[T]] = deque()
        self._later: list[_Item[T]] = []
        self._telling: _Item[T] | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._dropped = 0
        self._given_up = False

    def tell(self, fact: Fact) -> None:
        """Put it in line. Returns at once and raises nothing."""
        wanted = self._wants(fact)
        if wanted is None:
            return
        minor = isinstance(fact, BatchCommitted | Waits)
        with self._changed:
            if len(self._waiting) + len(self._later) >= (LIMIT if minor else 2 * LIMIT):
                self._dropped += 1
                return
            self._waiting.append(_Item(contextvars.copy_context(), fact.run, wanted))
            self._changed.notify_all()
            self._see_to_a_thread()

    def _see_to_a_thread(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            return
        thread = threading.Thread(target=self._tell_all, name=f"migration tells {self.name}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no thread can be started any more: the interpreter ends
            return
        self._thread = thread

    def flush(self, seconds: float) -> bool:
        """Wait until all is told, for at most so long; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._thread is None or not self._thread.is_alive(), seconds)

    def give_up(self) -> tuple[list[T], int]:
        """Forget what is not told yet. What that is, and how many more were dropped; the first may still arrive."""
        with self._changed:
            left = [*([self._telling] if self._telling else []), *self._later, *self._waiting]
            dropped, self._dropped, self._given_up = self._dropped, 0, True
            self._waiting.clear()
            self._later.clear()
            self._changed.notify_all()
            _all.discard(self)  # the end of the process does not wait for it once more
            return [item.wanted for item in left], dropped

    def _tell_all(self) -> None:
        while (item := self._next()) is not None:
            try:
                item.context.run(self._deliver, item.wanted)
            except NotYetTold as failure:
                if not self._put_off(item):
                    self._complain_once(item.run, str(failure))
            except NotTold as failure:
                self._complain_once(item.run, str(failure))
            except BaseException as error:  # whatever a hook raises, even what ends a program
                self._complain_once(item.run, f"{self.name} raised {type(error).__name__}.")

    def _put_off(self, item: _Item[T]) -> bool:
        """Whether it is tried again: an end that follows must not wait for the pauses of its beginning."""
        if item.failures >= len(self._pauses):
            return False
        with self._changed:
            item.due = time.monotonic() + self._pauses[item.failures] * random.uniform(1.0, 1.5)
            item.failures += 1
            if not self._given_up:
                self._later.append(item)
            return True

    def _next(self) -> _Item[T] | None:
        """The next in line; None, when there is none, is the end of this thread."""
        with self._changed:
            self._telling = item = self._taken()
            if item is None:
                self._thread = None
                self._changed.notify_all()
                return None
            if self._waiting or not self._dropped:
                return item
            dropped, self._dropped = self._dropped, 0
        self._complain_once(item.run, f"{self.name} is too slow: {dropped:,} batches were not told to it.")
        return item

    def _taken(self) -> _Item[T] | None:
        """The oldest that was not tried yet; else, once its pause is over, the one that is due first."""
        self._telling = None
        while not self._waiting and self._later:
            first = min(self._later, key=lambda item: item.due)
            if (pause := first.due - time.monotonic()) <= 0:
                self._later.remove(first)
                return first
            self._changed.wait(pause)
        return self._waiting.popleft() if self._waiting else None

    def _complain_once(self, run: WhichRun, sentence: str) -> None:
        if run.run_id in self._complained:
            return
        if len(self._complained) >= _MANY_RUNS:
            self._complained.clear()
        self._complained.add(run.run_id)
        self._complain(run, sentence)


_all: WeakSet[Teller[Any]] = WeakSet()


def flush_all(tellers: Sequence[Teller[Any]], seconds: float) -> bool:
    """Wait until all of these have told all, for at most so long together; whether they have."""
    until = time.monotonic() + seconds
    return all(teller.flush(max(0.0, until - time.monotonic())) for teller in tellers)


def _wait_at_exit_for(teller: Teller[Any]) -> None:
    """Last registered is first called: before what the teller tells, such as OpenTelemetry's SDK, is shut down."""
    _all.add(teller)
    atexit.unregister(_flush_at_exit)
    atexit.register(_flush_at_exit)


def _flush_at_exit() -> None:
    """A process that ends without `Migrator.close()` still tells how its last run ended."""
    flush_all(list(_all), FLUSH_SECONDS)


def _begin_anew_after_fork() -> None:
    """What waits in the parent is the parent's to tell; its thread is not here, and its lock may be held for ever."""
    for teller in list(_all):
        teller.begin_anew()


if hasattr(os, "register_at_fork"):  # where a process can fork
    os.register_at_fork(after_in_child=_begin_anew_after_fork)
