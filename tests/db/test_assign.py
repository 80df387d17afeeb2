"""Migrations that the database itself computes: `assign` changes each row once, by ranges of the key."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine, create_engine, event

from system_migration import BatchMigration, MigrationFailed, Refused, RunOptions, Status
from system_migration.batching.commit import Batch, in_sql
from system_migration.batching.ranges import Numbers
from system_migration.batching.resolution import resolve
from system_migration.batching.suspicion import Suspect
from system_migration.running.batches import BatchRun
from system_migration.states import RunKind
from system_migration.store import issues
from system_migration.store.database import Database
from system_migration.store.runs import Attempt
from tests.db.test_batches import covered
from tests.db.test_workbench import (
    execute,
    make_numbers,
    make_table,
    migrator,
    quick,
    rows_of,
    statements,
    stored_status,
)

SMALL = RunOptions(batch_size=3, workers=1)


class AddOne(BatchMigration):
    """In place, and only the ledger tells which rows are done."""

    name = "001-add-one"
    table = "number"
    writes = ("y",)

    def assign(self, t: sa.FromClause) -> dict[str, Any]:
        return {"y": t.c.y + 1}


class FillTwice(BatchMigration):
    """With `pending`, and a constant among the values."""

    name = "001-fill-twice"
    table = "number"
    writes = ("y", "z")

    def pending(self, t: sa.FromClause) -> sa.ColumnElement[bool]:
        return t.c.z.is_(None)

    def assign(self, t: sa.FromClause) -> dict[str, Any]:
        return {"y": 7, "z": t.c.y * 10}


@pytest.mark.parametrize("workers", [1, 3])
def test_every_row_is_changed_once(engine: Engine, workers: int) -> None:
    make_numbers(engine, 20)
    options = RunOptions(batch_size=3, workers=workers)
    (report,) = migrator(engine, AddOne).run(options=options)
    assert (report.status, report.records_processed) == (Status.COMPLETED, 20)
    assert rows_of(engine, "SELECT COUNT(*) FROM number WHERE y = id + 1") == [(20,)]
    (report,) = migrator(engine, FillTwice).run(options=options)
    assert (report.status, report.records_processed, report.verified) == (Status.COMPLETED, 20, True)
    assert rows_of(engine, "SELECT COUNT(*) FROM number WHERE y = 7 AND z = (id + 1) * 10") == [(20,)]


class Capped(AddOne):
    """Adds `step`: a CHECK of the table refuses a y of 65."""

    step: ClassVar[int] = 5

    def assign(self, t: sa.FromClause) -> dict[str, Any]:
        return {"y": t.c.y + self.step}


class CappedFill(Capped):
    name = "001-capped-fill"
    writes = ("y", "z")  # type: ignore[assignment]

    def pending(self, t: sa.FromClause) -> sa.ColumnElement[bool]:
        return t.c.z.is_(None)

    def assign(self, t: sa.FromClause) -> dict[str, Any]:
        return {"y": t.c.y + self.step, "z": 1}


def make_checked(engine: Engine, *forbidden: int) -> None:
    make_table(
        engine,
        "number",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("y", sa.Integer()),
        sa.Column("z", sa.Integer()),
        sa.CheckConstraint("y NOT IN ({})".format(", ".join(map(str, forbidden)))),  # type: ignore[arg-type]
        rows=[{"id": key, "y": key} for key in range(10, 101, 10)],
    )


@pytest.mark.parametrize("form", [Capped, CappedFill])
def test_a_row_that_violates_a_constraint_is_held_left_alone_and_done_by_retry(
    engine: Engine, form: type[Capped], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_checked(engine, 15, 65, 75)
    with pytest.raises(MigrationFailed, match="rows held: 3, allowed: 0"):
        migrator(engine, form).run(options=SMALL)
    found = migrator(engine, form).issues(form.name)
    assert [(issue.key, issue.code) for issue in found] == [(key, "constraint_violation") for key in (10, 60, 70)]
    expected = [(key, key if key in (10, 60, 70) else key + 5) for key in range(10, 101, 10)]
    assert rows_of(engine, "SELECT id, y FROM number ORDER BY id") == expected
    if form is Capped:
        assert len(covered(engine, form.name)) == 1

    # Were they not left alone, this step would now succeed with them.
    monkeypatch.setattr(Capped, "step", 6)
    (report,) = migrator(engine, form).run(options=RunOptions(batch_size=3, workers=1, max_issues=3))
    assert (report.status, report.issues) == (Status.COMPLETED, 3)
    assert rows_of(engine, "SELECT id, y FROM number ORDER BY id") == expected

    report = migrator(engine, form).retry(form.name)
    assert (report.status, report.issues) == (Status.COMPLETED, 0)
    done = [(key, key + 6 if key in (10, 60, 70) else key + 5) for key in range(10, 101, 10)]
    assert rows_of(engine, "SELECT id, y FROM number ORDER BY id") == done


def hold_beforehand(engine: Engine, form: type[BatchMigration], keys: Sequence[int]) -> None:
    """Rows that an earlier run has put down as held."""
    migrator(engine, form).init()
    database = Database(quick(create_engine(engine.url)))
    with database.write() as connection:
        earlier = Attempt("00000000-0000-0000-0000-000000000001", "test", form.name, 1, RunKind.RUN, 0)
        issues.hold(connection, earlier, [((key,), "bad", "for a reason") for key in keys])
    database.close()


class CappedUndoably(CappedFill):
    rollbackable = True


def test_the_journal_has_no_image_of_a_held_row_that_the_application_did_itself(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_checked(engine, 15, 65)
    with pytest.raises(MigrationFailed, match="rows held: 2, allowed: 0"):
        migrator(engine, CappedUndoably).run(options=SMALL)
    execute(engine, "UPDATE number SET y = 1, z = 1 WHERE id = 10")
    monkeypatch.setattr(Capped, "step", 6)
    running = migrator(engine, CappedUndoably)
    report = running.retry(CappedUndoably.name)
    assert (report.status, report.issues, report.records_processed) == (Status.COMPLETED, 0, 9)
    running.rollback(CappedUndoably.name)
    expected = [(10, 1), *((key, key) for key in range(20, 101, 10))]
    assert rows_of(engine, "SELECT id, y FROM number ORDER BY id") == expected


IGNORES = {
    "sqlite": "CREATE TRIGGER skips BEFORE UPDATE ON number WHEN old.id = 20 BEGIN SELECT RAISE(IGNORE); END",
    "postgresql": "CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;"
    "CREATE TRIGGER skips BEFORE UPDATE ON number FOR EACH ROW WHEN (old.id = 20) EXECUTE FUNCTION skip()",
}


@pytest.mark.databases("sqlite", "postgresql")
def test_a_row_that_was_to_be_changed_and_was_not_is_noticed(engine: Engine) -> None:
    """Its image would stand in the journal as if it had been."""
    make_numbers(engine, 4)
    execute(engine, IGNORES[engine.dialect.name])
    with pytest.raises(MigrationFailed, match="4 rows of 'number' were locked, but 3 were written"):
        migrator(engine, AddOneUndoably).run(options=RunOptions(batch_size=4, workers=1))
    assert rows_of(engine, "SELECT COUNT(*) FROM number WHERE y = id") == [(4,)]


class AddOneUndoably(AddOne):
    """Journalled, so that each batch names its rows."""

    rollbackable = True


@pytest.mark.parametrize("form", [AddOne, AddOneUndoably])
def test_rows_are_named_and_others_left_out_in_one_statement(engine: Engine, form: type[BatchMigration]) -> None:
    make_numbers(engine, 8)
    hold_beforehand(engine, form, [20, 50, 60])
    (report,) = migrator(engine, form).run(options=RunOptions(batch_size=4, workers=1, max_issues=3))
    assert (report.status, report.issues, report.records_processed) == (Status.COMPLETED, 3, 5)
    assert rows_of(engine, "SELECT id FROM number WHERE y = id ORDER BY id") == [(20,), (50,), (60,)]


@pytest.mark.parametrize("form", [AddOne, FillTwice])
def test_more_held_rows_than_a_statement_can_name_are_left_alone(
    engine: Engine, form: type[BatchMigration], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("system_migration.batching.target.PARAMETERS", 4)
    make_numbers(engine, 20)
    held = [10, 40, 50, 60, 70, 80, 200]
    hold_beforehand(engine, form, held)
    (report,) = migrator(engine, form).run(options=RunOptions(batch_size=3, workers=1, max_issues=7))
    assert (report.status, report.issues, report.records_processed) == (Status.COMPLETED, 7, 13)
    assert rows_of(engine, "SELECT id FROM number WHERE y = id ORDER BY id") == [(key,) for key in held]
    if form is AddOne:
        assert len(covered(engine, form.name)) == 1


@pytest.mark.databases("sqlite")
def test_more_held_rows_than_a_statement_has_variables_do_not_stop_a_run(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of SQLite's limits that count here, at a tenth: 32,766 variables for one statement are its own."""
    monkeypatch.setattr("system_migration.batching.target.PARAMETERS", 1_000)
    make_numbers(engine, 3_602)
    hold_beforehand(engine, FillTwice, range(20, 36_020, 10))
    with few_variables(3_276):
        options = RunOptions(batch_size=1_000, workers=1, max_issues=3_600)
        (report,) = migrator(engine, FillTwice).run(options=options)
    assert (report.status, report.issues, report.records_processed) == (Status.COMPLETED, 3_600, 2)
    assert rows_of(engine, "SELECT id FROM number WHERE z IS NOT NULL") == [(10,), (36_020,)]


@contextmanager
def few_variables(count: int) -> Iterator[None]:
    """SQLite's connections that are opened within the block refuse statements with more variables."""

    def limit(connection: sqlite3.Connection, _: object) -> None:
        connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, count)

    event.listen(Engine, "connect", limit)
    try:
        yield
    finally:
        event.remove(Engine, "connect", limit)


def test_what_leaves_pending_true_is_rolled_back(engine: Engine) -> None:
    class NeverDone(FillTwice):
        def assign(self, t: sa.FromClause) -> dict[str, Any]:
            return {"y": t.c.y + 1, "z": sa.null()}

    make_numbers(engine, 6)
    with pytest.raises(MigrationFailed, match="pending is still true for 3 rows"):
        migrator(engine, NeverDone).run(options=SMALL)
    assert rows_of(engine, "SELECT COUNT(*) FROM number WHERE y = id") == [(6,)]
    assert stored_status(engine, NeverDone.name) == "FAILED"


def test_a_column_that_is_not_declared_is_refused_before_any_write(engine: Engine) -> None:
    class WritesMore(FillTwice):
        writes = ("z",)  # type: ignore[assignment]

    make_numbers(engine, 3)
    with pytest.raises(Refused, match="expressions for columns declared in writes: z"):
        migrator(engine, WritesMore).run()
    assert rows_of(engine, "SELECT COUNT(*) FROM number WHERE y = id AND z IS NULL") == [(3,)]


def test_rows_that_come_meanwhile_are_found_by_the_sweep(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    make_numbers(engine, 9)
    came: list[object] = []

    def add(_run: BatchRun, entry: object) -> None:
        """What the application does behind the walk, when the first batch is in the ledger."""
        if not came:
            execute(engine, "INSERT INTO number (id, y) VALUES (1, 8)")
        came.append(entry)

    monkeypatch.setattr(BatchRun, "_after_batch", add)
    (report,) = migrator(engine, FillTwice).run(options=SMALL)
    assert (report.status, report.records_processed) == (Status.COMPLETED, 10)
    assert rows_of(engine, "SELECT y, z FROM number WHERE id = 1") == [(7, 80)]


def test_a_dry_run_shows_what_the_database_would_write(engine: Engine) -> None:
    make_numbers(engine, 5)
    (report,) = migrator(engine, FillTwice).dry_run()
    assert report.would_change == 5
    assert report.samples
    assert rows_of(engine, "SELECT COUNT(*) FROM number WHERE z IS NULL") == [(5,)]


def test_a_rollback_restores_what_was_there(engine: Engine) -> None:
    class Journalled(FillTwice):
        rollbackable = True

    make_numbers(engine, 10)
    before = rows_of(engine, "SELECT * FROM number ORDER BY id")
    running = migrator(engine, Journalled)
    running.run(options=SMALL)
    assert rows_of(engine, "SELECT COUNT(*) FROM number WHERE y = 7") == [(10,)]
    running.rollback(Journalled.name)
    assert rows_of(engine, "SELECT * FROM number ORDER BY id") == before


def test_rows_are_neither_read_nor_sent(engine: Engine) -> None:
    """One UPDATE a batch, whatever the number of rows."""
    make_numbers(engine, 9)
    with statements("UPDATE") as heard:
        migrator(engine, AddOne).run(options=SMALL)
    assert len([one for one in heard if one.replace("`", "").startswith("UPDATE number")]) == 3


def test_a_batch_of_named_rows_changes_these_and_no_others(engine: Engine) -> None:
    """Rows that were put off come back by their keys, in a batch that has no range; one of them is gone by then."""
    make_numbers(engine, 6)
    database = Database(create_engine(engine.url))
    with database.write() as connection:
        target = resolve(connection, AddOne())
        keys = ((20,), (999,))
        batch = Batch(2, Numbers(1, 1), None, None, (), (), named=keys)
        verdict = in_sql(connection, database.dialect, target, batch)
    database.close()
    assert verdict.changed == 1
    assert rows_of(engine, "SELECT id FROM number WHERE y <> id ORDER BY id") == [(20,)]


def test_a_row_that_killed_its_runners_is_held_and_not_forgotten(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although nobody has read it."""
    suspicions = iter([Suspect(1, must_hold=True)])
    monkeypatch.setattr(Suspect, "look", lambda *_: next(suspicions, Suspect()))
    make_numbers(engine, 4)
    with pytest.raises(MigrationFailed, match="rows held: 1"):
        migrator(engine, AddOne).run(options=SMALL)
    assert [(held.key, held.code) for held in migrator(engine, AddOne).issues("001-add-one")] == [
        (10, "killed_the_runner")
    ]
    assert rows_of(engine, "SELECT id FROM number WHERE y = id") == [(10,)]
