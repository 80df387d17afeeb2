"""What the figures share: clocks, lines of markdown, and words for the machine."""

from __future__ import annotations

import math
import os
import platform
import re
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from system_migration.migration import SilentProgress

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Timing:
    """Seconds of the work itself; for ours also of the whole run, from preflight to verification."""

    seconds: float
    whole: float | None = None


class Phases(SilentProgress):
    """A progress that only notes when each phase of a run began, on the clock that all processes share."""

    def __init__(self) -> None:
        self.began: dict[str, float] = {}

    def phase(self, migration: str, phase: str) -> None:
        self.began[phase] = time.monotonic()

    @property
    def migrating(self) -> float:
        """Seconds between the end of the preparations and the begin of the verification."""
        return self.began["verifying"] - self.began["migrating"]


def heading(*columns: str) -> list[str]:
    """The first two lines of a table; all columns but the first hold numbers."""
    return [row(columns), "|---|" + "---:|" * (len(columns) - 1)]


def row(cells: Iterable[str]) -> str:
    """A line of a table."""
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def judged(value: float, goal: float, *, at_most: bool = False) -> str:
    """A goal in words, and whether the value meets it."""
    met = value <= goal if at_most else value >= goal
    return f"{'≤' if at_most else '≥'} {goal:g}: {'met' if met else 'MISSED'}"


def percentile(samples: Sequence[float], share: float) -> float:
    """The sample that `share` of all are not above."""
    return sorted(samples)[math.ceil(share * len(samples)) - 1]


def sentence(error: BaseException) -> str:
    """The first line of an error, without the paths and addresses of this machine."""
    text = f"{type(error).__name__}: {error}".splitlines()[0]
    return re.sub(r"(/[\w.+-]+){2,}", "…", text)[:200]


def note(text: str) -> None:
    """Tell whoever waits how far we are; no part of the results."""
    print(f"  … {text}", file=sys.stderr, flush=True)


def machine() -> list[str]:
    """The machine and what runs on it, in words."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    parts = ", ".join(f"{name} {version(name)}" for name in ("SQLAlchemy", "psycopg", "PyMySQL", "bcrypt"))
    return [
        f"{os.cpu_count()} cores, {memory:.0f} GiB of memory, {platform.system()} on {platform.machine()}; "
        f"Python {platform.python_version()}, {parts}. "
        f"Load of the machine when the run began: {os.getloadavg()[0]:.1f}."
    ]
