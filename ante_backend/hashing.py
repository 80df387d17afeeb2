"""bcrypt beside the event loop: as many at a time as there are cores, a short queue, and a refusal beyond it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, ParamSpec, TypeVar

from ante_backend.cores import usable_cores

#: So many wait for a core before the next is turned away.
QUEUE: Final = 32

P = ParamSpec("P")
T = TypeVar("T")


class Busy(Exception):
    """All cores hash and the queue is full; nothing was begun."""


class Hashing:
    """Worker threads for bcrypt, which lets go of Python's lock: threads use all cores, processes bring nothing.

    To be used from one event loop. Whoever wants to hash takes a place first, before anything about an account is
    looked up: being refused tells nothing about it.
    """

    def __init__(self, threads: int | None = None, queue: int = QUEUE) -> None:
        cores = threads or usable_cores()
        self._executor = ThreadPoolExecutor(cores, thread_name_prefix="bcrypt")
        self._places = cores + queue

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place at a core or in the queue, until the end of the block. Raises `Busy` when there is none."""
        if not self._places:
            raise Busy
        self._places -= 1
        try:
            yield
        finally:
            self._places += 1

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `work` in a worker thread, or what it raised."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: work(*args, **kwargs))

    def close(self) -> None:
        """Let what is being hashed end, and stop the threads."""
        self._executor.shutdown()
