"""The desk at which the workers of a cluster fetch slices: which one goes next, and what becomes of lost ones. Pure."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from system_migration.batching.transform import Outcome, Task


@dataclass(eq=False)
class Errand:
    """A slice, and who waits for its outcomes. `losses` counts the workers that were lost with it in hand.

    One that is `alone` is suspected of ending workers: nothing else is under way with it, so that no other is blamed.
    """

    task: Task
    alone: bool = False
    losses: int = 0
    future: Future[list[Outcome]] = field(default_factory=Future)
    begun: bool = False

    def begin(self) -> bool:
        """Whether somebody still waits for it; from now on they cannot cancel it."""
        if not self.begun:
            self.begun = self.future.set_running_or_notify_cancel()
        return self.begun


class Desk:
    """Errands in their order. Whoever takes one finishes it, or puts it back first and then finishes it."""

    def __init__(self) -> None:
        self._turn = threading.Condition()
        self._waiting: deque[Errand] = deque()
        self._suspects: deque[Errand] = deque()
        self._under_way: set[Errand] = set()
        self._closed = False

    def put(self, errand: Errand, *, first: bool = False) -> bool:
        """Have somebody do it; False when the desk is closed."""
        with self._turn:
            if self._closed:
                return False
            queue = self._suspects if errand.alone else self._waiting
            if first:
                queue.appendleft(errand)
            else:
                queue.append(errand)
            self._turn.notify_all()
            return True

    def take(self, here: Callable[[], bool]) -> Errand | None:
        """The next errand, once there is one; None when whoever asks is not `here` any more, or the desk is closed."""
        with self._turn:
            while not self._closed and here():
                errand = self._next()
                if errand is None:
                    self._turn.wait()
                elif errand.begin():
                    self._under_way.add(errand)
                    return errand
            return None

    def finish(self, errand: Errand) -> None:
        """It is no longer under way."""
        with self._turn:
            self._under_way.discard(errand)
            self._turn.notify_all()

    @property
    def closed(self) -> bool:
        """Whether nothing is handed out any more."""
        return self._closed

    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        with self._turn:
            return not (self._waiting or self._suspects or self._under_way)

    def wake(self) -> None:
        """Let everybody see whether they are still here."""
        with self._turn:
            self._turn.notify_all()

    def close(self) -> list[Errand]:
        """Hand out nothing any more; returned are those that nobody has taken."""
        with self._turn:
            self._closed = True
            left = [*self._suspects, *self._waiting]
            self._suspects.clear()
            self._waiting.clear()
            self._turn.notify_all()
            return left

    def _next(self) -> Errand | None:
        if any(errand.alone for errand in self._under_way):
            return None
        if self._suspects:
            return None if self._under_way else self._suspects.popleft()
        return self._waiting.popleft() if self._waiting else None
