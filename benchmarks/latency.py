"""What an application on PostgreSQL feels of a run: its slowest answers, alone, unthrottled, and with `max_rate`."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import sqlalchemy as sa

from benchmarks import databases
from benchmarks.application import RATE
from benchmarks.contestants import run_migration
from benchmarks.harness import ROOT, Phases, heading, judged, note, percentile, row
from benchmarks.plan import Plan
from benchmarks.workload import TEXT, RotateInPython, fill_source, fresh_table, wrong_rows
from system_migration import RunOptions, connect

ROWS = 600_000
REQUESTS = 2_000
GOAL = 3.0


def measure(plan: Plan) -> Iterator[str]:
    """Baseline, an unthrottled run, and a run at a quarter of that speed."""
    rows = plan.rows(ROWS)
    with databases.database("postgresql") as url:
        engine = connect(url)
        fill_source(engine, TEXT, rows)
        _fresh(engine)
        alone = _alone(url, rows, plan.rows(REQUESTS))
        full, speed = _during_a_run(engine, url, rows, RunOptions())
        quarter, slow_speed = _during_a_run(engine, url, rows, RunOptions(max_rate=speed / 4))
        engine.dispose()
    yield f"{rows:,} rows; {RATE:.0f} times a second the application updates one row of the table and reads it."
    yield ""
    yield from heading("migration", "rows/s", "requests", "median, ms", "p99, ms", "p99 beside none", "goal")
    yield _line("none", None, alone, alone)
    yield _line("unthrottled", speed, full, alone)
    yield _line("max_rate at a quarter of that", slow_speed, quarter, alone, GOAL)


def _line(
    name: str, speed: float | None, latencies: Sequence[float], alone: Sequence[float], goal: float | None = None
) -> str:
    p99 = percentile(latencies, 0.99)
    ratio = p99 / percentile(alone, 0.99)
    return row(
        [
            name,
            "" if speed is None else f"{speed:,.0f}",
            f"{len(latencies):,}",
            f"{statistics.median(latencies):.1f}",
            f"{p99:.1f}",
            f"{ratio:.1f}",
            "" if goal is None else judged(ratio, goal, at_most=True),
        ]
    )


def _fresh(engine: sa.Engine) -> None:
    fresh_table(engine, TEXT)
    with engine.begin() as connection:  # the application's own column: what it changes is not what we change
        connection.execute(sa.text("ALTER TABLE item ADD COLUMN touched integer NOT NULL DEFAULT 0"))


def _alone(url: str, rows: int, requests: int) -> list[float]:
    with _application(url, rows, requests) as process:
        return [latency for _, latency in _answers(process)]


def _during_a_run(engine: sa.Engine, url: str, rows: int, options: RunOptions) -> tuple[list[float], float]:
    """What the application felt while rows were being migrated, and their rate."""
    _fresh(engine)
    phases = Phases()
    with _application(url, rows) as process:
        timing = run_migration(url, RotateInPython, options, phases)
        assert process.stdin is not None
        process.stdin.close()  # which ends it
        answers = _answers(process)
    if wrong := wrong_rows(engine, TEXT, rows):
        raise RuntimeError(f"{wrong:,} of {rows:,} rows do not hold the right value afterwards")
    note(f"latency: {rows / timing.seconds:,.0f} rows/s")
    began, ended = phases.began["migrating"], phases.began["verifying"]
    return [latency for due, latency in answers if began <= due <= ended], rows / timing.seconds


def _answers(process: subprocess.Popen[str]) -> list[tuple[float, float]]:
    """When each request was due and how long it took, once the application has ended."""
    assert process.stdout is not None
    told = process.stdout.read()  # before waiting: it cannot end while nobody reads what it has to tell
    if process.wait() != 0:
        raise RuntimeError("the application ended with an error, shown above")
    return [(due, latency) for due, latency in json.loads(told)]


@contextmanager
def _application(url: str, rows: int, requests: int = 0) -> Iterator[subprocess.Popen[str]]:
    """The application at work, for that many requests or (0) until its input is closed."""
    command = [sys.executable, "-m", "benchmarks.application", url, str(rows), str(requests)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise RuntimeError("the application could not connect")
            yield process
        finally:
            process.kill()  # does nothing once it has ended
