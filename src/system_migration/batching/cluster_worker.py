"""What a worker of a cluster does, seen from inside: it has the rows transformed by processes of its own.

Not in its own threads, because a row that kills its process, hangs or eats memory then costs that row alone, as with
`--processes`; because a worker that is busy in Python could not answer its scheduler, and would be given up for dead;
and because a worker lives for weeks, while processes of a run load the code that lies there when the run begins.

Nothing here raises: a worker logs an error together with what it was given, and that is rows.
"""

from __future__ import annotations

import asyncio
import pickle
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Literal

from system_migration.batching.processes import ProcessPool, Work
from system_migration.batching.transform import where
from system_migration.errors import MigrationSystemError

IDLE_SECONDS = 120.0
"""The processes of a run for which nothing came so long are ended: whoever gave the orders may have died."""

Reply = tuple[Literal["done", "unfit"], Any]
_ERRORS = (Exception, SystemExit)


@dataclass(frozen=True)
class Orders:
    """What a worker is told with every slice: for which run, and how to load its migration. Nothing secret."""

    run: str
    work: Work


@dataclass
class _Kept:
    pool: ProcessPool
    users: int = 0
    idle: threading.Timer = field(default_factory=lambda: threading.Timer(0, lambda: None))


_lock = threading.Lock()
_kept: dict[str, _Kept] = {}
"""The processes of each run on this worker."""


def versions() -> dict[str, str]:
    """What must be the same here and there: the Python that reads the code, and the library."""
    try:
        library = metadata.version("system-migration")
    except metadata.PackageNotFoundError:
        library = "unknown"
    return {"Python": ".".join(platform.python_version_tuple()[:2]), "system-migration": library}


async def examine(orders: Orders, threads: int, dask_worker: Any = None) -> dict[str, Any]:
    """This worker's name and versions, and what keeps it from working for the run, or None: its processes then wait.

    In a thread, because the worker answers its scheduler by the one that asks.
    """
    trouble = await asyncio.to_thread(_trouble, orders, threads)
    return {"name": str(getattr(dask_worker, "name", "")), "versions": versions(), "trouble": trouble}


def compute(orders: Orders, threads: int, task: bytes) -> bytes:
    """The outcomes of a slice, or why this worker cannot work for the run; both as a pickled `Reply`."""
    try:
        with _processes(orders, threads) as pool:
            reply: Reply = "done", pool.submit(pickle.loads(task)).result()
        return pickle.dumps(reply, pickle.HIGHEST_PROTOCOL)
    except _ERRORS as error:
        return pickle.dumps(("unfit", _reason(error)))


def leave(run: str) -> None:
    """End the processes of a run."""
    with _lock:
        kept = _kept.pop(run, None)
    if kept is not None:
        kept.idle.cancel()
        kept.pool.close()


def _trouble(orders: Orders, threads: int) -> str | None:
    try:
        with _processes(orders, threads):
            return None
    except _ERRORS as error:
        return _reason(error)


def _reason(error: BaseException) -> str:
    """A sentence of ours; of any other error the kind and the place, as its text may quote a row."""
    return str(error) if isinstance(error, MigrationSystemError) else f"{where(error)}."


@contextmanager
def _processes(orders: Orders, threads: int) -> Iterator[ProcessPool]:
    """The run's processes, one for each thread of this worker; started when the first one asks."""
    with _lock:
        kept = _kept.get(orders.run)
        if kept is None:
            kept = _kept[orders.run] = _Kept(ProcessPool(orders.work, threads))
        kept.users += 1
        kept.idle.cancel()
    try:
        yield kept.pool
    finally:
        with _lock:
            kept.users -= 1
            if not kept.users:
                kept.idle = threading.Timer(IDLE_SECONDS, _expire, [orders.run])
                kept.idle.daemon = True
                kept.idle.start()


def _expire(run: str) -> None:
    with _lock:
        busy = run in _kept and _kept[run].users > 0
    if not busy:
        leave(run)
