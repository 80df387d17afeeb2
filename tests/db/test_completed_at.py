"""What a migration is told about others: when they were done, and nothing unless they are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import ClassVar

import pytest
from sqlalchemy import Engine

from system_migration import BatchContext, Migration, MigrationContext, MigrationResult, RunOptions
from tests.db.test_workbench import Increment, make_numbers, migrator


class Asks(Migration):
    name = "002-asks"
    answers: ClassVar[list[datetime | None]] = []

    def preflight(self, context: MigrationContext) -> None:
        self.answers.append(context.completed_at("001-increment"))

    def up(self, context: MigrationContext) -> MigrationResult:
        self.answers.append(context.completed_at("001-increment"))
        return MigrationResult()


class AsksInBatches(Increment):
    name = "003-asks"
    answers: ClassVar[list[datetime | None]] = []

    def preflight(self, context: BatchContext) -> None:  # type: ignore[override]
        self.answers.append(context.completed_at("001-increment"))

    def verify(self, context: BatchContext) -> bool:  # type: ignore[override]
        self.answers.append(context.completed_at("001-increment"))
        return True


@pytest.fixture(autouse=True)
def answers() -> None:
    Asks.answers, AsksInBatches.answers = [], []


def test_a_completed_migration_tells_when(engine: Engine) -> None:
    make_numbers(engine, 3)
    with migrator(engine, Increment, Asks, AsksInBatches) as m:
        m.run()
        finished = m.status().migrations[0].finished_at
        other = migrator(engine, Increment, AsksInBatches, environment="elsewhere")
        other.dry_run("003-asks", RunOptions(allow_environment=True))
    assert finished is not None
    assert abs(datetime.now(UTC) - finished) < timedelta(minutes=10)
    assert Asks.answers == [finished, finished]
    assert AsksInBatches.answers == [finished, finished, None]


@pytest.mark.databases("sqlite", "postgresql")
def test_one_that_is_not_completed_tells_nothing(engine: Engine) -> None:
    make_numbers(engine, 3)
    with migrator(engine, Increment, Asks) as m:
        m.dry_run("002-asks")
        m.run("001-increment")
        m.reset("001-increment", "again")
        m.dry_run("002-asks")
    assert set(Asks.answers) == {None}


def test_where_nothing_was_ever_written_nothing_is_completed(engine: Engine) -> None:
    """Asking must not spoil the transaction of the dry run, though our tables do not exist."""
    make_numbers(engine, 3)
    with migrator(engine, Asks) as m:
        m._tracked.ready_to_report = lambda allow_environment: False  # type: ignore[method-assign]  # as a reader's role
        (report,) = m.dry_run("002-asks")
    assert (report.error, report.refusal) == (None, None)
    assert Asks.answers == [None, None]
