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
from system_migration import Migrator, Settings, connect, discover

ROUNDS = 15
_COMMAND = Path(sys.executable).with_name("migration")


def measure() -> Iterator[str]:
    """Medians of fresh processes, alternating so that a noisy moment hits all of them."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder, 'accounts.db')}"
        engine = connect(url, create=True)
        create_legacy_table(engine)
        with Migrator(engine, discover("ante_backend.migrations"), Settings()) as migrator:
            migrator.init()
        engine.dispose()
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "python -c 'import sqlalchemy'": [sys.executable, "-c", "import sqlalchemy"],
            "migration --help (goal 60 ms)": [str(_COMMAND), "--help"],
            "migration status (goal 300 ms)": [str(_COMMAND), "status", "--database-url", url],
        }
        times: dict[str, list[float]] = {label: [] for label in commands}
        for _ in range(ROUNDS):
            for label, command in commands.items():
                times[label].append(_milliseconds(command))
    for label, measured in times.items():
        yield f"{label:32} {statistics.median(measured):6.0f} ms median of {ROUNDS}"


def _milliseconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ)
    return (time.perf_counter() - began) * 1000
