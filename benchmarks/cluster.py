"""What the workers of a Dask cluster bring to 001-password-bcrypt, beside the threads of one machine.

All of it runs on this machine, so that two workers cannot be faster than two threads: the figures show what a worker
adds, and what the way to it costs. The latter is measured by rows that only wait, too: they need no core, so whatever
else the machine does changes little.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks.harness import Phases, Timing, heading, judged, note, row
from benchmarks.passwords import KEY, migrated
from benchmarks.plan import Plan
from system_migration import BatchMigration, Migrator, Registry, Row, RunOptions, Settings, connect
from tests.support.servers import TETHERED

ACCOUNTS = 900
WAITS = 600
TIMES_AS_FAST = 1.8
OF_THREADS = 1.1
_COST = 10
_WAIT_SECONDS = 0.05
_PATIENCE = 60.0


def measure(plan: Plan) -> Iterator[str]:
    """The migrating phase with one worker of one thread, with two, and with two threads of the coordinator's own."""
    accounts, waits = plan.rows(ACCOUNTS), plan.rows(WAITS)
    yield from _compared(f"{waits:,} rows that wait {_WAIT_SECONDS * 1000:.0f} ms each", waits, _waited)
    yield ""
    yield from _compared(f"{accounts:,} accounts, cost {_COST}, SQLite", accounts, migrated)


def _compared(title: str, rows: int, run: Callable[[int, RunOptions], Timing]) -> Iterator[str]:
    threads = run(rows, RunOptions(workers=2))
    timings = []
    for number in (1, 2):
        with _cluster(number) as address:
            timings.append(run(rows, RunOptions(dask=address)))
    one, two = timings
    factor, share = one.seconds / two.seconds, two.seconds / threads.seconds
    yield from heading(title, "seconds", "a second", "compared", "goal")
    yield row(["2 threads of one process", *_told(threads, rows), "", ""])
    yield row(["1 Dask worker of 1 thread", *_told(one, rows), "", ""])
    yield row(["2 Dask workers of 1 thread each", *_told(two, rows), "", ""])
    yield row(["... against one worker", "", "", f"{factor:.2f} times as fast", judged(factor, TIMES_AS_FAST)])
    yield row(["... against two threads", "", "", f"{share:.2f} of the time", judged(share, OF_THREADS, at_most=True)])


def _told(timing: Timing, accounts: int) -> list[str]:
    note(f"{timing.seconds:.2f} s")
    return [f"{timing.seconds:.1f}", f"{accounts / timing.seconds:.1f}"]


class Waiting(BatchMigration):
    """Every row takes its time, and no core."""

    name = "001-waiting"
    table = "item"
    reads = ("v",)
    writes = ("v",)

    def transform(self, row: Row) -> Mapping[str, Any]:
        time.sleep(_WAIT_SECONDS)
        return {"v": row.v + 1}


_ITEM = sa.Table(
    "item", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("v", sa.Integer, nullable=False)
)


def _waited(rows: int, options: RunOptions) -> Timing:
    with tempfile.TemporaryDirectory() as folder:
        engine = connect(f"sqlite:///{Path(folder, 'items.db')}", create=True)
        _ITEM.create(engine)
        with engine.begin() as connection:
            connection.execute(_ITEM.insert(), [{"id": number, "v": number} for number in range(rows)])
        phases = Phases()
        with Migrator(engine, Registry([Waiting]), Settings(), progress=phases) as migrator:
            migrator.run(options=options)
        with engine.connect() as connection:
            wrong = connection.execute(sa.select(_ITEM.c.id).where(_ITEM.c.v != _ITEM.c.id + 1)).all()
        engine.dispose()
    if wrong:
        raise RuntimeError("a row does not hold the right value afterwards")
    return Timing(phases.migrating)


@contextmanager
def _cluster(number: int) -> Iterator[str]:
    """The address of a scheduler that has so many workers."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        told = Path(folder, "scheduler.json")
        stack.enter_context(_started("dask_scheduler", "--port=0", "--no-show", f"--scheduler-file={told}"))
        address = _address(told)
        for _ in range(number):
            words = (address, "--nthreads=1", "--no-nanny", f"--local-directory={folder}")
            stack.enter_context(_started("dask_worker", *words))
        _wait_for(address, number)
        yield address


@contextmanager
def _started(command: str, *words: str) -> Iterator[None]:
    environ = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"} | {"ENCRYPTION_KEY": KEY}
    arguments = (sys.executable, "-m", f"distributed.cli.{command}", *words, "--no-dashboard", "--host=127.0.0.1")
    tether = (sys.executable, str(TETHERED), str(int(signal.SIGKILL)), str(os.getpid()), "")  # a killed benchmark, too
    process = subprocess.Popen((*tether, *arguments), env=environ, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _address(told: Path) -> str:
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        try:
            return str(json.loads(told.read_text(encoding="utf-8"))["address"])
        except (FileNotFoundError, ValueError):
            time.sleep(0.05)
    raise RuntimeError("the scheduler did not come up")


def _wait_for(address: str, number: int) -> None:
    from distributed import Client

    with Client(address, set_as_default=False) as client:  # type: ignore[no-untyped-call]
        client.wait_for_workers(number, timeout=_PATIENCE)
