"""The threads that settle batches, and how many of them there should be.

The planner hands a batch over and goes on reading; it never gets further ahead than one batch for each thread and one
more, so that memory stays bounded and little is wasted when a run is stopped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

from system_migration.batching.leaving import submitted

_T = TypeVar("_T")
MOST = 64
"""Threads, and so connections, of one run at the most."""
FEW = 3
"""Threads for work that mostly waits for the database."""
_LOOK_SECONDS = 0.2


def usable_cores() -> int:
    """How many cores this process may use."""
    usable = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(usable(0)) if usable else os.cpu_count() or 1


def sensible_size(transform_seconds: float, database_seconds: float, *, many_write: bool) -> int:
    """How many threads suit work whose first batches took so long in either place.

    While one batch is written another can be transformed. More than that helps only where the database is what takes
    the time, and lets many write: transforms of one batch already share the cores.
    """
    if database_seconds <= transform_seconds:
        return 2
    return FEW if many_write else 1


class Crew(Generic[_T]):
    """Up to `size` calls at once, each in a thread of its own; with one, in the thread that hands them over."""

    def __init__(self, size: int) -> None:
        self.size = min(size, MOST)
        self._pool: ThreadPoolExecutor | None = None
        self._going: set[Future[_T]] = set()
        self._done: list[_T] = []

    def hand_over(self, call: Callable[[], _T]) -> None:
        """Have `call` made. Its result comes back from `finished`. `Interrupted` where the process ends."""
        if self.size == 1:
            self._done.append(call())
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.size, thread_name_prefix="writer")
        self._going.add(submitted(self._pool, call))

    @property
    def is_full(self) -> bool:
        """Whether everybody is busy, and one more batch waits already."""
        return len(self._going) > self.size

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._going

    def finished(self, *, patiently: bool = False) -> Iterator[_T]:
        """The results there are; `patiently`, after a short wait for the next. Raises what a call raised."""
        done, self._done = self._done, []
        errors: list[BaseException] = []
        if self._going:
            ended, self._going = wait(
                self._going, timeout=_LOOK_SECONDS if patiently else 0, return_when=FIRST_COMPLETED
            )
            done += [call.result() for call in ended if call.exception() is None]
            errors = [error for call in ended if (error := call.exception()) is not None]
        yield from done
        if errors:
            raise errors[0]

    def dismiss(self) -> list[_T]:
        """Let what has begun come to its end, drop the rest, and return the results; errors are somebody else's."""
        if self._pool is None:
            return []
        self._pool.shutdown(wait=True, cancel_futures=True)
        ended, self._going = self._going, set()
        return [call.result() for call in ended if not call.cancelled() and call.exception() is None]
