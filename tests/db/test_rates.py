"""Rows a second, from the newest rows of the ledger, whatever compaction and earlier runs have left in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event, insert, text, update

from system_migration import Migrator
from system_migration.store import migrations, rates, tables, tracking
from system_migration.store.database import Database
from system_migration.store.journal import UNDOING
from system_migration.store.times import after
from tests.db.test_workbench import Increment, migrator, quick

NAME, OTHER = "001-increment", "002-other"
RUN, EARLIER = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"


@pytest.fixture
def database(engine: Engine) -> Iterator[Database]:
    """Two migrations, each with a current run that has committed nothing."""
    made = Database(quick(engine))
    tracking.ensure(made, "test")
    with made.write() as connection:
        for name in (NAME, OTHER):
            migrations.add(connection, "test", name, "1.0.0")
        connection.execute(update(tables.migration).values(run_id=RUN, generation=2))
    yield made
    made.close()


@pytest.fixture
def looking(engine: Engine, database: Database) -> Migrator:
    return migrator(engine, Increment)


def committed(database: Database, *batches: dict[str, Any]) -> None:
    """Batches of a hundred rows that took five seconds each, so many seconds `ago`, numbered in this order."""
    usual = {
        "environment": "test",
        "name": NAME,
        "generation": 2,
        "pass": 1,
        "batches": 1,
        "run_id": RUN,
        "rows_read": 100,
        "changed": 100,
        **dict.fromkeys(("unchanged", "held", "vanished", "deferred"), 0),
        "seconds": 5.0,
    }
    with database.write() as connection:
        for number, batch in enumerate(batches, 1):
            values = {**usual, "range": number, "last_range": number, **batch}
            attempt = f"{values['name']} {values['generation']} {values['pass']} {values['range']}"
            ago = float(values.pop("ago"))
            connection.execute(insert(tables.ledger).values(attempt=attempt, committed_at=after(-ago), **values))


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The nodes of a plan."""
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def about(rate: float) -> Any:
    """The test itself takes some of the time."""
    return pytest.approx(rate, rel=0.15)


def test_a_run_that_is_younger_than_a_minute_counts_from_its_first_batch(database: Database, looking: Migrator) -> None:
    committed(database, *({"ago": 40 - 10 * number} for number in range(5)))
    assert looking.rates([NAME]) == {NAME: about(500 / 45)}


def test_only_about_the_last_minute_counts(database: Database, looking: Migrator) -> None:
    committed(database, *({"ago": 298 - 5 * number, "rows_read": 900 if number < 48 else 100} for number in range(60)))
    assert looking.rates([NAME]) == {NAME: about(1200 / 60)}


def test_without_a_batch_in_the_last_minute_there_is_no_rate(database: Database, looking: Migrator) -> None:
    committed(database, {"ago": 90}, {"ago": 61})
    assert looking.rates([NAME, OTHER, "003-unknown"]) == {}
    assert looking.rates([]) == {}


def test_one_that_has_just_begun_is_not_thought_faster_than_it_was_in_a_second(
    database: Database, looking: Migrator
) -> None:
    committed(database, {"ago": 0, "seconds": 0.001})
    assert looking.rates([NAME]) == {NAME: about(100)}


def test_rows_that_were_put_off_are_not_done(database: Database, looking: Migrator) -> None:
    committed(database, {"ago": 5, "deferred": 40})
    assert looking.rates([NAME]) == {NAME: about(60 / 10)}


def test_what_was_compacted_counts_as_what_came_before(database: Database, looking: Migrator) -> None:
    """Nobody knows how many of its rows were committed in the last minute, nor of those that stood among them."""
    whole = {"ago": 20, "batches": 5000, "rows_read": 1_000_000, "seconds": 900.0}
    committed(database, {"ago": 55}, whole, {"ago": 30}, *({"ago": 15 - 5 * number} for number in range(4)))
    assert looking.rates([NAME]) == {NAME: about(400 / 20)}


def test_only_the_current_run_counts(database: Database, looking: Migrator) -> None:
    before = [{"ago": 30, "generation": 1, "rows_read": 900}, {"ago": 20, "run_id": EARLIER, "rows_read": 900}]
    committed(database, *before, {"ago": 15}, {"ago": 5, "pass": 2, "range": 1})
    assert looking.rates([NAME]) == {NAME: about(200 / 20)}


def test_a_rollback_works_from_the_last_to_the_first(
    database: Database, looking: Migrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "NEWEST", 4)
    undone = ({"ago": 45 - 5 * number, "pass": UNDOING, "range": 99 - number} for number in range(10))
    committed(database, *undone)
    assert looking.rates([NAME]) == {NAME: about(400 / 20)}


def test_of_a_fast_run_the_newest_batches_speak(
    database: Database, looking: Migrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "NEWEST", 4)
    committed(database, *({"ago": 45 - 5 * number} for number in range(10)))
    assert looking.rates([NAME]) == {NAME: about(400 / 20)}


def test_all_names_are_one_question(database: Database, looking: Migrator) -> None:
    committed(database, {"ago": 5})
    committed(database, {"ago": 5, "name": OTHER, "rows_read": 700})
    sent: list[str] = []
    event.listen(looking._database.engine, "before_cursor_execute", lambda *given: sent.append(given[2]))
    assert looking.rates([NAME, OTHER, "003-unknown"]) == {NAME: about(10), OTHER: about(70)}
    assert len([each for each in sent if "system_migration_ledger" in each]) == 1


@pytest.mark.databases("sqlite")
def test_more_names_than_a_statement_takes_are_several_questions(database: Database, looking: Migrator) -> None:
    committed(database, {"ago": 5})
    unknown = [f"{number:03}-unknown" for number in range(rates.AT_ONCE)]
    assert set(looking.rates([*unknown, NAME])) == {NAME}


@pytest.mark.databases("postgresql")
def test_a_large_ledger_is_read_no_further_than_its_newest_rows(database: Database, looking: Migrator) -> None:
    with database.write() as connection:
        columns = ", ".join(column.name for column in tables.ledger.c)
        connection.execute(
            text(
                f"INSERT INTO system_migration_ledger ({columns}) SELECT 'test', :name, 2, 1, n, n, 1, :run, "
                "'attempt ' || n, NULL, NULL, 100, 100, 0, 0, 0, 0, NULL, 0.25, "
                "clock_timestamp() - make_interval(secs => (50000 - n) / 10.0) FROM generate_series(1, 50000) AS n"
            ),
            {"name": NAME, "run": RUN},
        )
    query = rates.query("test", [NAME, OTHER])
    with database.engine.connect() as connection:
        connection.execute(text("ANALYZE system_migration_ledger"))
        sql = query.compile(connection, compile_kwargs={"literal_binds": True})
        (found,) = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}").scalar_one()
    scans = [node for node in nodes(found["Plan"]) if node.get("Relation Name") == "system_migration_ledger"]
    assert {node["Index Name"] for node in scans} == {"pk_system_migration_ledger"}
    assert sum(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in scans) == rates.NEWEST
    assert looking.rates([NAME]) == {NAME: about(1000)}
