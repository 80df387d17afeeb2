"""What would go wrong half-way is refused before the first write, in one sentence with its remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine

from system_migration import BatchMigration, MigrationFailed, Refused, Row, RunOptions, Status
from system_migration.running import table_guards
from tests.db.test_batches import KEYS
from tests.db.test_workbench import (
    Fill,
    Increment,
    execute,
    fingerprint,
    make_numbers,
    make_table,
    migrator,
    rows_of,
    stored_status,
)
from tests.support.roles import plain_role


@pytest.fixture
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> int:
    """A table of five rows counts as a large one."""
    monkeypatch.setattr(table_guards, "LARGE", 5)
    return 5


def refused(engine: Engine, migration: type[BatchMigration], options: RunOptions | None = None) -> str:
    """The sentence of a run, the same as the dry run's and doctor's; nothing but the attempt is recorded."""
    doubtful = migrator(engine, migration)
    before = fingerprint(engine).get("number")
    (report,) = doubtful.dry_run(migration.name, options)
    with pytest.raises(Refused) as refusal:
        doubtful.run(options=options)
    assert report.refusal == str(refusal.value)
    assert stored_status(engine, migration.name) == "PENDING"
    assert fingerprint(engine).get("number") == before
    return str(refusal.value)


def doctor(engine: Engine, migration: type[BatchMigration]) -> dict[str, tuple[str, str]]:
    findings = migrator(engine, migration).doctor()
    return {finding.subject: (finding.level, finding.message) for finding in findings}


def warnings_of(engine: Engine, migration: type[BatchMigration]) -> list[str]:
    """What the dry run warns of; a run logs the same, and goes on."""
    able = migrator(engine, migration)
    (report,) = able.dry_run(migration.name)
    assert report.refusal is None
    (done,) = able.run()
    assert done.status is Status.COMPLETED
    logged = [line.message for line in able.logs(migration.name) if line.level.upper() == "WARNING"]
    assert logged == report.warnings
    return report.warnings


# --- the plan of the walk --------------------------------------------------------------------------------------------

TEXT_KEY = {
    # Of the key only the first letters are in the index, which says nothing of the order of the whole.
    "mariadb": "CREATE TABLE number (id VARCHAR(40), y INT, z INT, PRIMARY KEY (id(2))) ENGINE=InnoDB",
    # The index orders without regard to case, the column with.
    "sqlite": "CREATE TABLE number (id TEXT, y INT, z INT, PRIMARY KEY (id COLLATE NOCASE))",
    # A child table has its parent's rows and columns but not its index.
    "postgresql": "CREATE TABLE number (id TEXT PRIMARY KEY, y INT, z INT)",
}


def make_unordered(engine: Engine, rows: int) -> None:
    """A table with a key that no index has in the order of the key."""
    kind = {"mysql": "mariadb"}.get(engine.dialect.name, engine.dialect.name)
    execute(engine, TEXT_KEY[kind])
    into = "number"
    if kind == "postgresql":
        execute(engine, "CREATE TABLE heir () INHERITS (number)")
        into = "heir"
    for number in range(rows):
        execute(engine, f"INSERT INTO {into} VALUES (:id, :y, NULL)", id=f"{number:02}-key", y=number)


@pytest.mark.parametrize("migration", [Increment, Fill])
def test_a_walk_that_would_sort_a_large_table_for_each_batch_is_refused(
    engine: Engine, small_is_large: int, migration: type[BatchMigration]
) -> None:
    make_unordered(engine, small_is_large)
    sentence = refused(engine, migration)
    assert sentence.startswith("A walk by (id) needs an index on number (id) that has the rows in this order: ")
    assert sentence.endswith("Create it, or accept that with --allow-scan.")
    assert doctor(engine, migration)[f"{migration.name} table"] == ("problem", sentence)


def test_the_operator_may_accept_the_scan(engine: Engine, small_is_large: int) -> None:
    make_unordered(engine, small_is_large)
    (report,) = migrator(engine, Increment).run(options=RunOptions(allow_scan=True, batch_size=2))
    assert (report.status, report.records_processed) == (Status.COMPLETED, small_is_large)


def test_a_small_table_may_be_sorted(engine: Engine, small_is_large: int) -> None:
    make_unordered(engine, small_is_large - 1)
    (report,) = migrator(engine, Increment).run()
    assert report.records_processed == small_is_large - 1


@pytest.mark.databases("sqlite", "mariadb")  # PostgreSQL rightly sorts a handful of rows
def test_a_walk_by_the_key_is_no_scan_whatever_its_type(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    monkeypatch.setattr(table_guards, "LARGE", 2)
    for kind, (types, values) in KEYS.items():
        with subtests.test(kind=kind):
            names = [f"k{index}" for index in range(len(types))]
            keys = [sa.Column(n, t, primary_key=True, autoincrement=False) for n, t in zip(names, types, strict=True)]
            rows = [dict(zip(names, key, strict=True)) | {"y": number} for number, key in enumerate(values)]
            make_table(engine, kind, *keys, sa.Column("y", sa.Integer()), sa.Column("z", sa.Integer()), rows=rows)
            for form in (Increment, Fill):
                (report,) = migrator(engine, type(form.__name__, (form,), {"table": kind})).dry_run(form.name)
                assert (report.refusal, report.error) == (None, None)


def make_pairs(engine: Engine, count: int) -> None:
    """As `make_numbers`, with a key of two columns, and few values in the first."""
    keys = [sa.Column(name, sa.Integer(), primary_key=True, autoincrement=False) for name in ("part", "id")]
    rows = [{"part": key % 3, "id": key, "y": key} for key in range(10, 10 * count + 1, 10)]
    make_table(engine, "number", *keys, sa.Column("y", sa.Integer()), sa.Column("z", sa.Integer()), rows=rows)


@pytest.mark.parametrize("make", [make_numbers, make_pairs])
@pytest.mark.parametrize("analysed", [True, False])
def test_a_large_table_is_walked_when_all_rows_a_few_or_none_need_the_change(
    engine: Engine, analysed: bool, make: Callable[[Engine, int], None]
) -> None:
    make(engine, 12_000)
    for left in ("id > 0", "id < 500", "id < 0"):
        execute(engine, "UPDATE number SET z = 1")
        execute(engine, f"UPDATE number SET z = NULL WHERE {left}")
        if analysed:
            execute(engine, "ANALYZE TABLE number" if engine.dialect.name == "mysql" else "ANALYZE number")
        for form in (Increment, Fill):
            (report,) = migrator(engine, form).dry_run(form.name)
            assert (report.refusal, report.error) == (None, None), left


@pytest.mark.databases("postgresql")
def test_few_rows_expected_by_old_statistics_are_a_warning(engine: Engine) -> None:
    make_numbers(engine, 12_000)
    execute(engine, "UPDATE number SET z = 1")
    execute(engine, "ANALYZE number")
    execute(engine, "ALTER TABLE number SET (autovacuum_enabled = false)")
    execute(engine, "UPDATE number SET z = NULL")
    (warning,) = warnings_of(engine, Fill)
    assert warning.startswith("The database expects few rows of 'number' to need the change")
    assert warning.endswith("let it count them first (ANALYZE).")


@pytest.mark.databases("postgresql", "mariadb")
def test_a_partitioned_table_is_walked(engine: Engine, small_is_large: int) -> None:
    columns = "id BIGINT PRIMARY KEY, y INT, z INT"
    if engine.dialect.name == "postgresql":
        execute(engine, f"CREATE TABLE number ({columns}) PARTITION BY HASH (id)")
        for part in (0, 1):
            execute(
                engine, f"CREATE TABLE part_{part} PARTITION OF number FOR VALUES WITH (MODULUS 2, REMAINDER {part})"
            )
    else:
        execute(engine, f"CREATE TABLE number ({columns}) ENGINE=InnoDB PARTITION BY HASH (id) PARTITIONS 2")
    for key in range(20):
        execute(engine, "INSERT INTO number (id, y) VALUES (:key, :key)", key=key)
    (report,) = migrator(engine, Increment).run(options=RunOptions(batch_size=3))
    assert (report.status, report.records_processed) == (Status.COMPLETED, 20)
    assert rows_of(engine, "SELECT count(*) FROM number WHERE y = id + 1") == [(20,)]


# --- the number of rows ----------------------------------------------------------------------------------------------


class Expecting(Fill):
    expected_rows = range(3, 6)


class ExpectingInPlace(Increment):
    expected_rows = range(3, 6)


@pytest.mark.parametrize("migration", [Expecting, ExpectingInPlace])
@pytest.mark.parametrize("rows", [2, 6])
def test_a_number_of_rows_that_nobody_expects_is_refused(
    engine: Engine, migration: type[BatchMigration], rows: int
) -> None:
    make_numbers(engine, rows)
    sentence = refused(engine, migration)
    assert sentence.startswith(f"Migration {migration.name} expects to change 3 to 5 rows, but {rows} need it. ")


@pytest.mark.parametrize("migration", [Expecting, ExpectingInPlace])
@pytest.mark.parametrize("rows", [3, 5])
def test_an_expected_number_of_rows_is_changed(engine: Engine, migration: type[BatchMigration], rows: int) -> None:
    make_numbers(engine, rows)
    (report,) = migrator(engine, migration).run()
    assert report.records_processed == rows


@pytest.mark.parametrize("migration", [Expecting, ExpectingInPlace])
def test_rows_that_are_done_already_count_when_a_run_is_resumed(
    engine: Engine, migration: type[BatchMigration]
) -> None:
    class Failing(migration):  # type: ignore[valid-type,misc]
        def transform(self, row: Row) -> Any:
            if row.y == 40:
                starter.request_stop(15)
            return super().transform(row)

    make_numbers(engine, 5)
    starter = migrator(engine, Failing)
    with pytest.raises(Exception, match="Stopped by SIGTERM"):
        starter.run(options=RunOptions(batch_size=2, workers=1))
    (report,) = migrator(engine, migration).run(options=RunOptions(accept_code_change=True))
    assert report.records_processed == 5


def test_a_row_that_is_made_pending_again_counts_twice_and_the_refusal_says_what_was_counted(engine: Engine) -> None:
    make_numbers(engine, 5)
    with pytest.raises(MigrationFailed, match="it would change more than 3 rows"):
        migrator(engine, Expecting).run(options=RunOptions(batch_size=1, workers=1, max_rows=3))
    execute(engine, "UPDATE number SET z = NULL WHERE id = 10")
    with pytest.raises(Refused, match=r"expects to change 3 to 5 rows, but 3 need it and 3 were changed before\. "):
        migrator(engine, Expecting).run()


# --- rights ----------------------------------------------------------------------------------------------------------


@pytest.mark.databases("postgresql", "mariadb")
@pytest.mark.parametrize(("right", "column"), [("UPDATE", "z"), ("SELECT", "y")])
def test_a_right_that_is_missing_on_one_column_is_refused_and_named(engine: Engine, right: str, column: str) -> None:
    make_numbers(engine, 3)
    migrator(engine, Fill).init()
    tracking = [name for name in sa.inspect(engine).get_table_names() if name.startswith("system_migration_")]
    with plain_role(engine) as (role, plain):
        for table in tracking:
            execute(engine, f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {role}")
        if engine.dialect.name == "postgresql":
            execute(engine, f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}")
        rights = {"SELECT": ["id", "y", "z"], "UPDATE": ["z"]}
        rights[right].remove(column)
        for name, columns in rights.items():
            if columns:
                execute(engine, f"GRANT {name} ({', '.join(columns)}) ON number TO {role}")
        with pytest.raises(Refused) as refusal:
            migrator(plain, Fill).run()
        plain.dispose()
    told = str(refusal.value)
    assert (f"{right} on column {column}" in told and "'number'" in told) or "denied" in told
    assert "ant" in told  # grant it
    assert rows_of(engine, "SELECT count(*) FROM number WHERE z IS NULL") == [(3,)]


@pytest.mark.databases("postgresql")
def test_a_sequence_that_may_not_be_used_is_named_though_the_refusal_cannot_be_recorded(engine: Engine) -> None:
    make_numbers(engine, 3)
    migrator(engine, Increment).init()
    with plain_role(engine) as (role, plain):
        execute(engine, f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
        with pytest.raises(Refused, match="The role lacks USAGE on sequence system_migration_event_id_seq"):
            migrator(plain, Increment).run()
        plain.dispose()
    assert migrator(engine, Increment).history() == []


@pytest.mark.databases("postgresql", "mariadb")
def test_a_record_that_may_not_be_read_is_told(engine: Engine) -> None:
    migrator(engine, Increment).init()
    with plain_role(engine) as (role, plain):
        execute(engine, f"GRANT SELECT ON system_migration_meta TO {role}")
        with pytest.raises(Refused, match=r"A right is missing\. .* denied .*Let a privileged role grant SELECT"):
            migrator(plain, Increment).status()
        plain.dispose()


@pytest.mark.databases("postgresql")
def test_rows_that_row_level_security_hides_are_not_left_out_unnoticed(engine: Engine) -> None:
    make_numbers(engine, 3)
    migrator(engine, Increment).init()
    execute(engine, "ALTER TABLE number ENABLE ROW LEVEL SECURITY")
    execute(engine, "CREATE POLICY few ON number USING (id < 25)")
    with plain_role(engine) as (role, plain):
        execute(engine, f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
        execute(engine, f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}")
        sentence = refused(plain, Increment)
        assert sentence.startswith("Row-level security hides rows of table 'number' from this role")
        execute(engine, f"ALTER ROLE {role} BYPASSRLS")
        (report,) = migrator(plain, Increment).run()
        plain.dispose()
    assert report.records_processed == 3


# --- what else an update does ----------------------------------------------------------------------------------------


def add_trigger(engine: Engine, name: str, event: str) -> None:
    match engine.dialect.name:
        case "postgresql":
            execute(
                engine,
                "CREATE OR REPLACE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'",
            )
            execute(engine, f"CREATE TRIGGER {name} {event} ON number FOR EACH ROW EXECUTE FUNCTION nothing()")
        case "mysql":
            execute(engine, f"CREATE TRIGGER {name} {event} ON number FOR EACH ROW SET @seen = 1")
        case _:
            execute(engine, f"CREATE TRIGGER {name} {event} ON number BEGIN SELECT 1; END")


def test_a_trigger_that_the_writes_set_off_is_a_warning(engine: Engine) -> None:
    make_numbers(engine, 3)
    add_trigger(engine, "audit", "AFTER UPDATE")
    add_trigger(engine, "welcome", "AFTER INSERT")
    sentence = (
        "Trigger 'audit' of 'number' acts on every row that is written (z): it costs time and may do more than the "
        "migration says."
    )
    assert doctor(engine, Fill)["001-fill table"] == ("warning", sentence)
    assert warnings_of(engine, Fill) == [sentence]


@pytest.mark.databases("postgresql", "sqlite")
def test_a_trigger_on_other_columns_is_none_of_our_business(engine: Engine) -> None:
    make_numbers(engine, 3)
    add_trigger(engine, "other", "AFTER UPDATE OF y")
    assert warnings_of(engine, Fill) == []
    (warning,) = warnings_of(engine, Increment)
    assert "'other'" in warning


@pytest.mark.databases("postgresql")
def test_a_rule_that_replaces_the_update_is_refused(engine: Engine) -> None:
    make_numbers(engine, 3)
    execute(engine, "CREATE RULE frozen AS ON UPDATE TO number DO INSTEAD NOTHING")
    assert refused(engine, Increment).startswith(
        "The rule 'frozen' of 'number' does something else instead of an UPDATE"
    )


# --- what is no table ------------------------------------------------------------------------------------------------

REFUSED_KINDS = {
    "view": (("sqlite", "postgresql", "mysql"), ["CREATE VIEW number AS SELECT 1 AS id, 2 AS y"]),
    "virtual table": (("sqlite",), ["CREATE VIRTUAL TABLE number USING fts5(id, y)"]),
    "materialized view": (("postgresql",), ["CREATE MATERIALIZED VIEW number AS SELECT 1 AS id, 2 AS y"]),
    "foreign table": (
        ("postgresql",),
        [
            "CREATE EXTENSION file_fdw",
            "CREATE SERVER files FOREIGN DATA WRAPPER file_fdw",
            "CREATE FOREIGN TABLE number (id INT, y INT) SERVER files OPTIONS (filename '/dev/null')",
        ],
    ),
    "MyISAM": (("mysql",), ["CREATE TABLE number (id INT PRIMARY KEY, y INT) ENGINE=MyISAM"]),
    "Aria": (("mysql",), ["CREATE TABLE number (id INT PRIMARY KEY, y INT) ENGINE=Aria"]),
    "MEMORY": (("mysql",), ["CREATE TABLE number (id INT PRIMARY KEY, y INT) ENGINE=MEMORY"]),
}


def test_what_cannot_be_written_in_batches_is_refused(engine: Engine, subtests: pytest.Subtests) -> None:
    for kind, (databases, statements) in REFUSED_KINDS.items():
        if engine.dialect.name not in databases:
            continue
        with subtests.test(kind=kind):
            for statement in statements:
                execute(engine, statement)
            sentence = refused(engine, Increment)
            assert sentence.startswith("'number' ")
            assert kind in sentence
            assert sentence.endswith("Migrate a table with transactions and a primary key.")
            words = statements[-1].split()
            execute(engine, f"DROP {' '.join(words[1 : words.index('number')])} number".replace("VIRTUAL ", ""))


# --- a database that takes no writes ---------------------------------------------------------------------------------


def test_a_read_only_database_is_refused_before_anything_is_tried(engine: Engine) -> None:
    make_numbers(engine, 3)
    migrator(engine, Increment).init()
    with pytest.raises(Refused, match=r"The database is read-only\. Connect to the primary"):
        migrator(read_only(engine), Increment).run()
    (report,) = migrator(engine, Increment).run()
    assert report.records_processed == 3


def read_only(engine: Engine) -> Engine:
    """An engine whose sessions may only read, as those of a replica."""
    url = engine.url
    match engine.dialect.name:
        case "postgresql":
            url = url.update_query_dict({"options": "-c default_transaction_read_only=on"})
        case "mysql":
            url = url.update_query_dict({"init_command": "SET SESSION tx_read_only = 1"})
        case _:
            url = url.set(database=f"file:{url.database}", query={"mode": "ro", "uri": "true"})
    closed = sa.create_engine(url)
    sa.event.listen(engine, "engine_disposed", lambda _: closed.dispose())
    return closed
