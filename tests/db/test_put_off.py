"""What the ledger says of rows that were put off: which of them the next pass has not done yet, in one question."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine

from system_migration.batching.ranges import Numbers
from system_migration.states import RunKind
from system_migration.store import ledger, tracking
from system_migration.store.database import Database
from system_migration.store.ledger import Deferred, Entry
from system_migration.store.runs import Attempt
from tests.db.test_workbench import quick, statements

RUN = Attempt("00000000-0000-0000-0000-000000000001", "test", "001-x", 1, RunKind.RUN, 1)


@pytest.fixture
def database(engine: Engine) -> Iterator[Database]:
    made = Database(quick(create_engine(engine.url)))
    tracking.ensure(made, "test")
    yield made
    made.close()


def record(database: Database, run: Attempt, number: int, first: int, last: int, upper: int, *deferred: int) -> None:
    """A batch of pass `number`, up to the key `upper`."""
    keys = [(key,) for key in deferred]
    attempt = f"{run.generation}-{number}-{first}"
    entry = Entry(attempt, number, Numbers(first, last), None, (upper,), 9, 9, 0, 0, 0, keys, 0.0)
    with database.write() as connection:
        ledger.record(connection, run, entry)


def put_off(database: Database) -> list[Deferred]:
    with database.read() as connection, statements("system_migration_ledger") as heard:
        found = ledger.deferred_ranges(connection, RUN)
    assert len(heard) == 1
    return found


def test_what_is_left_of_each_range(database: Database) -> None:
    record(database, RUN, 1, 1, 4, 10, 3, 5)  # done since
    record(database, RUN, 1, 5, 8, 20, 11, 12, 13, 14)  # done up to 12
    record(database, RUN, 1, 9, 12, 30)
    record(database, RUN, 1, 13, 16, 40, 31, 32)  # not done
    record(database, RUN, 2, 1, 4, 5)
    record(database, RUN, 2, 5, 5, 11)
    record(database, RUN, 2, 6, 6, 12, 12)  # and put off once more
    assert put_off(database) == [
        Deferred(1, Numbers(7, 8), [(13,), (14,)]),
        Deferred(1, Numbers(13, 16), [(31,), (32,)]),
        Deferred(2, Numbers(6, 6), [(12,)]),
    ]


def test_other_generations_do_not_count(database: Database) -> None:
    other = Attempt(RUN.id, RUN.environment, RUN.name, 2, RUN.kind, RUN.fence)
    record(database, RUN, 1, 1, 4, 10, 3)
    record(database, other, 1, 1, 4, 10, 4)
    record(database, other, 2, 1, 4, 10)
    assert put_off(database) == [Deferred(1, Numbers(1, 4), [(3,)])]


def test_nothing_put_off_is_nothing_to_do(database: Database) -> None:
    record(database, RUN, 1, 1, 4, 10)
    assert put_off(database) == []
