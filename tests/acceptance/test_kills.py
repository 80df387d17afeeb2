"""`migration run` killed twenty times at random moments, with a real, short lease."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from tests.acceptance.conftest import MakeProject
from tests.support.command import Project
from tests.support.workload import prepare

SEED = 20_260
KILLS = 20
ROWS = 1_000
ROW_SECONDS = 0.012
LONGEST = 0.6
"""Seconds from a word of a run to its death. KILLS times this is less than all rows take: no run ends early."""

SLOW = """
import os
import time

from system_migration import BatchMigration


class Slow(BatchMigration):
    name = "001-slow"
    table = "item"
    reads = ("origin", "y")
    writes = ("y",)

    def transform(self, row):
        time.sleep(float(os.environ["ROW_SECONDS"]))
        return {"y": row.y + 1}

    def check(self, row):
        return row.y == row.origin + 1
"""


@dataclass(frozen=True)
class Told:
    """What came of twenty kills."""

    database: str
    batches: int
    landed: int
    takeovers: int
    changed: dict[Any, Any]
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.database}: {KILLS} kills (seed {SEED}), {self.batches} batches committed between them, "
            f"{self.landed} kills after new ones, {self.takeovers} takeovers, "
            f"rows by times changed: {self.changed}, {self.seconds:.1f} s"
        )


def kill_and_finish(project: Project) -> Told:
    prepare(project, ("001_slow", SLOW), rows=ROWS)
    project.run("init")
    project.environ["MIGRATION_LEASE_SECONDS"] = "0.5"
    random, began = Random(SEED), time.monotonic()
    arguments = ("run", "--wait", "--workers", "1")
    batches = [0]
    for number in range(KILLS):
        project.forks = bool(number % 5)
        with project.start(*arguments, "--batch-size", "5", env={"ROW_SECONDS": str(ROW_SECONDS)}) as running:
            if number % 5:  # one in five may come while the program and its libraries load, or it waits
                running.wait_for("preflight" if number % 5 == 1 else "migrating")
            time.sleep(random.uniform(0, LONGEST))
            assert running.kill().code == -9
        batches.append(count(project, "system_migration_ledger"))
    project.run(*arguments, "--batch-size", "100", env={"ROW_SECONDS": "0"})
    return Told(
        database=project.url.partition(":")[0],
        batches=batches[-1],
        landed=sum(later > earlier for earlier, later in pairwise(batches)),
        takeovers=count(project, "system_migration_event WHERE action = 'takeover'"),
        changed=dict(project.sql("SELECT y - origin, count(*) FROM item GROUP BY y - origin")),
        seconds=time.monotonic() - began,
    )


def count(project: Project, what: str) -> int:
    return int(project.sql(f"SELECT count(*) FROM {what}")[0][0])


def test_twenty_kills_and_every_row_exactly_once(
    new_project: MakeProject, sqlite_url: str, postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """On both databases at once: most of the time is spent waiting for leases."""
    assert KILLS * LONGEST <= ROWS * ROW_SECONDS
    projects = [new_project(sqlite_url), new_project(postgres_url)]
    with ThreadPoolExecutor(len(projects)) as pool:
        told = list(pool.map(kill_and_finish, projects))
    with capsys.disabled():
        print("", *told, sep="\n")
    for each in told:
        assert each.changed == {1: ROWS}
        assert 0 < each.batches * 5 < ROWS
        assert each.landed >= KILLS // 4
        assert each.takeovers >= KILLS // 2
