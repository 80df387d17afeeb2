"""What processes bring to a transform that holds the interpreter lock."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from benchmarks import databases
from benchmarks.contestants import run_migration
from benchmarks.harness import Timing, heading, judged, note, row
from benchmarks.plan import Plan
from benchmarks.workload import Change, fill_source, fresh_table
from system_migration import BatchMigration, Row, RunOptions, connect

ROWS = 6_000
GOAL = 1.8
_STEPS = 30_000
_SAMPLE = 20


def grind(text: str) -> str:
    """A few milliseconds of pure Python."""
    value = int(text)
    for _ in range(_STEPS):
        value = (value * 1_103_515_245 + 12_345) % 2_147_483_648
    return str(value)


class Grind(BatchMigration):
    """In place, computed in Python alone."""

    name = "001-grind"
    table = "item"
    reads = ("v",)
    writes = ("v",)

    def transform(self, row: Row) -> Mapping[str, Any]:
        return {"v": grind(row.v)}


NUMBER = Change(sa.Text(), str, grind, lambda t: t.c.v, Grind)


def measure(plan: Plan) -> Iterator[str]:
    """The migrating phase in threads and in two processes, their start included, on SQLite."""
    rows = plan.rows(ROWS)
    cost = _seconds_a_row()
    threads, processes = _run(rows, RunOptions()), _run(rows, RunOptions(processes=2))
    factor = threads.seconds / processes.seconds
    yield from heading(f"{rows:,} rows of {cost * 1000:.1f} ms pure Python each", "seconds", "times as fast", "goal")
    yield row(["threads", f"{threads.seconds:.2f}", "1", ""])
    yield row(["2 processes", f"{processes.seconds:.2f}", f"{factor:.2f}", judged(factor, GOAL)])


def _seconds_a_row() -> float:
    began = time.monotonic()
    for number in range(_SAMPLE):
        grind(str(number))
    return (time.monotonic() - began) / _SAMPLE


def _run(rows: int, options: RunOptions) -> Timing:
    with databases.database("sqlite") as url:
        engine = connect(url)
        fill_source(engine, NUMBER, rows)
        fresh_table(engine, NUMBER)
        timing = run_migration(url, Grind, options)
        _check(engine, rows)
        engine.dispose()
    note(f"processes={options.processes}: {timing.seconds:.2f} s")
    return timing


def _check(engine: sa.Engine, rows: int) -> None:
    """Every fiftieth row: all of them would take as long as the measurement."""
    item = NUMBER.table()
    with engine.connect() as connection:
        found: dict[int, str] = dict(connection.execute(sa.select(item)).all())
    sample = range(1, rows + 1, 50)
    if len(found) != rows or any(found[key] != grind(str(key)) for key in sample):
        raise RuntimeError("a row does not hold the right value afterwards")
