"""Automatic rollback: a journal in each batch's transaction, and rows restored while nobody else has changed them."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine
from sqlalchemy.dialects import mysql

from system_migration import BatchMigration, MigrationFailed, Refused, Row, RowIssue, RunOptions, Status
from system_migration.batching import images
from system_migration.clock import SystemClock
from system_migration.errors import Interrupted, LeaseLost, VerificationFailed
from system_migration.running import pruning
from system_migration.running.undo_batches import UndoBatches
from system_migration.store import journal
from system_migration.store.database import Database
from tests.db.test_workbench import (
    Bytes,
    ExactText,
    Fill,
    Increment,
    Timestamp,
    execute,
    fingerprint,
    make_numbers,
    make_table,
    migrator,
    rows_of,
    stored_status,
)

BATCHES_OF_TWO = RunOptions(workers=1, batch_size=2)


class Undoable(Increment):
    name = "001-undoable"
    rollbackable = True


class UndoableFill(Fill):
    name = "001-undoable-fill"
    rollbackable = True


def numbers(engine: Engine) -> dict[int, tuple[int | None, int | None]]:
    return {key: (y, z) for key, y, z in rows_of(engine, "SELECT id, y, z FROM number ORDER BY id")}


def listed(found: Any, name: str) -> list[tuple[Any, str]]:
    return sorted((issue.key, issue.code) for issue in found.issues(name))


# --- restoring -------------------------------------------------------------------------------------------------------


def test_every_row_becomes_what_it_was(engine: Engine) -> None:
    make_numbers(engine, 5)
    before = numbers(engine)
    found = migrator(engine, Undoable, UndoableFill)
    found.run(options=BATCHES_OF_TWO)
    assert numbers(engine) != before
    for name in (Undoable.name, UndoableFill.name):
        report = found.rollback(name)
        assert (report.status, report.records_processed, report.issues) == (Status.ROLLED_BACK, 5, 0)
    assert numbers(engine) == before
    assert [found.show(name).generation for name in (Undoable.name, UndoableFill.name)] == [2, 2]


def test_after_a_rollback_it_can_be_run_and_rolled_back_again(engine: Engine) -> None:
    make_numbers(engine, 3)
    before = numbers(engine)
    found = migrator(engine, Undoable)
    for _ in range(2):
        found.run(Undoable.name, BATCHES_OF_TWO)
        assert numbers(engine)[10] == (11, None)
        assert found.rollback(Undoable.name).records_processed == 3
        assert numbers(engine) == before


def test_rows_changed_or_deleted_since_are_listed_and_never_touched(engine: Engine) -> None:
    make_numbers(engine, 6)
    found = migrator(engine, Undoable)
    found.run(options=BATCHES_OF_TWO)
    execute(engine, "UPDATE number SET y = 777 WHERE id = 20")
    execute(engine, "UPDATE number SET z = 5 WHERE id = 30")  # not a column that the migration writes
    execute(engine, "DELETE FROM number WHERE id = 50")
    report = found.rollback(Undoable.name)
    assert numbers(engine) == {10: (10, None), 20: (777, None), 30: (30, 5), 40: (40, None), 60: (60, None)}
    assert (report.status, report.records_processed, report.issues) == (Status.ROLLED_BACK, 4, 2)
    assert listed(found, Undoable.name) == [(20, "changed_since"), (50, "vanished_since")]
    assert found.show(Undoable.name).status.issues == 2


def change_twice(engine: Engine) -> Any:
    """Rows that a first walk filled, that the application emptied, and that a second walk filled otherwise."""
    make_numbers(engine, 4)
    found = migrator(engine, UndoableFill)
    found.run(options=BATCHES_OF_TWO)
    execute(engine, "UPDATE number SET z = NULL, y = 7 WHERE id IN (20, 30)")
    found.run(UndoableFill.name, BATCHES_OF_TWO)
    assert numbers(engine)[20] == (7, 70)
    return found


def test_a_row_changed_twice_is_restored_step_by_step(engine: Engine) -> None:
    found = change_twice(engine)
    found.rollback(UndoableFill.name)
    # The second step leads back to what the application wrote, and that is not what the first one made.
    assert {key: z for key, (_, z) in numbers(engine).items()} == {10: None, 20: None, 30: None, 40: None}
    assert listed(found, UndoableFill.name) == [(20, "changed_since"), (30, "changed_since")]


def test_a_row_once_listed_is_not_touched_by_an_older_step(engine: Engine) -> None:
    found = change_twice(engine)
    execute(engine, "UPDATE number SET z = 200 WHERE id = 20")  # what the first walk had made of it
    found.rollback(UndoableFill.name)
    assert numbers(engine)[20] == (7, 200)
    assert listed(found, UndoableFill.name) == [(20, "changed_since"), (30, "changed_since")]


def test_a_failed_migration_is_undone_too(engine: Engine) -> None:
    class Picky(Undoable):
        def transform(self, row: Row) -> dict[str, Any]:
            if row.y == 30:
                raise RowIssue("bad", "no")
            return super().transform(row)

    make_numbers(engine, 4)
    before = numbers(engine)
    found = migrator(engine, Picky)
    with pytest.raises(MigrationFailed):
        found.run(options=BATCHES_OF_TWO)
    report = found.rollback(Picky.name)
    assert (report.status, report.records_processed) == (Status.ROLLED_BACK, 3)
    assert numbers(engine) == before


def test_a_paused_migration_is_undone_too(engine: Engine) -> None:
    make_numbers(engine, 4)
    before = numbers(engine)
    found = migrator(engine, Undoable)
    found.run(options=BATCHES_OF_TWO)
    execute(engine, "UPDATE system_migration_migration SET status = 'PAUSED'")
    assert found.rollback(Undoable.name).status is Status.ROLLED_BACK
    assert numbers(engine) == before


def test_an_interrupted_run_must_end_first(engine: Engine) -> None:
    make_numbers(engine, 4)
    found = migrator(engine, Undoable)
    found.run(options=BATCHES_OF_TWO)
    execute(engine, "UPDATE system_migration_migration SET status = 'RUNNING'")
    execute(engine, "UPDATE system_migration_run SET outcome = NULL, finished_at = NULL")
    with pytest.raises(Refused, match=r"is RUNNING; .* Cancel it first"):
        found.rollback(Undoable.name)


def test_a_column_that_prepare_added_stays_and_is_emptied(engine: Engine) -> None:
    class Prepared(UndoableFill):
        writes = ("fresh",)

        def prepare(self, schema: Any) -> None:
            schema.add_column("number", sa.Column("fresh", sa.String(20)))

        def pending(self, t: sa.FromClause) -> sa.ColumnElement[bool]:
            return t.c.fresh.is_(None)

        def transform(self, row: Row) -> dict[str, Any]:
            return {"fresh": f"<{row.y}>"}

    make_numbers(engine, 3)
    found = migrator(engine, Prepared)
    assert found.dry_run()[0].journal_bytes
    found.run(options=BATCHES_OF_TWO)
    found.rollback(Prepared.name)
    assert rows_of(engine, "SELECT fresh FROM number ORDER BY id") == [(None,)] * 3


def test_rows_are_found_again_by_keys_of_several_columns_and_types(engine: Engine) -> None:
    class Shift(Undoable):
        name = "001-shift"
        table = "place"

    key = [sa.Column("a", sa.Date, primary_key=True), sa.Column("b", ExactText, primary_key=True)]
    key.append(sa.Column("c", Bytes, primary_key=True))
    parts = [(date(2024, 1, n), text, data) for n in (1, 2) for text in ("a", "A", "ä'") for data in (b"", b"\0\xff")]
    rows = [{"a": a, "b": b, "c": c, "y": number} for number, (a, b, c) in enumerate(parts)]
    make_table(engine, "place", *key, sa.Column("y", sa.Integer), rows=rows)
    before = rows_of(engine, "SELECT a, b, c, y FROM place ORDER BY y")
    found = migrator(engine, Shift)
    found.run(options=RunOptions(workers=1, batch_size=5))
    execute(engine, "UPDATE place SET y = 99 WHERE y = 12")
    assert found.rollback(Shift.name).records_processed == 11
    assert rows_of(engine, "SELECT a, b, c, y FROM place ORDER BY y")[:11] == before[:11]
    assert [issue.code for issue in found.issues(Shift.name)] == ["changed_since"]


FORMS: dict[str, tuple[Any, list[Any]]] = {
    "integer": (sa.BigInteger(), [0, -1, 2**63 - 1]),
    "text": (sa.String(60), ["", "a", "A", "ä ", "'%\\:x", "😀", "line\nbreak"]),
    "double": (sa.Double(), [0.1, -0.0, 1e-300]),
    "single": (sa.REAL().with_variant(mysql.FLOAT(), "mysql", "mariadb"), [0.1, 16777217.0, 1.23456789]),
    "decimal": (sa.Numeric(20, 6), [Decimal("1.100000"), Decimal("-0.000001")]),
    "bytes": (Bytes, [b"", b"\0\xff", b"'"]),
    "timestamp": (Timestamp, [datetime(2024, 2, 29, 1, 2, 3, 999999), datetime(1969, 12, 31)]),
    "zoned": (sa.DateTime(timezone=True), [datetime(2024, 2, 29, 1, 2, 3, tzinfo=UTC)]),
    "date": (sa.Date(), [date(1969, 12, 31)]),
    "boolean": (sa.Boolean(), [True, False]),
    "json": (sa.JSON(), [{"b": [1, 1.0, None], "a": "ü"}, [], "x", 1]),
}


@pytest.mark.parametrize("form", FORMS)
def test_values_of_every_type_come_back_exactly(engine: Engine, form: str) -> None:
    """Compared as text that the database makes, so that no driver's reading hides a difference."""
    kind, values = FORMS[form]

    class Empty(BatchMigration):
        name = "001-empty"
        table = sa.Table("thing", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("v", kind))
        reads = ()
        writes = ("v",)
        rollbackable = True

        def transform(self, row: Row) -> dict[str, Any]:
            return {"v": values[0]}

    columns = sa.Column("id", sa.Integer, primary_key=True), sa.Column("v", kind)
    make_table(
        engine, "thing", *columns, rows=[{"id": n, "v": v} for n, v in enumerate([*values[1:], None, values[0]], 1)]
    )
    if form == "json" and engine.dialect.name != "postgresql":
        execute(engine, "UPDATE thing SET v = :odd WHERE id = 1", odd='{"odd" :1.0,"spelling":  1e2}')
    before = as_text(engine)
    found = migrator(engine, Empty)
    found.run(options=BATCHES_OF_TWO)
    found.rollback(Empty.name)
    assert as_text(engine) == before
    assert found.issues(Empty.name) == []


def as_text(engine: Engine) -> list[Any]:
    column = {"sqlite": "hex(v) || typeof(v)", "mysql": "HEX(v), v + 0.0", "postgresql": "v::text"}[engine.dialect.name]
    return rows_of(engine, f"SELECT id, {column} FROM thing ORDER BY id")


@pytest.mark.databases("postgresql")
def test_what_the_driver_reads_with_a_loss_comes_back_exactly(engine: Engine) -> None:
    class Empty(BatchMigration):
        name = "001-empty"
        table = "thing"
        reads = ()
        writes = ("j", "i", "f")
        rollbackable = True

        def transform(self, row: Row) -> dict[str, Any]:
            return {"j": {}, "i": timedelta(0), "f": 0.0}

    execute(engine, "CREATE TABLE thing (id int PRIMARY KEY, j json, i interval, f real)")
    add = "INSERT INTO thing VALUES (1, :odd, '1 month', 0.1), (2, 'null', NULL, 'NaN')"
    execute(engine, add, odd='{"a" :1.0,"a":  2}')
    before = rows_of(engine, "SELECT id, j::text, i::text, f::text FROM thing ORDER BY id")
    found = migrator(engine, Empty)
    found.run()
    execute(engine, "UPDATE thing SET i = '0 months' WHERE id = 1")
    found.rollback(Empty.name)
    assert rows_of(engine, "SELECT id, j::text, i::text, f::text FROM thing ORDER BY id") == before


SPELLINGS = {
    "DATETIME": ["2024-01-02 03:04:05", "2024-01-02T03:04:05.5", "2024-01-02 03:04", "2024-01-02 03:04:05.000000"],
    "DATE": ["2024-01-02", "2024-W01-2"],
    "TIME": ["03:04", "03:04:05.25"],
    "NUMERIC(20, 4)": [1, 1.5, 0.123456789012345],
    "BOOLEAN": [1, 0],
    "FLOAT": [0.1, 1e300],
    "BLOB": [b"\0\xff"],
    "JSON": ['{"a" :1.0,  "a": 2}'],
}
"""What a SQLite file may hold in a column, much of which SQLAlchemy would spell otherwise."""


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("kind", SPELLINGS)
def test_a_file_has_again_what_was_stored_in_it(engine: Engine, kind: str) -> None:
    class Empty(BatchMigration):
        name = "001-empty"
        table = "thing"
        reads = ("v",)
        writes = ("v",)
        rollbackable = True

        def transform(self, row: Row) -> dict[str, Any]:
            return {"v": None}

    execute(engine, f"CREATE TABLE thing (id INTEGER PRIMARY KEY, v {kind})")
    for value in SPELLINGS[kind]:
        execute(engine, "INSERT INTO thing (v) VALUES (:value)", value=value)
    before = as_text(engine)
    found = migrator(engine, Empty)
    (report,) = found.run(options=BATCHES_OF_TWO)
    assert report.records_processed == len(before)
    found.rollback(Empty.name)
    assert as_text(engine) == before
    assert found.issues(Empty.name) == []


# --- the application meanwhile ---------------------------------------------------------------------------------------


@pytest.fixture
def between_parts(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], None]], None]:
    """Call it with what shall happen after part 1, 2, ... of a rollback was committed."""

    def arrange(act: Callable[[int], None]) -> None:
        original, count = UndoBatches._report, 0

        def report(self: Any, done: int, total: int) -> None:
            nonlocal count
            count += 1
            act(count)
            original(self, done, total)

        monkeypatch.setattr(UndoBatches, "_report", report)

    return arrange


def test_a_row_changed_after_it_was_restored_is_listed(engine: Engine, between_parts: Any) -> None:
    make_numbers(engine, 4)
    found = migrator(engine, Undoable)
    found.run(options=BATCHES_OF_TWO)
    between_parts(lambda part: execute(engine, "UPDATE number SET y = -part WHERE id = 40".replace("part", str(part))))
    report = found.rollback(Undoable.name)
    assert numbers(engine)[40] == (-2, None)
    assert listed(found, Undoable.name) == [(40, "changed_since")]
    assert (report.records_processed, report.issues) == (3, 1)


def test_a_row_that_gets_the_migrated_value_again_is_restored_again(engine: Engine, between_parts: Any) -> None:
    make_numbers(engine, 4)
    before = numbers(engine)
    found = migrator(engine, Undoable)
    found.run(options=BATCHES_OF_TWO)
    between_parts(lambda part: execute(engine, "UPDATE number SET y = 41 WHERE id = 40"))
    found.rollback(Undoable.name)
    assert numbers(engine) == before
    assert found.issues(Undoable.name) == []


def test_a_rollback_that_left_rows_undone_is_not_called_done(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    make_numbers(engine, 4)
    found = migrator(engine, Undoable)
    found.run(options=BATCHES_OF_TWO)
    with monkeypatch.context() as patched:
        patched.setattr(images, "write_back", lambda *_: None)
        with pytest.raises(VerificationFailed, match="4 rows are still not what they were"):
            found.rollback(Undoable.name)
    assert stored_status(engine, Undoable.name) == "FAILED"
    assert found.rollback(Undoable.name).status is Status.ROLLED_BACK
    assert numbers(engine)[10] == (10, None)


def test_a_trigger_that_changes_what_is_restored_is_noticed(engine: Engine) -> None:
    make_numbers(engine, 2)
    found = migrator(engine, Undoable)
    found.run()
    for statement in TRIGGER[engine.dialect.name]:
        execute(engine, statement)
    with pytest.raises(MigrationFailed, match="Look for a trigger"):
        found.rollback(Undoable.name)
    assert numbers(engine) == {10: (11, None), 20: (21, None)}


TRIGGER = {
    "sqlite": [
        "CREATE TRIGGER meddle AFTER UPDATE ON number WHEN NEW.y = 10"
        " BEGIN UPDATE number SET y = 12 WHERE id = NEW.id; END"
    ],
    "mysql": ["CREATE TRIGGER meddle BEFORE UPDATE ON number FOR EACH ROW SET NEW.y = 12"],
    "postgresql": [
        "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.y = 12; RETURN NEW; END'",
        "CREATE TRIGGER meddle BEFORE UPDATE ON number FOR EACH ROW EXECUTE FUNCTION meddle()",
    ],
}


# --- stopping and going on -------------------------------------------------------------------------------------------


def test_a_signal_stops_it_after_a_part_and_run_or_rollback_goes_on(engine: Engine, between_parts: Any) -> None:
    for go_on in ("rollback", "run"):
        make_table_anew(engine)
        before = numbers(engine)
        found = migrator(engine, Undoable)
        found.run(Undoable.name, BATCHES_OF_TWO)
        stopping = migrator(engine, Undoable)
        between_parts(lambda part, m=stopping: m.request_stop(signal.SIGTERM) if part == 1 else None)
        with pytest.raises(Interrupted):
            stopping.rollback(Undoable.name)
        assert [y for y, _ in numbers(engine).values()] == [11, 21, 31, 41, 50, 60]
        assert found.show(Undoable.name).status.interrupted
        between_parts(lambda part: None)
        found.rollback(Undoable.name) if go_on == "rollback" else found.run()
        assert stored_status(engine, Undoable.name) == "ROLLED_BACK"
        assert numbers(engine) == before


def make_table_anew(engine: Engine) -> None:
    execute(engine, "DROP TABLE IF EXISTS number")
    make_numbers(engine, 6)


def test_more_listed_rows_than_accepted_stop_it_and_it_can_go_on(engine: Engine) -> None:
    make_numbers(engine, 6)
    found = migrator(engine, Undoable)
    found.run(options=BATCHES_OF_TWO)
    execute(engine, "UPDATE number SET y = 0 WHERE id IN (50, 60)")
    with pytest.raises(MigrationFailed, match=r"accepted: 1\. .* higher --max-issues"):
        found.rollback(Undoable.name, RunOptions(max_issues=1))
    assert numbers(engine)[10] == (11, None)
    with pytest.raises(Refused, match=r"has undone a part of its work.*migration rollback 001-undoable"):
        found.run(Undoable.name)
    assert found.pending() == []
    assert found.rollback(Undoable.name).issues == 2
    assert numbers(engine)[10] == (10, None)


def test_without_a_limit_all_rows_may_be_listed(engine: Engine) -> None:
    make_numbers(engine, 4)
    found = migrator(engine, Undoable)
    found.run(options=BATCHES_OF_TWO)
    execute(engine, "UPDATE number SET y = 0")
    assert found.rollback(Undoable.name).issues == 4


@pytest.mark.parametrize("after_part", [1, 2])
def test_one_whose_fence_was_raised_writes_nothing_more(engine: Engine, between_parts: Any, after_part: int) -> None:
    """After the last part only the record is left to write, and that is fenced too."""
    make_numbers(engine, 4)
    found = migrator(engine, Undoable)
    found.run(options=BATCHES_OF_TWO)
    raise_fence = "UPDATE system_migration_run SET fence = fence + 1"
    between_parts(lambda part: execute(engine, raise_fence) if part == after_part else None)
    with pytest.raises(LeaseLost):
        found.rollback(Undoable.name)
    assert stored_status(engine, Undoable.name) == "RUNNING"
    assert sum(y % 10 for y, _ in numbers(engine).values() if y) == 4 - 2 * after_part


@pytest.mark.databases("postgresql", "mariadb")  # SQLite has no answer that could be lost
def test_a_part_is_undone_once_though_the_answer_to_its_commit_was_lost(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_numbers(engine, 4)
    before = numbers(engine)
    found = migrator(engine, Undoable)
    found.run(options=BATCHES_OF_TWO)
    undo, write, undone, lost = UndoBatches._undo, Database.write, [], []

    def noted(*arguments: Any) -> Any:
        undone.append(arguments)
        return undo(*arguments)

    @contextmanager
    def committed_without_an_answer(*arguments: Any, **named: Any) -> Iterator[sa.Connection]:
        parts = len(undone)
        with write(*arguments, **named) as connection:
            yield connection
        if len(undone) > parts:
            lost.append(connection)
            gone = RuntimeError("the connection is gone")
            raise sa.exc.OperationalError("COMMIT", None, gone, connection_invalidated=True)

    monkeypatch.setattr(UndoBatches, "_undo", noted)
    monkeypatch.setattr(Database, "write", committed_without_an_answer)
    report = found.rollback(Undoable.name)
    assert len(undone) == len(lost) == 2
    assert (report.records_processed, report.issues) == (4, 0)
    assert numbers(engine) == before


# --- refused ---------------------------------------------------------------------------------------------------------


def refused(found: Any, engine: Engine, because: str) -> None:
    """Refused, and nothing but the record of the refusal was written."""
    spoken = {f"system_migration_{each}" for each in ("run", "log", "event", "event_link", "event_head", "lease")}
    before = fingerprint(engine, but=spoken)
    with pytest.raises(Refused, match=because):
        found.rollback(Undoable.name)
    assert fingerprint(engine, but=spoken) == before
    assert found.history(Undoable.name)[0].outcome == "refused"


SPOILT = {
    "no journal": ("DELETE FROM system_migration_journal", "it has no journal of the 4 rows"),
    "a part is missing": (
        "DELETE FROM system_migration_journal WHERE id ="
        " (SELECT * FROM (SELECT min(id) FROM system_migration_journal) oldest)",
        "its journal is incomplete: it has 2 of 4 changes",
    ),
    "a value was changed": ("UPDATE system_migration_journal SET images = replace(images, '10', '19')", "is damaged"),
    "other type": ("ALTER TABLE number {change} y {type} BIGINT", "column 'y' of 'number' was INT"),
    "column gone": ("ALTER TABLE number DROP COLUMN y", "column 'y' of 'number', which was journalled, is gone"),
}


@pytest.mark.parametrize("reason", SPOILT)
def test_what_the_journal_cannot_undo_is_refused_with_the_reason(engine: Engine, reason: str) -> None:
    statement, because = SPOILT[reason]
    if reason == "other type" and engine.dialect.name == "sqlite":
        statement = "ALTER TABLE number RENAME COLUMN y TO gone; ALTER TABLE number ADD COLUMN y BIGINT"
    words = {"postgresql": ("ALTER", "TYPE"), "mysql": ("MODIFY", ""), "sqlite": ("", "")}[engine.dialect.name]
    make_numbers(engine, 4)
    found = migrator(engine, Undoable)
    found.run(options=BATCHES_OF_TWO)
    for each in statement.format(change=words[0], type=words[1]).split(";"):
        execute(engine, each)
    refused(found, engine, because)


def test_other_declared_columns_than_journalled_are_refused(engine: Engine) -> None:
    class Wider(Undoable):
        writes = ("y", "z")

    make_numbers(engine, 2)
    migrator(engine, Undoable).run()
    refused(migrator(engine, Wider), engine, "declares other columns of 'number' than it journalled")


def test_columns_it_only_read_may_be_gone(engine: Engine) -> None:
    class Reader(Undoable):
        reads = ("y", "z")

    make_numbers(engine, 2)
    found = migrator(engine, Reader)
    found.run()
    execute(engine, "ALTER TABLE number DROP COLUMN z")
    found.rollback(Reader.name)
    assert rows_of(engine, "SELECT y FROM number ORDER BY id") == [(10,), (20,)]


def test_what_a_completed_migration_requires_is_not_rolled_back(engine: Engine) -> None:
    class Later(UndoableFill):
        name = "002-later"
        requires = (Undoable.name,)

    make_numbers(engine, 2)
    found = migrator(engine, Undoable, Later)
    found.run()
    with pytest.raises(Refused, match="002-later requires 001-undoable and is COMPLETED"):
        found.rollback(Undoable.name)


def test_a_migration_that_has_done_nothing_has_nothing_to_roll_back(engine: Engine) -> None:
    make_numbers(engine, 2)
    with pytest.raises(Refused, match="is PENDING; there is no finished work"):
        migrator(engine, Undoable).rollback(Undoable.name)


def test_sensitive_columns_are_not_journalled_unless_said_so(engine: Engine) -> None:
    class Secret(Undoable):
        sensitive = ("y",)

    class Said(Secret):
        journal_sensitive = True

    make_numbers(engine, 2)
    assert migrator(engine, Secret).dry_run()[0].refusal
    with pytest.raises(Refused, match=r"sensitive column 'y'.*journal_sensitive = True.*or write down\(\)"):
        migrator(engine, Secret).run()
    assert "would journal the sensitive column 'y'" in migrator(engine, Secret).show(Secret.name).rollback
    assert numbers(engine)[10] == (10, None)
    found = migrator(engine, Said)
    found.run(Said.name)
    found.rollback(Said.name)
    assert numbers(engine)[10] == (10, None)


def test_with_its_own_down_nothing_is_journalled(engine: Engine) -> None:
    class Own(Undoable):
        def down(self, context: Any) -> Any:
            from system_migration import MigrationRollbackResult

            return MigrationRollbackResult(records_processed=context.connection.execute(sa.text(TAKE)).rowcount)

    make_numbers(engine, 2)
    found = migrator(engine, Own)
    found.run()
    assert rows_of(engine, "SELECT count(*) FROM system_migration_journal") == [(0,)]
    found.rollback(Own.name)
    assert numbers(engine)[10] == (10, None)


TAKE = "UPDATE number SET y = y - 1"


# --- the journal itself ----------------------------------------------------------------------------------------------


def test_a_batch_is_kept_in_parts_of_bounded_size(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "PART_BYTES", 40)
    make_numbers(engine, 9)
    before = numbers(engine)
    found = migrator(engine, Undoable)
    found.run(options=RunOptions(workers=1, batch_size=9))
    parts = rows_of(engine, "SELECT images FROM system_migration_journal ORDER BY id")
    assert len(parts) > 3
    assert sum(len(json.loads(text)["images"]) for (text,) in parts) == 9
    found.rollback(Undoable.name)
    assert numbers(engine) == before


def test_large_values_fit_into_the_packets_of_the_database(engine: Engine) -> None:
    """More than MariaDB's default packet in one batch; each value is within a part."""

    class Shout(BatchMigration):
        name = "001-shout"
        table = "page"
        reads = ("body",)
        writes = ("body",)
        rollbackable = True
        rows: ClassVar[int] = 20

        def transform(self, row: Row) -> dict[str, Any]:
            return {"body": row.body.upper()}

    body = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
    rows = [{"id": n, "body": chr(96 + n) * 500_000} for n in range(1, Shout.rows + 1)]
    make_table(engine, "page", sa.Column("id", sa.Integer, primary_key=True), sa.Column("body", body), rows=rows[:0])
    for row in rows:
        execute(engine, "INSERT INTO page VALUES (:id, :body)", **row)
    found = migrator(engine, Shout)
    found.run(options=RunOptions(workers=1, batch_size=Shout.rows))
    found.rollback(Shout.name)
    assert rows_of(engine, "SELECT id, body FROM page ORDER BY id") == [(row["id"], row["body"]) for row in rows]


# --- looking, estimating, pruning ------------------------------------------------------------------------------------


def test_a_dry_run_tells_what_a_rollback_would_do_and_changes_nothing(engine: Engine) -> None:
    found = change_twice(engine)
    execute(engine, "DELETE FROM number WHERE id = 10")
    before = fingerprint(engine)
    report = found.dry_rollback(UndoableFill.name)
    assert fingerprint(engine) == before
    assert (report.rows, report.would_change, report.would_hold) == (6, 3, 3)
    assert [(held.code, sorted(held.keys)) for held in report.held] == [
        ("changed_since", [20, 30]),
        ("vanished_since", [10]),
    ]
    done = found.rollback(UndoableFill.name)
    assert (done.records_processed, done.issues) == (report.would_change, report.would_hold)


def test_a_dry_run_names_the_refusal(engine: Engine) -> None:
    make_numbers(engine, 2)
    found = migrator(engine, Undoable)
    assert "there is no finished work" in str(found.dry_rollback(Undoable.name).refusal)
    found.run()
    execute(engine, "DELETE FROM system_migration_journal")
    assert "no journal of the 2 rows" in str(found.dry_rollback(Undoable.name).refusal)


def test_it_is_said_whether_a_migration_can_be_rolled_back(engine: Engine) -> None:
    make_numbers(engine, 3)
    found = migrator(engine, Undoable, Fill)
    assert found.show(Fill.name).rollback == "cannot be rolled back: it declares rollbackable = False."
    assert found.show(Undoable.name).rollback == "journals its changes, so that it can be rolled back."
    found.run(options=BATCHES_OF_TWO)
    assert found.show(Undoable.name).rollback == "can be rolled back from its journal of 3 changes."
    execute(engine, "DELETE FROM system_migration_journal")
    assert found.show(Undoable.name).rollback == "cannot be rolled back: it has no journal of the 3 rows it changed."


def test_the_size_of_the_journal_is_estimated_before_the_start(engine: Engine) -> None:
    make_numbers(engine, 40)
    found = migrator(engine, Undoable, Fill)
    other, report = found.dry_run()
    found.run(options=RunOptions(workers=1, batch_size=20))
    ((real,),) = rows_of(engine, "SELECT sum(length(images)) FROM system_migration_journal")
    assert report.journal_bytes == pytest.approx(float(real), rel=0.3)
    assert other.journal_bytes is None
    assert any("the journal of 40 rows will take about" in line.message for line in found.logs(Undoable.name))


def test_pruning_deletes_the_journal_for_good_and_says_so(engine: Engine) -> None:
    make_numbers(engine, 5)
    found = migrator(engine, Undoable)
    found.run(options=BATCHES_OF_TWO)
    pruned = found.prune(Undoable.name)
    assert (pruned.rows, pruned.parts) == (5, 3)
    assert rows_of(engine, "SELECT count(*) FROM system_migration_journal") == [(0,)]
    assert found.show(Undoable.name).rollback == "cannot be rolled back: its journal was pruned."
    status = found.show(Undoable.name).status
    assert (status.rollbackable, status.unjournalled) == (False, True)
    assert [event.action for event in found.show(Undoable.name).events][:2] == ["pruned", "prune_started"]
    refused(found, engine, "its journal was pruned")
    with pytest.raises(Refused, match="no journal to prune"):
        found.prune(Undoable.name)


def test_the_journal_of_unfinished_work_is_never_pruned(engine: Engine) -> None:
    class Picky(Undoable):
        def transform(self, row: Row) -> dict[str, Any]:
            if row.y == 30:
                raise RowIssue("bad", "no")
            return super().transform(row)

    make_numbers(engine, 3)
    found = migrator(engine, Picky)
    with pytest.raises(MigrationFailed):
        found.run()
    with pytest.raises(Refused, match="is FAILED: the journal of its unfinished work is kept"):
        found.prune(Picky.name)
    assert found.rollback(Picky.name).records_processed == 2
    assert found.prune(Picky.name).rows == 2  # rolled back, so it is of no more use


def test_a_prune_that_died_half_way_is_ended_by_the_next(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: Any) -> Any:
        raise KeyboardInterrupt

    make_numbers(engine, 6)
    found = migrator(engine, Undoable)
    found.run(options=BATCHES_OF_TWO)
    monkeypatch.setattr(pruning, "PARTS_AT_ONCE", 1)
    original, calls = journal.delete_some, 0

    def delete_some(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        return original(*given) if calls < 3 else die()

    with monkeypatch.context() as patched:
        patched.setattr(journal, "delete_some", delete_some)
        with pytest.raises(KeyboardInterrupt):
            found.prune(Undoable.name)
    refused(found, engine, "its journal was pruned")
    assert found.prune(Undoable.name).parts == 1


class Watched(SystemClock):
    """A clock that passes when somebody sleeps, and at no other time."""

    def __init__(self) -> None:
        self.slept = 0.0

    def monotonic(self) -> float:
        return self.slept

    def sleep(self, seconds: float) -> None:
        self.slept += seconds


def test_a_rollback_keeps_to_the_rate_it_was_given(engine: Engine) -> None:
    make_numbers(engine, 6)
    migrator(engine, Undoable).run(options=BATCHES_OF_TWO)
    clock = Watched()
    migrator(engine, Undoable, clock=clock).rollback(Undoable.name, RunOptions(max_rate=20.0))
    assert clock.slept == pytest.approx(6 / 20)
