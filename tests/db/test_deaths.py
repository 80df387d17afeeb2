"""Deaths, counted per gap: what a smaller gap inherits, and what progress makes forgotten."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from system_migration.batching.ranges import Gap
from system_migration.states import RunKind
from system_migration.store import tracking
from system_migration.store.database import Database
from system_migration.store.deaths import count_deaths, deaths_of, died_at
from system_migration.store.runs import Attempt
from tests.db.test_workbench import quick

RUN = Attempt("00000000-0000-0000-0000-000000000001", "test", "001-x", 1, RunKind.RUN, 1)


@pytest.fixture
def database(engine: Engine) -> Iterator[Database]:
    made = Database(quick(engine))
    tracking.ensure(made, "test")
    yield made
    made.close()


def gap(first: int, last: int | None) -> Gap:
    return Gap(first, last, None, None)


def died(database: Database, *gaps: Gap, pass_number: int = 1) -> None:
    with database.write() as connection:
        count_deaths(connection, RUN, pass_number, gaps)


def deaths(database: Database, *gaps: Gap, run: Attempt = RUN, pass_number: int = 1) -> list[int]:
    with database.read() as connection:
        return [deaths_of(connection, run, pass_number, each) for each in gaps]


def test_each_death_counts_for_every_gap(database: Database) -> None:
    assert deaths(database, gap(1, None)) == [0]
    died(database, gap(3, 4), gap(9, None))
    died(database, gap(3, 4), gap(9, None))
    assert deaths(database, gap(3, 4), gap(9, None), gap(5, 8)) == [2, 2, 0]


def test_a_part_of_a_gap_inherits_and_dies_on(database: Database) -> None:
    died(database, gap(100, 199))
    died(database, gap(150, 199))
    assert deaths(database, gap(150, 199), gap(175, 180), gap(100, 149), gap(199, 200)) == [2, 2, 1, 0]


def test_the_open_end_begins_anew_when_it_moved(database: Database) -> None:
    died(database, gap(9, None))
    died(database, gap(9, None))
    assert deaths(database, gap(9, None), gap(10, None)) == [2, 0]
    assert deaths(database, gap(9, 9), gap(12, 12), gap(8, 8)) == [2, 0, 0]  # only where the dead ones began


def test_a_death_is_known_by_where_it_began(database: Database) -> None:
    died(database, gap(100, 199))
    with database.read() as connection:
        assert [died_at(connection, RUN, 1, number) for number in (100, 150)] == [True, False]


def test_passes_and_generations_do_not_mix(database: Database) -> None:
    died(database, gap(1, None), pass_number=2)
    next_generation = Attempt(RUN.id, RUN.environment, RUN.name, 2, RUN.kind, RUN.fence)
    assert deaths(database, gap(1, None)) == [0]
    assert deaths(database, gap(1, None), run=next_generation, pass_number=2) == [0]
