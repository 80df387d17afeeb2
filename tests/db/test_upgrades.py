"""Older tracking tables: looked at as they are, and brought forward by the first write, with all they tell."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine, text

from system_migration import HeldElsewhere, MigrationSystemError, Migrator, RunOptions, Status
from system_migration.store import tables, tracking, upgrades
from system_migration.store.database import Database
from tests.db.test_tracking import NAMES, our_tables, schema_of
from tests.db.test_workbench import PREFIX, Increment, execute, fingerprint, make_numbers, migrator, quick, rows_of
from tests.support.databases import MakeDatabaseUrl, application_engine
from tests.support.older_tables import make_older

LEFT = "00000000-0000-0000-0000-000000000002"
VERSION = "SELECT schema_version FROM system_migration_meta"


of_each_version = pytest.mark.parametrize("older", range(1, tables.SCHEMA_VERSION), indirect=True, ids="v{}".format)


@pytest.fixture
def older(request: pytest.FixtureRequest, engine: Engine) -> Engine:
    """A database with tables of an older version, the first by default, a finished migration and a half-done one."""
    make_numbers(engine, 8)
    make_older(quick(engine), getattr(request, "param", 1))
    return engine


@pytest.fixture
def newest(older: Engine, make_database_url: MakeDatabaseUrl) -> Any:
    """Another database, whose tables were made by this program."""
    product = {"mysql": "mariadb"}.get(older.dialect.name, older.dialect.name)
    made = application_engine(make_database_url(product))
    migrator(made, Increment).init()
    yield made
    made.dispose()


def comparable(engine: Engine) -> dict[str, Any]:
    """The schema by names: an added column stands at the end. SQLite's integers all have 64 bits."""
    schema = schema_of(engine)
    for table in schema.values():
        table["columns"] = sorted(
            (name, kind.replace("BIGINT", "INTEGER") if engine.dialect.name == "sqlite" else kind, nullable, default)
            for name, kind, nullable, default in table["columns"]
        )
    return schema


@of_each_version
def test_older_tables_can_be_looked_at_and_looking_changes_nothing(older: Engine) -> None:
    before = fingerprint(older, but=set())
    looking = migrator(older, Increment)
    stands = {each.name: each for each in looking.status().migrations}
    assert (stands["001-increment"].status, stands["001-increment"].stale) == (Status.RUNNING, True)
    assert stands["001-increment"].records_processed == 4
    assert (stands["000-earlier"].status, stands["000-earlier"].issues) == (Status.COMPLETED, 1)
    assert looking.pending() == ["001-increment"]
    assert len(looking.history("000-earlier")) == 1
    assert [issue.code for issue in looking.issues("000-earlier")] == ["bad"]
    assert [line.message for line in looking.logs("000-earlier")] == ["done"]
    assert [event.action for event in looking.show("000-earlier").events] == ["completed"]
    (left,) = looking.follow([LEFT])
    assert (left.state, left.progress.changed, left.request, left.pulse) == ("stale", 4, None, None)
    assert looking.rates(["001-increment"]) == {}
    assert fingerprint(older, but=set()) == before


@of_each_version
def test_an_upgrade_makes_the_same_tables_as_a_fresh_start(older: Engine, newest: Engine) -> None:
    assert comparable(older) != comparable(newest)
    assert migrator(older, Increment).init() is False
    assert comparable(older) == comparable(newest)
    assert rows_of(older, VERSION) == [(tables.SCHEMA_VERSION,)]


@of_each_version
def test_an_upgrade_keeps_every_row(older: Engine) -> None:
    looking = migrator(older, Increment)
    before = looking.history(), looking.issues("000-earlier"), looking.logs("000-earlier"), looking.status()
    migrator(older, Increment).init()
    after = looking.history(), looking.issues("000-earlier"), looking.logs("000-earlier"), looking.status()
    assert after == before
    ranges = [(batch.range, batch.batches) for batch in looking.batches("001-increment")]
    assert ranges == [(3, 1), (1, 1)]
    last = rows_of(older, "SELECT last_range FROM system_migration_ledger ORDER BY last_range")
    assert last == [(1,), (3,)]


@of_each_version
def test_a_run_that_an_older_program_began_is_finished_exactly(older: Engine) -> None:
    (report,) = migrator(older, Increment).run(options=RunOptions(accept_code_change=True))
    assert (report.status, report.records_processed) == (Status.COMPLETED, 8)
    assert rows_of(older, "SELECT COUNT(*) FROM number WHERE y = id + 1") == [(8,)]


def test_any_number_of_processes_may_upgrade_at_once(older: Engine, newest: Engine) -> None:
    starters = [migrator(older, Increment, environment="test") for _ in range(6)]
    line, errors = threading.Barrier(6), []

    def start(number: int) -> None:
        line.wait(60)
        try:
            starters[number].init()
        except BaseException as error:
            errors.append(repr(error))

    threads = [threading.Thread(target=start, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert errors == []
    assert comparable(older) == comparable(newest)
    assert rows_of(older, VERSION) == [(tables.SCHEMA_VERSION,)]


def statement_count(engine: Engine) -> int:
    database = Database(quick(engine))
    with database.read() as connection:
        count = len(upgrades.upgrade_sql(connection, database.dialect, 1))
    database.close()
    return count


class Died(Exception):
    """The process ends here."""


def test_an_upgrade_that_dies_anywhere_is_completed_by_the_next(older: Engine, newest: Engine) -> None:
    """Once before each of its statements; where each ALTER commits by itself, the ones before it stay."""
    deaths = 0
    for last_words in range(statement_count(older)):
        database = Database(quick(older))
        said = 0

        def die(*_: Any, limit: int = last_words) -> None:
            nonlocal said
            said += 1
            if said > limit:
                raise Died

        def listen(_c: Any, _cursor: Any, statement: str, *_more: Any) -> None:
            if statement.startswith(("ALTER", "CREATE", "UPDATE")):
                die()

        sa.event.listen(database.engine, "before_cursor_execute", listen)
        binding = tracking.find_binding(database)
        assert binding is not None
        if binding.schema_version == 1:
            try:
                tracking.upgrade(database, binding)
            except Died:
                deaths += 1
        database.close()
    assert deaths > 3
    assert rows_of(older, VERSION) in ([(1,)], [(tables.SCHEMA_VERSION,)])
    migrator(older, Increment).init()
    assert comparable(older) == comparable(newest)
    last = rows_of(older, "SELECT last_range FROM system_migration_ledger ORDER BY last_range")
    assert last == [(1,), (3,)]


@of_each_version
def test_the_printed_sql_upgrades_older_tables(older: Engine, newest: Engine) -> None:
    before = fingerprint(older, but=set())
    script = migrator(older, Increment).init_sql()
    assert fingerprint(older, but=set()) == before
    for statement in script.split(";\n"):
        if statement.strip():
            execute(older, statement.replace(":", r"\:"))
    assert comparable(older) == comparable(newest)
    assert rows_of(older, VERSION) == [(tables.SCHEMA_VERSION,)]
    last = rows_of(older, "SELECT last_range FROM system_migration_ledger ORDER BY last_range")
    assert last == [(1,), (3,)]
    assert "CREATE TABLE system_migration_meta" in migrator(older, Increment).init_sql()  # nothing to upgrade now


@of_each_version
def test_nobody_upgrades_under_a_runner_that_may_be_an_older_program(older: Engine) -> None:
    execute(older, "UPDATE system_migration_lease SET expires_at = '2099-01-01 00:00:00'")
    before = fingerprint(older, but=set())
    ((version,),) = rows_of(older, VERSION)
    way_out = "`migration pause 001-increment`" if version > 1 else "stop its process"
    newer = migrator(older, Increment)
    asking = (partial(verb, name="001-increment") for verb in (Migrator.pause, Migrator.cancel))
    verbs: list[Any] = [Migrator.init, *asking]
    for verb in verbs:
        with pytest.raises(HeldElsewhere, match=f"run by anna on old-host on an older program's .*{way_out}"):
            verb(newer)
    assert fingerprint(older, but=set()) == before


def test_who_comes_late_upgrades_nothing_and_is_not_kept_waiting(older: Engine) -> None:
    """Another process has upgraded meanwhile, and its run is already going."""
    database = Database(quick(older))
    as_it_was = tracking.find_binding(database)
    assert as_it_was is not None
    migrator(older, Increment).init()
    execute(older, "UPDATE system_migration_lease SET expires_at = '2099-01-01 00:00:00'")
    before = fingerprint(older, but=set())
    tracking.upgrade(database, as_it_was)
    database.close()
    assert fingerprint(older, but=set()) == before


def test_another_environment_upgrades_nothing(older: Engine) -> None:
    before = fingerprint(older, but=set())
    with pytest.raises(MigrationSystemError, match="belongs to environment 'test'"):
        migrator(older, Increment, environment="staging").run()
    assert fingerprint(older, but=set()) == before


def tables_finding(engine: Engine) -> tuple[str, str]:
    return next((each.level, each.message) for each in migrator(engine, Increment).doctor() if each.subject == "tables")


def test_doctor_tells_older_tables_and_damaged_ones(older: Engine) -> None:
    assert tables_finding(older) == (
        "warning",
        "The tracking tables have version 1. `migration init`, or the next run, brings them to "
        f"{tables.SCHEMA_VERSION}.",
    )
    migrator(older, Increment).init()
    assert tables_finding(older)[0] == "ok"
    execute(older, "DROP TABLE system_migration_death")
    level, message = tables_finding(older)
    assert level == "problem"
    assert "damaged: table system_migration_death is missing" in message


DAMAGES = {
    "DROP TABLE system_migration_journal": "table system_migration_journal is missing",
    "DROP TABLE system_migration_migration": "table system_migration_migration is missing",
    "ALTER TABLE system_migration_migration DROP COLUMN error": "column error of table system_migration_migration is",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=["table unread", "table", "column"])
def test_a_damaged_record_is_named_and_never_taken_for_an_empty_one(engine: Engine, damage: str) -> None:
    make_numbers(engine, 2)
    migrator(engine, Increment).run()
    execute(engine, damage)
    before = rows_of(engine, "SELECT y FROM number ORDER BY id")
    verbs = [lambda: migrator(engine, Increment).run("001-increment")]
    verbs += [] if "journal" in damage else [lambda: migrator(engine, Increment).status()]
    for verb in verbs:
        with pytest.raises(MigrationSystemError, match=f"are damaged: {DAMAGES[damage]}"):
            verb()
    assert rows_of(engine, "SELECT y FROM number ORDER BY id") == before


def test_every_name_that_an_upgrade_adds_is_a_column_of_ours(engine: Engine) -> None:
    migrator(engine, Increment).init()
    assert our_tables(engine) == NAMES
    with quick(engine).connect() as connection:
        for added in upgrades.ADDED_COLUMNS.values():
            for table, names in added.items():
                assert table.name.startswith(PREFIX)
                for name in names:
                    connection.execute(text(f"SELECT {name} FROM {table.name}"))
