"""Whether memory stays put when the table grows: a plain backfill of a small and a large table."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks import databases
from benchmarks.contestants import run_migration
from benchmarks.harness import ROOT, heading, judged, note, row
from benchmarks.plan import Plan
from system_migration import BatchMigration, Row, RunOptions, connect

SMALL, LARGE = 10_000, 2_000_000
FEW, MANY = 1_000, 20_000
"""Rows of very different size: 99 of 100 are tiny and come first; the last hundredth has 200,000 characters each."""
GOAL = 32.0
_LONG = {"sqlite": "replace(hex(zeroblob(100000)), '00', 'ab')", "postgresql": "repeat('ab', 100000)"}


class Backfill(BatchMigration):
    """Fill one column from another, as plain as it gets."""

    name = "001-backfill"
    table = "item"
    reads = ("label",)
    writes = ("upper",)

    def pending(self, t: sa.FromClause) -> sa.ColumnElement[bool]:
        return t.c.upper.is_(None)

    def transform(self, row: Row) -> Mapping[str, Any]:
        return {"upper": row.label.upper()}


def measure(plan: Plan, kind: str = "sqlite") -> Iterator[str]:
    """Peak memory of each size, in a process of its own, and how far the sizes of a pair are apart."""
    yield from heading(f"backfill on {kind}", "rows", "peak, MiB", "rows/s", "apart, MiB", "goal")
    for name, sizes, long in (("small rows", (SMALL, LARGE), False), ("sizes differ", (FEW, MANY), True)):
        peaks = []
        for size in sizes:
            rows = plan.rows(size)
            peak, rate = _measured(kind, rows, long)
            peaks.append(peak)
            apart = peak - peaks[0]
            verdict = [f"{apart:.1f}", judged(apart, GOAL, at_most=True)] if len(peaks) > 1 else ["", ""]
            yield row([name, f"{rows:,}", f"{peak:.1f}", f"{rate:,.0f}", *verdict])


def measure_on_postgresql(plan: Plan) -> Iterator[str]:
    """The same on PostgreSQL."""
    return measure(plan, "postgresql")


def _measured(kind: str, rows: int, long: bool) -> tuple[float, float]:
    with databases.database(kind) as url:
        _fill(url, kind, rows, long)
        ran = subprocess.run(
            [sys.executable, "-c", f"from benchmarks import memory; memory.run({url!r})"],
            check=True,
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        _check(url, rows)
    peak, seconds = (float(word) for word in ran.stdout.split())
    note(f"memory: {rows:,} rows: {peak:.1f} MiB")
    return peak, rows / seconds


def _fill(url: str, kind: str, rows: int, long: bool) -> None:
    first_long = rows - rows // 100 + 1 if long else rows + 1
    engine = connect(url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE item (id INTEGER PRIMARY KEY, label TEXT NOT NULL, upper TEXT)"))
        connection.execute(
            sa.text(
                "INSERT INTO item (id, label) WITH RECURSIVE n(i) AS"
                " (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :rows)"
                f" SELECT i, CASE WHEN i < :first_long THEN 'label number ' || i ELSE {_LONG[kind]} END FROM n"
            ),
            {"rows": rows, "first_long": first_long},
        )
    engine.dispose()


def _check(url: str, rows: int) -> None:
    engine = connect(url)
    with engine.connect() as connection:
        right = connection.execute(sa.text("SELECT count(*) FROM item WHERE upper = upper(label)")).scalar_one()
    engine.dispose()
    if right != rows:
        raise RuntimeError(f"{rows - right:,} of {rows:,} rows do not hold the right value afterwards")


def run(url: str) -> None:
    """Migrate and print the peak memory in MiB and the seconds. Called in a process of its own."""
    timing = run_migration(url, Backfill, RunOptions())
    print(_peak(), timing.whole)


def _peak() -> float:
    """This process's own peak: what `getrusage` tells begins with the peak of the process that started it."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise RuntimeError("this system does not tell a process its peak memory (VmHWM in /proc/self/status)")
    return int(found[1]) / 1024
