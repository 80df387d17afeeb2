"""How long the command line takes to answer."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ante_backend.seed import create_legacy_table
from benchmarks.harness import heading, judged, row
from benchmarks.plan import Plan
from system_migration import Migrator, Settings, connect, discover

ROUNDS = 15
_COMMAND = Path(sys.executable).with_name("migration")


def measure(plan: Plan) -> Iterator[str]:
    """Medians of fresh processes, alternating so that a noisy moment hits all of them."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder, 'accounts.db')}"
        engine = connect(url, create=True)
        create_legacy_table(engine)
        with Migrator(engine, discover("ante_backend.migrations"), Settings()) as migrator:
            migrator.init()
        engine.dispose()
        commands: dict[str, tuple[list[str], float | None]] = {
            "python -c pass": ([sys.executable, "-c", "pass"], None),
            "python -c 'import sqlalchemy'": ([sys.executable, "-c", "import sqlalchemy"], None),
            "migration --help": ([str(_COMMAND), "--help"], 60),
            "migration status": ([str(_COMMAND), "status", "--database-url", url], 300),
        }
        times: dict[str, list[float]] = {label: [] for label in commands}
        for _ in range(plan.rows(ROUNDS)):
            for label, (command, _goal) in commands.items():
                times[label].append(_milliseconds(command))
    yield from heading(f"median of {plan.rows(ROUNDS)} fresh processes", "ms", "goal")
    for label, (_command, goal) in commands.items():
        median = statistics.median(times[label])
        yield row([label, f"{median:.0f}", "" if goal is None else judged(median, goal, at_most=True)])


def _milliseconds(command: list[str]) -> float:
    began = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ)
    return (time.monotonic() - began) * 1000
