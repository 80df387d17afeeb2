"""A migration whose rows do to their worker what their value says. Importable by name, for worker processes."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from system_migration import BatchMigration, Refused, Row, RowIssue

MEGABYTE = 1 << 20
SECRET = "s3cr3t"
"""Part of every hazardous value; nothing may quote it."""


class Hazard(BatchMigration):
    """`value` names a hazard, or is just upper-cased."""

    name = "001-hazard"
    table = "hazard"
    reads = ("value",)
    writes = ("result",)
    row_seconds = 1.0
    row_memory = 200 * MEGABYTE

    def setup_worker(self) -> None:
        self.kept: list[Any] = []
        self.prepared_in = os.getpid()

    def transform(self, row: Row) -> Mapping[str, Any]:
        act = HAZARDS.get(str(row.value).partition(" ")[0])
        return {"result": act(self, row.value) if act else row.value.upper()}


def _raise(migration: Hazard, value: str) -> None:
    raise ValueError(f"cannot read {value}")


def _decline(migration: Hazard, value: str) -> None:
    raise RowIssue("unreadable", "It cannot be read.")


def _hang(migration: Hazard, value: str) -> None:
    while True:
        try:
            while True:
                pass
        except Exception:
            pass


def _hang_in_c(migration: Hazard, value: str) -> None:
    ctypes.PyDLL(None).sleep(600)  # keeps the interpreter lock, so no thread of this process may help


def _announce_and_hang(migration: Hazard, value: str) -> None:
    _, how, path = value.split(" ")
    Path(path).write_text(f"{os.getpid()}\n")
    HAZARDS[how](migration, value)


def _eat_memory(migration: Hazard, value: str) -> None:
    _ = [bytearray(16 * MEGABYTE) for _ in range(128)]  # two gigabytes, were there no limit; never touched


def _leak(migration: Hazard, value: str) -> str:
    migration.kept.append(bytearray(120 * MEGABYTE))
    return "leaked"


def _exit(migration: Hazard, value: str) -> None:
    os._exit(3)


def _crash(migration: Hazard, value: str) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _pid(migration: Hazard, value: str) -> tuple[int, bool]:
    return os.getpid(), migration.prepared_in == os.getpid()


def _print(migration: Hazard, value: str) -> str:
    print("printed", flush=True)
    return "printed"


def _unpicklable(migration: Hazard, value: str) -> Any:
    return lambda: value


HAZARDS: Mapping[str, Callable[[Hazard, str], Any]] = {
    "raise": _raise,
    "decline": _decline,
    "hang": _hang,
    "hang-in-c": _hang_in_c,
    "announce": _announce_and_hang,
    "memory": _eat_memory,
    "leak": _leak,
    "exit": _exit,
    "crash": _crash,
    "pid": _pid,
    "print": _print,
    "unpicklable": _unpicklable,
}


class Patient(Hazard):
    row_seconds = 600.0


class Explosive:
    """A value that ends whichever process unpickles it: before a row is begun."""

    def __reduce__(self) -> Any:
        return os._exit, (4,)


class RefusingSetup(Hazard):
    def setup_worker(self) -> None:
        raise Refused("There is no key.")


class FailingSetup(Hazard):
    def setup_worker(self) -> None:
        raise RuntimeError(SECRET)


class Untold(Refused):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)  # so that its pickle does not load


class UntoldSetup(Hazard):
    def setup_worker(self) -> None:
        raise Untold("no", SECRET)


class LeavingSetup(Hazard):
    def setup_worker(self) -> None:
        raise SystemExit(SECRET)


class DyingSetup(Hazard):
    def setup_worker(self) -> None:
        os._exit(5)


class Counting(Hazard):
    """Tells in a file each time it is prepared."""

    row_seconds = 60.0
    folder: ClassVar[str] = "HAZARDS_FOLDER"

    def setup_worker(self) -> None:
        super().setup_worker()
        with (Path(os.environ[self.folder]) / "setups").open("a") as file:
            file.write(f"{os.getpid()}\n")
