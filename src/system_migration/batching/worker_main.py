"""A worker process, seen from inside: `python -c BOOT`, a channel to its parent, and nothing else.

It ends when its channel closes or its parent dies, whatever its row is doing. Ctrl-C and SIGTERM, which a terminal
or a supervisor sends to every process of a group, are left to the parent.
"""

from __future__ import annotations

import mmap
import os
import pickle
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal

from system_migration.batch_migration import BatchMigration
from system_migration.batching.transform import TRANSFORM_ERROR, Held, Outcome, Task, prepared, transform_rows, where
from system_migration.errors import MigrationSystemError
from system_migration.references import Reference, load

OUT_OF_MEMORY = 97
"""The exit code of a worker that ran into its memory limit."""
NO_ROW = -1
COUNTER_BYTES = mmap.PAGESIZE
_PR_SET_PDEATHSIG = 1

Reply = tuple[Literal["ready", "failed", "done"], Any]


@dataclass(frozen=True)
class Orders:
    """What a worker is told once."""

    parent: int
    reference: Reference
    row_memory: int | None


def main(channel_fd: int, counter_fd: int) -> None:
    """Load and prepare the migration, then transform slices until the parent has no more."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    channel: Connection[Reply, Any] = Connection(channel_fd)
    with suppress(EOFError, OSError):  # the parent is gone, or wants us gone
        orders: Orders = channel.recv()
        _die_with(orders.parent, channel_fd)
        instance = _instance(orders.reference, channel)
        if instance is not None:
            _limit_memory(orders.row_memory)
            channel.send(("ready", None))
            _serve(channel, instance, memoryview(mmap.mmap(counter_fd, COUNTER_BYTES)).cast("q"))
    os._exit(0)  # a thread or a clean-up of the migration's must not keep us


def _instance(reference: Reference, channel: Connection[Reply, Any]) -> BatchMigration | None:
    """The prepared instance, or None when the parent was told why there is none."""
    try:
        migration = load(reference)
        assert issubclass(migration, BatchMigration)
        return prepared(migration)
    except (Exception, SystemExit) as error:
        channel.send(("failed", _portable(error)))
        return None


def _portable(error: BaseException) -> MigrationSystemError | str:
    """An error of ours as it is; of any other the kind and place: its traceback stays here, and its text may quote."""
    if isinstance(error, MigrationSystemError):
        with suppress(Exception):  # whatever a class that takes arguments of its own says to being unpickled
            pickle.loads(pickle.dumps(error))
            return error
    return where(error)


def _serve(channel: Connection[Reply, Any], instance: BatchMigration, counter: memoryview[int]) -> None:
    def out_of_memory() -> None:
        os._exit(OUT_OF_MEMORY)  # what is left in this process may fail the next row too

    while True:
        try:
            task: Task = channel.recv()
            rows = _counted(task.rows, counter)
            outcomes = transform_rows(instance, task.columns, rows, out_of_memory)
            channel.send_bytes(_packed(outcomes))
        except MemoryError:
            out_of_memory()


def _counted(rows: Sequence[tuple[Any, ...]], counter: memoryview[int]) -> Iterator[tuple[Any, ...]]:
    """The rows, each announced to the parent before it is begun: shared memory survives whatever the row does."""
    for index, row in enumerate(rows):
        counter[0] = index
        yield row
    counter[0] = NO_ROW


def _packed(outcomes: list[Outcome]) -> bytes:
    """The reply, in which a row whose values cannot travel is held."""
    try:
        return pickle.dumps(("done", outcomes), pickle.HIGHEST_PROTOCOL)
    except MemoryError:
        raise
    except Exception:
        return pickle.dumps(("done", [_sendable(outcome) for outcome in outcomes]), pickle.HIGHEST_PROTOCOL)


def _sendable(outcome: Outcome) -> Outcome:
    try:
        pickle.dumps(outcome, pickle.HIGHEST_PROTOCOL)
    except MemoryError:
        raise
    except Exception as error:
        return Held(TRANSFORM_ERROR, f"transform returned a value that cannot be pickled: {type(error).__name__}")
    return outcome


# Never outlive the parent, never take more than allowed


def _die_with(parent: int, channel_fd: int) -> None:
    """Be killed when the parent is: by the kernel on Linux, even in a C call; else as soon as Python may run."""
    threading.Thread(target=_end_at_hangup, args=(channel_fd, os._exit), name="lifeline", daemon=True).start()
    if sys.platform == "linux":
        import ctypes

        # The signal comes when the *thread* that started us ends: the pool's threads outlive their workers.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before we asked to be told
        os._exit(1)


def _end_at_hangup(channel_fd: int, end: Callable[[int], object]) -> None:
    lifeline = select.poll()
    lifeline.register(channel_fd, 0)  # asks for nothing, so it wakes for a hang-up alone
    lifeline.poll()
    end(1)


def _limit_memory(row_memory: int | None) -> None:
    """Let this process grow by `row_memory` bytes more, where the platform can say how large it is."""
    if row_memory is None or sys.platform != "linux":
        return
    import resource

    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    wanted = size + row_memory
    resource.setrlimit(resource.RLIMIT_AS, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))
