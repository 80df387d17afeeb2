"""The tracking tables: made once by whoever comes first, the same by hand, refused when newer, untouched by looking."""

from __future__ import annotations

import sqlite3
import threading
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine, make_url, text
from sqlalchemy.exc import DBAPIError

from system_migration import MigrationSystemError, Refused, Status
from system_migration.store import tables, tracking
from system_migration.store.database import Database
from tests.db.test_workbench import (
    PREFIX,
    Fill,
    Increment,
    execute,
    fingerprint,
    make_numbers,
    migrator,
    quick,
    rows_of,
)
from tests.support.databases import MakeDatabaseUrl, application_engine

NAMES = {
    f"{PREFIX}{name}"
    for name in (
        *("meta", "migration", "run", "lease", "ledger", "death", "journal", "issue"),
        *("event", "event_link", "event_head", "log"),
    )
}
CHECKS = {
    f"ck_{PREFIX}{name}"
    for name in (
        *("meta_one_row", "migration_status", "run_kind", "run_outcome", "run_finished"),
        *("event_link_position", "event_head_one_row"),
    )
}
INDEXES = {
    f"ix_{PREFIX}{name}" for name in ("run_history", "event_name", "event_link_event", "log_run", "journal_generation")
}


def our_tables(engine: Engine) -> set[str]:
    return {name for name in sa.inspect(engine).get_table_names() if name.startswith(PREFIX)}


def schema_of(engine: Engine) -> dict[str, Any]:
    """Our tables as the database describes them."""
    inspector = sa.inspect(engine)
    return {
        table: {
            "columns": [
                (column["name"], str(column["type"]), column["nullable"], column["default"])
                for column in inspector.get_columns(table)
            ],
            "key": inspector.get_pk_constraint(table),
            "checks": sorted(str(check["name"]) for check in inspector.get_check_constraints(table)),
            "unique": sorted(str(unique["name"]) for unique in inspector.get_unique_constraints(table)),
            "foreign": inspector.get_foreign_keys(table),
            "indexes": sorted((str(index["name"]), index["column_names"]) for index in inspector.get_indexes(table)),
            "options": inspector.get_table_options(table),
        }
        for table in sorted(our_tables(engine))
    }


def test_looking_writes_nothing_and_needs_no_tables(engine: Engine) -> None:
    make_numbers(engine, 1)
    before = fingerprint(engine, but=set())
    looking = migrator(engine, Increment)
    assert [each.status for each in looking.status().migrations] == [Status.PENDING]
    assert looking.pending() == ["001-increment"]
    assert [each.name for each in looking.list()] == ["001-increment"]
    assert looking.show("001-increment").runs == []
    assert looking.history() == looking.logs("001-increment") == looking.issues("001-increment") == []
    assert looking.last_completed() is None
    looking.doctor()
    assert fingerprint(engine, but=set()) == before == {"number": before["number"]}


def test_the_first_write_makes_them_with_named_constraints(engine: Engine) -> None:
    assert migrator(engine, Increment).init() is True
    assert migrator(engine, Increment).init() is False
    assert our_tables(engine) == NAMES
    schema = schema_of(engine)
    assert {name for table in schema.values() for name in table["checks"]} >= CHECKS
    assert {name for table in schema.values() for name, _ in table["indexes"]} >= INDEXES
    assert f"uq_{PREFIX}ledger_attempt" in schema[f"{PREFIX}ledger"]["unique"]
    assert schema[f"{PREFIX}migration"]["key"]["constrained_columns"] == ["environment", "name"]
    if engine.dialect.name == "postgresql":  # MariaDB calls every primary key PRIMARY, and SQLite tells none
        assert {table["key"]["name"] for table in schema.values()} == {f"pk_{name}" for name in NAMES}
    if engine.dialect.name != "sqlite":
        assert [key["name"] for key in schema[f"{PREFIX}log"]["foreign"]] == [f"fk_{PREFIX}log_run"]


WRONG_WORDS = {
    "UPDATE system_migration_migration SET status = 'DONE'": "migration_status",
    "UPDATE system_migration_migration SET status = 'completed'": "migration_status",
    "UPDATE system_migration_run SET kind = 'walk'": "run_kind",
    "UPDATE system_migration_run SET outcome = 'maybe'": "run_outcome",
    "UPDATE system_migration_run SET outcome = NULL": "run_finished",
    "UPDATE system_migration_meta SET id = 2": "meta_one_row",
}


def test_the_database_itself_refuses_an_unknown_word(engine: Engine) -> None:
    make_numbers(engine, 1)
    migrator(engine, Increment).run()
    for statement, constraint in WRONG_WORDS.items():
        with pytest.raises(DBAPIError, match=f"ck_{PREFIX}{constraint}"):
            execute(engine, statement)


def test_any_number_of_starters_may_make_them_at_once(engine: Engine) -> None:
    """Eight of them, each with connections of its own, on an empty database: one of them binds it."""
    starters = [migrator(engine, Increment, environment="test") for _ in range(8)]
    line, results, errors = threading.Barrier(8), [], []

    def start(number: int) -> None:
        line.wait(60)
        try:
            results.append(starters[number].init())
        except BaseException as error:
            errors.append(repr(error))

    threads = [threading.Thread(target=start, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert errors == []
    assert sorted(results) == [False] * 7 + [True]
    assert our_tables(engine) == NAMES
    assert len(rows_of(engine, "SELECT id FROM system_migration_meta")) == 1


def test_tables_that_a_dying_starter_left_are_completed(engine: Engine) -> None:
    """On MariaDB each CREATE TABLE commits by itself: a death in between leaves the first few."""
    database = Database(quick(engine))
    with database.write() as connection:
        tracking.create_tables(connection, database.dialect)
        for name in ("log", "event", "issue"):
            tables.metadata.tables[PREFIX + name].drop(connection)
    database.close()
    assert migrator(engine, Increment).init() is True
    assert our_tables(engine) == NAMES


def test_the_printed_sql_makes_the_same_tables(engine: Engine, make_database_url: MakeDatabaseUrl) -> None:
    product = {"mysql": "mariadb"}.get(engine.dialect.name, engine.dialect.name)
    migrator(engine, Increment).init()

    by_hand = application_engine(make_database_url(product))
    script = migrator(by_hand, Increment).init_sql()
    assert our_tables(by_hand) == set()  # printing makes nothing
    for statement in script.split(";\n"):
        if statement.strip():
            execute(by_hand, statement.replace(":", r"\:"))
    assert schema_of(by_hand) == schema_of(engine)

    make_numbers(by_hand, 2)
    assert migrator(by_hand, Increment).status().pending == ["001-increment"]
    assert migrator(by_hand, Increment).run()[0].status is Status.COMPLETED
    by_hand.dispose()


def test_newer_tables_can_be_looked_at_and_not_written(engine: Engine) -> None:
    make_numbers(engine, 2)
    migrator(engine, Fill).run()
    execute(engine, "UPDATE system_migration_meta SET schema_version = :newer", newer=tables.SCHEMA_VERSION + 1)
    execute(engine, "UPDATE number SET z = NULL")
    before = fingerprint(engine, but=set())
    older = migrator(engine, Fill)
    sentence = (
        f"have version {tables.SCHEMA_VERSION + 1}, this program knows {tables.SCHEMA_VERSION}. "
        "Upgrade system-migration; until then this database can only be looked at."
    )
    for verb in (
        lambda: older.run("001-fill"),
        lambda: older.dry_run("001-fill"),
        older.verify,
        lambda: older.skip("001-fill", "?"),
        lambda: older.reset("001-fill", "?"),
        older.adopt,
    ):
        with pytest.raises(Refused) as refusal:
            verb()
        assert sentence in str(refusal.value)
    assert [each.status for each in older.status().migrations] == [Status.COMPLETED]
    assert len(older.history()) == 1
    assert fingerprint(engine, but=set()) == before


def test_a_migration_whose_code_is_gone_keeps_its_record(engine: Engine) -> None:
    make_numbers(engine, 1)
    migrator(engine, Increment).run()
    without = migrator(engine, Fill)
    assert [(each.name, each.status, each.code_missing) for each in without.status().migrations] == [
        ("001-fill", Status.PENDING, False),
        ("001-increment", Status.COMPLETED, True),
    ]
    assert without.show("001-increment").status.code_missing
    assert len(without.history("001-increment")) == 1
    assert without.run()[0].name == "001-fill"


def test_the_record_tells_who_when_and_from_where(engine: Engine) -> None:
    make_numbers(engine, 2)
    running = migrator(engine, Fill, executed_by="anna")
    running.run()
    (status,) = running.status().migrations
    assert (status.executed_by, status.records_processed, status.error) == ("anna", 2, None)
    assert status.executed_at is not None
    assert status.finished_at is not None
    assert status.executed_at <= status.finished_at
    (run,) = running.history()
    assert (run.executed_by, run.kind, run.outcome, run.generation) == ("anna", "run", "succeeded", 1)
    assert run.host
    events = running.show("001-fill").events
    assert [(event.action, event.actor) for event in events] == [("completed", "anna"), ("run_started", "anna")]
    assert running.last_completed() == "001-fill"


@pytest.mark.databases("postgresql")
def test_a_role_that_may_not_create_is_told_what_to_do(engine: Engine) -> None:
    role = f"role_{engine.url.database}"
    with engine.begin() as connection:
        connection.execute(text("REVOKE CREATE ON SCHEMA public FROM public"))
        connection.execute(text(f"CREATE ROLE {role} LOGIN"))
    make_numbers(engine, 1)
    execute(engine, f"GRANT SELECT, UPDATE ON number TO {role}")
    plain = application_engine(make_url(str(engine.url)).set(username=role))
    try:
        with pytest.raises(MigrationSystemError, match=r"could not be created: .*Let a privileged role run `migration"):
            migrator(plain, Fill).run()
        migrator(engine, Fill).init()
        execute(engine, f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {role}")
        execute(engine, f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}")
        assert migrator(plain, Fill).run()[0].status is Status.COMPLETED
    finally:
        plain.dispose()
        execute(engine, f"DROP OWNED BY {role}")
        execute(engine, f"DROP ROLE {role}")


@pytest.mark.databases("sqlite")
def test_a_write_transaction_on_sqlite_has_the_write_lock_from_its_first_statement(engine: Engine) -> None:
    """One that only takes it when it writes fails at once if another writer committed meanwhile (reliability, M2)."""
    database = Database(engine)
    other = sqlite3.connect(str(engine.url.database), timeout=0)
    with database.write():
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        with database.read() as connection:  # and looking is still possible
            assert connection.execute(text("SELECT 1")).scalar_one() == 1
    other.execute("BEGIN IMMEDIATE")
    other.close()
    database.close()
