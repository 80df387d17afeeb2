"""A worker process, seen by its parent: started, handed slices, watched by the parent's own clock, killed."""

from __future__ import annotations

import mmap
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from system_migration.batching.transform import Outcome, Task
from system_migration.batching.worker_main import COUNTER_BYTES, NO_ROW, OUT_OF_MEMORY, Orders
from system_migration.errors import MigrationFailed
from system_migration.references import Reference

TIME_LIMIT = "time_limit"
MEMORY_LIMIT = "memory_limit"
WORKER_DIED = "worker_died"
_LONGEST_LOOK = 1.0


class WorkerDied(Exception):
    """A worker ended with a slice in hand. `row` is the index of the row it was at, where that is known."""

    def __init__(self, code: str, message: str, row: int | None) -> None:
        self.code, self.message, self.row = code, message, row
        super().__init__(code, message, row)


class Worker:
    """One process with the migration prepared in it. Starting it returns at once; `wait_ready` waits."""

    def __init__(self, reference: Reference, row_seconds: float, row_memory: int | None) -> None:
        self._name, self._row_seconds, self._row_memory = reference.migration, row_seconds, row_memory
        ours, theirs = socket.socketpair()
        with tempfile.TemporaryFile() as file, theirs:
            file.truncate(COUNTER_BYTES)
            self._counter = memoryview(mmap.mmap(file.fileno(), COUNTER_BYTES)).cast("q")
            self._process = _start(theirs.fileno(), file.fileno())
        self._channel: Connection[Any, Any] = Connection(ours.detach())
        self._orders = Orders(os.getpid(), reference, row_memory)

    def wait_ready(self) -> None:
        """Wait until it is prepared. Raises why it cannot be: an error of the library's, or `MigrationFailed`."""
        try:
            self._channel.send(self._orders)
            kind, error = self._channel.recv()
        except (EOFError, OSError):
            raise self._unprepared(f"it ended ({self._ending()})") from None
        if kind == "failed":
            self.kill()
            raise self._unprepared(f"setup_worker: {error}") if isinstance(error, str) else error

    def _unprepared(self, reason: str) -> MigrationFailed:
        return MigrationFailed(self._name, f"a worker process could not be prepared: {reason}.")

    def ask(self, columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> list[Outcome]:
        """The outcomes of a slice. Raises `WorkerDied` when it does not live to tell."""
        slice_ = pickle.dumps(Task(columns, rows), pickle.HIGHEST_PROTOCOL)
        self._counter[0] = NO_ROW
        try:
            self._channel.send_bytes(slice_)
            self._watch()
            outcomes: list[Outcome] = self._channel.recv()[1]
        except (EOFError, OSError):
            raise self._death() from None
        return outcomes

    def kill(self) -> None:
        """End it now. May be called from any thread, while another one waits for an answer."""
        self._process.kill()

    def bury(self) -> None:
        """Kill it, wait for its end and close the channel. Only for the thread that asks."""
        self._process.kill()
        self._process.wait()
        self._channel.close()

    def _watch(self) -> None:
        """Return when there is an answer; kill it when one row takes too long, by this process's clock."""
        look = min(self._row_seconds / 8, _LONGEST_LOOK)
        row, since = NO_ROW, time.monotonic()
        while not self._channel.poll(look):
            now = time.monotonic()
            if self._counter[0] != row:
                row, since = self._counter[0], now
            elif now - since > self._row_seconds:
                self.kill()
                raise WorkerDied(TIME_LIMIT, f"transform took longer than {self._row_seconds:g} s", self._row())

    def _row(self) -> int | None:
        row: int = self._counter[0]
        return None if row == NO_ROW else row

    def _death(self) -> WorkerDied:
        ending, row = self._ending(), self._row()
        if self._process.returncode == OUT_OF_MEMORY:
            return WorkerDied(MEMORY_LIMIT, f"transform took more than {self._row_memory} bytes of memory", row)
        return WorkerDied(WORKER_DIED, f"transform ended its worker process ({ending})", row)

    def _ending(self) -> str:
        self._process.kill()  # a worker that closed its channel and goes on is of no use
        code = self._process.wait()
        return f"signal {-code}" if code < 0 else f"exit code {code}"


def _start(channel_fd: int, counter_fd: int) -> subprocess.Popen[bytes]:
    """A fresh interpreter that shares this one's import path, and of its files only the two that are named.

    Not `multiprocessing.Process`: its child runs the program's main script again, and one without the
    `__name__ == "__main__"` line would start its own migration there.
    """
    boot = (
        f"import sys; sys.path[:] = {sys.path!r}; from system_migration.batching.worker_main import main; "
        f"main({channel_fd}, {counter_fd})"
    )
    return subprocess.Popen(
        [sys.executable, "-c", boot],
        stdin=subprocess.DEVNULL,
        stdout=2,  # what the migration prints must not get into the command's result
        pass_fds=(channel_fd, counter_fd),
        start_new_session=True,  # Ctrl-C at the terminal is for the parent alone
    )
