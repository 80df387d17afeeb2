"""Forked processes that say how they end, and stand still where a test wants them to.

A child is forked after the imports, with no connection open in the parent, and makes an engine of its own. Nothing here
waits by the clock: a parent reads a pipe until the child says something, or is gone.
"""

from __future__ import annotations

import ctypes
import gc
import os
import pickle
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from tests.crash.moments import Moment

PATIENCE = 60.0
"""After this many seconds without a word a child hangs, and the test fails. Never reached in a test that passes."""


@dataclass(frozen=True)
class Ending:
    """How a child ended: killed at a moment, by an error, or with a value."""

    killed_at: Moment | None = None
    value: Any = None
    error: str | None = None
    message: str = ""


class Child:
    """A forked process and what it says. Ended, if need be by force, when the block is left."""

    def __init__(self, work: Callable[[Child], Any]) -> None:
        parent = os.getpid()
        self._reader, self._writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self._live(parent, work)
        os.close(self._writer)
        self._ending: Ending | None = None

    def _live(self, parent: int, work: Callable[[Child], Any]) -> None:
        gc.freeze()  # or its collector copies, page by page, what is the parent's
        try:
            _die_with(parent)
            ending = Ending(value=work(self))
        except BaseException as error:
            ending = Ending(error=type(error).__name__, message=f"{error}\n{traceback.format_exc()}")
        try:
            self._say(ending)
        finally:
            os._exit(0)  # no clean-up of pytest's: that is the parent's

    def _say(self, ending: Ending) -> None:
        data = pickle.dumps(ending)
        while data:
            data = data[os.write(self._writer, data) :]

    def die_at(self, moment: Moment) -> None:
        """In the child: say where, and be gone as a power cut would have it."""
        self._say(Ending(killed_at=moment))
        os.kill(os.getpid(), signal.SIGKILL)

    def wait(self, patience: float = PATIENCE) -> Ending:
        """Let it end."""
        if self._ending is None:
            said = b""
            while True:
                self._listen([self._reader], patience)
                part = os.read(self._reader, 65536)
                if not part:
                    break
                said += part
            self._bury(Ending(error="Silence", message="it died without a word"))
            if said:
                self._ending = pickle.loads(said)
        return self._ending

    def wait_for(self, gate: Gate) -> None:
        """Wait until the child stands at the gate; it is an error if it ends instead."""
        ready = self._listen([gate.reached, self._reader])
        if gate.reached not in ready:
            raise AssertionError(f"the child never came to the gate: {self.wait()}")
        os.read(gate.reached, 1)

    def wait_until_frozen(self) -> None:
        """Wait until it has sent SIGSTOP to itself, see `freeze`; it is an error if it ends instead."""
        until = time.monotonic() + PATIENCE
        while (state := os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT | os.WNOHANG)) is None:
            assert time.monotonic() < until, "the child never froze"
            time.sleep(0.002)
        assert state.si_code == os.CLD_STOPPED, f"the child did not freeze: {self.wait()}"

    def thaw(self) -> None:
        """Let a frozen child go on."""
        os.kill(self.pid, signal.SIGCONT)

    def is_at(self, gate: Gate) -> bool:
        """Whether the child stands at the gate now."""
        return bool(select.select([gate.reached], [], [], 0)[0])

    def _listen(self, descriptors: Sequence[int], patience: float = PATIENCE) -> list[int]:
        ready, _, _ = select.select(descriptors, [], [], patience)
        if not ready:
            self.kill()
            raise AssertionError(f"the child said nothing for {patience:.0f} seconds")
        return ready

    def kill(self) -> None:
        """Kill -9, now."""
        if self._ending is None:
            os.kill(self.pid, signal.SIGKILL)
            self._bury(Ending(error="Killed", message="by its parent"))

    def _bury(self, ending: Ending) -> None:
        """From here on its number may be another process's, and is never used again."""
        self._ending = ending
        os.waitpid(self.pid, 0)
        os.close(self._reader)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def _die_with(parent: int) -> None:
    """A killed pytest cleans nothing up, so the kernel does."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def freeze() -> None:
    """In a child: stand still with all threads, as in a paused virtual machine, until the parent lets it thaw."""
    os.kill(os.getpid(), signal.SIGSTOP)


class Gate:
    """Where a child stops, once, until it is let through. Make it before the child."""

    def __init__(self) -> None:
        self.reached, self._reach = os.pipe()
        self._passage, self._open = os.pipe()
        self.passed = False
        self._first = threading.Lock()

    def stop(self) -> None:
        """In the child: say that we are here, and wait. Only the first thread stops, and once."""
        if self._first.acquire(blocking=False):
            self.passed = True
            os.write(self._reach, b".")
            os.read(self._passage, 1)

    def open(self) -> None:
        """In the parent: let it through."""
        os.write(self._open, b".")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in (self.reached, self._reach, self._passage, self._open):
            os.close(descriptor)
