"""Rows that raise, hang, exhaust memory or break a constraint: each is held for what it did, and no other row is."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping
from typing import ClassVar

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine

from system_migration import RunOptions, Status
from tests.db.test_workbench import migrator, rows_of
from tests.support.hazards import Hazard
from tests.support.torture import scale

BATCH = 250
ROWS = scale(1_000, 10_000)
WORKER_KILLERS = {"hang": (3, "time_limit"), "memory": (2, "memory_limit")}
IN_TRANSFORM = {"raise": (37, "transform_error"), **WORKER_KILLERS}
IN_THE_DATABASE = {"forbidden": (5, "constraint_violation")}
Poison = Mapping[str, tuple[int, str]]

pytestmark = pytest.mark.databases("sqlite")


class PoisonRows(Hazard):
    name = "001-poison-rows"
    table = "poison"
    max_issues: ClassVar[int] = 47

    def pending(self, t: sa.FromClause) -> sa.ColumnElement[bool]:
        return t.c.result.is_(None)


def fill(engine: Engine, poison: Poison) -> dict[int, str]:
    """Rows of which some are poison, anywhere among them. Returns the code that each of those is to be held with."""
    hazards = [(hazard, code) for hazard, (count, code) in poison.items() for _ in range(count)]
    keys = random.Random(47).sample(range(1, ROWS + 1), len(hazards))
    values = dict(zip(keys, (hazard for hazard, _ in hazards), strict=True))
    table = sa.Table(
        "poison",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("value", sa.String(40), nullable=False),
        sa.Column("result", sa.String(40)),
        sa.CheckConstraint("result <> 'FORBIDDEN'", name="ck_poison_result"),
    )
    with engine.begin() as connection:
        table.create(connection)
        rows = [{"id": key, "value": values.get(key, f"v{key}")} for key in range(1, ROWS + 1)]
        connection.execute(table.insert(), rows)
    return dict(zip(keys, (code for _, code in hazards), strict=True))


def check(engine: Engine, poison: Poison) -> None:
    """Run it, and find every row migrated but those of poison, each of which is held with its own code."""
    expected = fill(engine, poison)
    runner = migrator(engine, PoisonRows)
    (report,) = runner.run(options=RunOptions(processes=2, batch_size=BATCH))
    found = {issue.key: issue.code for issue in runner.issues("001-poison-rows")}
    assert found == expected
    migrated = {(key, f"V{key}") for key in range(1, ROWS + 1)} - {(key, f"V{key}") for key in expected}
    assert set(rows_of(engine, "SELECT id, result FROM poison WHERE result IS NOT NULL")) == migrated
    assert (report.status, report.issues) == (Status.COMPLETED, len(expected))
    assert report.records_processed == ROWS - len(expected)


def deaths(caplog: pytest.LogCaptureFixture) -> int:
    return Counter(record.name for record in caplog.records)["system_migration.batching.processes"]


def test_what_a_row_does_in_transform_costs_that_row_alone(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    check(engine, IN_TRANSFORM)
    killers = sum(count for count, _ in WORKER_KILLERS.values())
    assert killers <= deaths(caplog) <= killers * (math.log2(BATCH) + 3)


def test_of_every_kind_of_poison_exactly_those_rows_are_held(engine: Engine) -> None:
    check(engine, IN_TRANSFORM | IN_THE_DATABASE)
