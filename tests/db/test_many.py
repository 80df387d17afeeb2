"""Looking stays quick where there are hundreds of migrations, and a long history."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine, event

from system_migration import Migrator, RunOptions, overview
from system_migration.store import tables
from tests.db.test_workbench import Fill, make_numbers, migrator, statements

MANY = 500
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = [f"{number:03}-fill" for number in range(1, MANY + 1)]


def many(engine: Engine) -> Migrator:
    """Migrations, of which every other one requires the first."""
    forms = [
        type("Many", (Fill,), {"name": name, "requires": NAMES[: number % 2]}) for number, name in enumerate(NAMES)
    ]
    made = migrator(engine, *forms)
    made.init()
    return made


def row(table: sa.Table, **values: Any) -> dict[str, Any]:
    """A row of ours, with something in each column that must have something."""
    plain: dict[type, Any] = {str: "", int: 0, float: 0.0, bool: False}  # what is left is a time
    needed = {
        c.name: plain.get(c.type.python_type, LONG_AGO)
        for c in table.c
        if not c.nullable and c.autoincrement is not True
    }
    return needed | {"environment": "test", "generation": 1} | values


def test_the_status_of_many_is_one_select(engine: Engine) -> None:
    made = many(engine)
    with statements() as heard:
        report = made.status()
    assert len(report.migrations) == MANY
    assert len(heard) == 1


def test_what_waits_for_others_is_found_out_once_for_all(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    made, asked = many(engine), []
    ask = overview._is_to_do
    monkeypatch.setattr(overview, "_is_to_do", lambda *given: asked.append(given) or ask(*given))
    made.status()
    assert len(asked) <= 2 * MANY


@pytest.mark.databases("postgresql")
def test_postgresql_does_not_compile_the_select_of_the_status(engine: Engine) -> None:
    """It takes a second, and does so when it thinks that the ledger must be read for every migration."""
    made = many(engine)
    migrations = [row(tables.migration, name=name, version="1", status="COMPLETED", pins="{}") for name in NAMES]
    batches = [
        row(tables.ledger, name=NAMES[0], **{"pass": 1}, range=number, attempt=str(number)) for number in range(10_000)
    ]
    with engine.begin() as connection:
        connection.execute(tables.migration.insert(), migrations)
        connection.execute(tables.ledger.insert(), batches)
        connection.exec_driver_sql("ANALYZE")
    asked: list[tuple[str, Any]] = []

    def hear(_c: Any, _cursor: Any, statement: str, parameters: Any, _x: Any, _many: bool) -> None:
        asked.append((statement, parameters))

    with heard_by(hear):
        made.status()
    with engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN {asked[-1][0]}", asked[-1][1]).scalars().all()
    assert any("system_migration_ledger" in line for line in plan)
    assert "JIT:" not in plan


@contextmanager
def heard_by(hear: Any) -> Iterator[None]:
    event.listen(Engine, "before_cursor_execute", hear)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", hear)


def test_the_batches_of_a_run_are_those_of_all_that_it_made(engine: Engine) -> None:
    make_numbers(engine, 9)
    made = migrator(engine, Fill)
    by_twos = RunOptions(batch_size=2, workers=1)
    (first,) = made.run("001-fill", replace(by_twos, from_key="40"))
    (second,) = made.run("001-fill", by_twos)
    everything = made.batches("001-fill")
    for run_id in (first.run_id, second.run_id):
        mine = [batch for batch in everything if batch.run_id == run_id]
        assert len(mine) > 1
        assert made.batches("001-fill", run_id=run_id) == mine
        assert made.batches("001-fill", run_id=run_id, limit=1) == mine[:1]
    assert made.batches("001-fill", run_id="no run") == []
