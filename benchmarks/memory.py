"""Whether memory stays put when the table grows: a plain backfill of a small and a large table."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from system_migration import BatchMigration, Migrator, Registry, Row, Settings, connect

SMALL, LARGE = 10_000, 1_000_000


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


def measure() -> Iterator[str]:
    """Peak memory and speed of each size, in a process of its own."""
    peaks = []
    for rows in (SMALL, LARGE):
        with tempfile.TemporaryDirectory() as folder:
            url = f"sqlite:///{Path(folder, 'items.db')}"
            _fill(url, rows)
            ran = subprocess.run(
                [sys.executable, "-c", f"from benchmarks import memory; memory.run({url!r})"],
                check=True,
                capture_output=True,
                text=True,
            )
        peak, rate = (float(word) for word in ran.stdout.split())
        peaks.append(peak)
        yield f"plain backfill of {rows:>9,} rows   peak {peak:6.1f} MiB   {rate:8,.0f} rows/s on SQLite"
    yield f"apart {peaks[1] - peaks[0]:.1f} MiB (goal: at most 32)"


def _fill(url: str, rows: int) -> None:
    engine = connect(url, create=True)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE item (id INTEGER PRIMARY KEY, label TEXT NOT NULL, upper TEXT)"))
        connection.execute(
            sa.text(
                "INSERT INTO item (label) WITH RECURSIVE n(i) AS"
                " (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :rows) SELECT 'label number ' || i FROM n"
            ),
            {"rows": rows},
        )
    engine.dispose()


def run(url: str) -> None:
    """Migrate and print the peak memory in MiB and the rows a second. Called in a process of its own."""
    engine = connect(url)
    with Migrator(engine, Registry([Backfill]), Settings()) as migrator:
        began = time.perf_counter()
        (report,) = migrator.run()
        seconds = time.perf_counter() - began
    engine.dispose()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, report.records_processed / seconds)
