"""Batch migrations on every database: each row exactly once, whatever its key, and whoever else writes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine

from system_migration import BatchMigration, MigrationFailed, Refused, Row, RowIssue, RunOptions, Status
from system_migration.batching.ranges import SPAN
from system_migration.errors import Interrupted, Paused
from tests.db.test_workbench import (
    Bytes,
    ExactText,
    Fill,
    Increment,
    Timestamp,
    execute,
    make_numbers,
    make_table,
    migrator,
    rows_of,
    stored_status,
)

ONE_WORKER = RunOptions(workers=1, batch_size=4)


def batches(engine: Engine, name: str = "%") -> list[tuple[int, int, int, int]]:
    """(pass, range, rows read, changed) of every committed batch."""
    quote = engine.dialect.identifier_preparer.quote
    query = f"SELECT {quote('pass')}, {quote('range')}, rows_read, changed FROM system_migration_ledger"
    return sorted(rows_of(engine, f"{query} WHERE name LIKE :name", name=name))  # type: ignore[arg-type]


def covered(engine: Engine, name: str) -> list[tuple[int, int]]:
    """The numbers that the first pass has in the ledger, (first, last) of each uninterrupted sequence."""
    quote = engine.dialect.identifier_preparer.quote
    query = f"SELECT {quote('range')}, last_range FROM system_migration_ledger WHERE name = :name ORDER BY 1"
    found: list[tuple[int, int]] = []
    for first, last in rows_of(engine, query, name=name):
        if found and found[-1][1] == first - 1:
            first, _ = found.pop()
        found.append((first, last))
    return found


# --- every row, exactly once -----------------------------------------------------------------------------------------


def on_table(migration: type[BatchMigration], table: str) -> type[BatchMigration]:
    """The same migration for another table, under a name of its own."""
    return type(migration.__name__, (migration,), {"table": table, "name": f"{migration.name}-{table}"})


def test_every_row_is_done_once_whatever_the_count(engine: Engine, subtests: pytest.Subtests) -> None:
    """None, one, exact multiples of the batch, and one more."""
    for count in (0, 1, 4, 8, 9):
        with subtests.test(count=count):
            table = f"number_{count}"
            make_numbers(engine, count, table=table)
            both = migrator(engine, on_table(Increment, table), on_table(Fill, table))
            fill, increment = both.run(options=ONE_WORKER)
            expected = [(key, key + 1, key * 10) for key in range(10, count * 10 + 1, 10)]
            assert rows_of(engine, f"SELECT id, y, z FROM {table} ORDER BY id") == expected
            assert (increment.status, increment.records_processed, increment.issues) == (Status.COMPLETED, count, 0)
            assert (fill.status, fill.records_processed, fill.verified) == (Status.COMPLETED, count, True)


def test_without_a_check_of_any_kind_it_is_not_called_verified(engine: Engine) -> None:
    make_numbers(engine, 2)
    (report,) = migrator(engine, Increment).run()
    assert (report.status, report.verified) == (Status.COMPLETED, False)


def test_columns_read_may_be_null(engine: Engine) -> None:
    class FillNulls(Fill):
        def transform(self, row: Row) -> dict[str, Any]:
            return {"z": -1 if row.y is None else row.y}

    make_numbers(engine, 4)
    execute(engine, "UPDATE number SET y = NULL WHERE id IN (10, 30)")
    migrator(engine, FillNulls).run()
    assert rows_of(engine, "SELECT id, y, z FROM number ORDER BY id") == [
        (10, None, -1),
        (20, 20, 20),
        (30, None, -1),
        (40, 40, 40),
    ]


def test_prepare_adds_the_column_that_transform_fills(engine: Engine) -> None:
    class Prepared(Fill):
        writes = ("fresh",)

        def prepare(self, schema: Any) -> None:
            schema.add_column("number", sa.Column("fresh", sa.String(20)))
            schema.create_index("ix_number_fresh", "number", ["fresh"])

        def pending(self, t: sa.FromClause) -> sa.ColumnElement[bool]:
            return t.c.fresh.is_(None)

        def transform(self, row: Row) -> dict[str, Any]:
            return {"fresh": f"<{row.y}>"}

    make_numbers(engine, 3)
    (report,) = migrator(engine, Prepared).run()
    assert (report.records_processed, report.verified) == (3, True)
    assert rows_of(engine, "SELECT fresh FROM number ORDER BY id") == [("<10>",), ("<20>",), ("<30>",)]
    assert [index["name"] for index in sa.inspect(engine).get_indexes("number")] == ["ix_number_fresh"]


# --- keys ------------------------------------------------------------------------------------------------------------

BIG = 2**63 - 1
KEYS: dict[str, tuple[list[Any], list[tuple[Any, ...]]]] = {
    "bigint_key": ([sa.BigInteger()], [(-BIG,), (-1,), (0,), (2**53 + 1,), (BIG - 1,), (BIG,)]),
    "text_key": (
        [ExactText],
        [("a",), ("A",), ("a ",), ("",), ("ä",), ("a\u0308",), ("Ä",), ("ß",), ("😀",), ("'%\\_:x",), ("Z",)],
    ),
    "default_text_key": ([sa.String(40)], [("anna",), ("Bert",), ("äther",), ("Zoë",), ("😀",), ("o'neil",), ("50%",)]),
    "char_key": ([sa.CHAR(10)], [("a",), ("b",), ("bb",), ("c d",), ("zebra",)]),
    "uuid_key": ([sa.Uuid()], [(UUID(int=number << 64 | 7),) for number in (0, 1, 2**63, 2**64 - 1, 5)]),
    "bytes_key": ([Bytes], [(b"",), (b"\0",), (b"\0\xff",), (b"'",), (b"\xff\xfe",)]),
    "decimal_key": ([sa.Numeric(12, 3)], [(Decimal(n) / 1000,) for n in (-1500, -1, 0, 1, 999999999999)]),
    "datetime_key": (
        [Timestamp],
        [
            (datetime(1969, 12, 31, 23, 59, 59, 999999),),
            *((datetime(2024, 2, 29, 1, 2, 3, n),) for n in (0, 1, 10, 99)),
        ],
    ),
    "date_key": ([sa.Date()], [(date(year, 12, 31),) for year in (1000, 1969, 2000, 2024, 9999)]),
    "pair_key": ([sa.Integer(), ExactText], [(1, "a"), (1, "B"), (1, "b"), (2, ""), (2, "ü"), (-3, "z"), (3, "😀")]),
    "triple_key": (
        [sa.Date(), sa.Integer(), sa.Numeric(6, 2)],
        [(date(2024, 1, d), n, Decimal(m)) for d in (1, 2) for n in (1, 2) for m in ("0.10", "7.25")],
    ),
}
WITH_PENDING = {"text_key", "bytes_key", "pair_key"}
"""Walked with `pending` too."""


def stopped_half_way_and_resumed(engine: Engine, *migrations: type[BatchMigration]) -> None:
    """A signal stops each after its first batch, so the second run reads its bounds from the ledger."""

    class Stopping:
        def transform(self, row: Row) -> Any:
            starter.request_stop(15)
            return super().transform(row)  # type: ignore[misc]

    for migration in migrations:
        starter = migrator(engine, type("Stopping", (Stopping, migration), {}))
        with pytest.raises(Interrupted, match="Stopped by SIGTERM at a clean checkpoint"):
            starter.run(options=ONE_WORKER)
        status = starter.show(migration.name).status
        assert (status.status, status.stale, status.interrupted) == (Status.RUNNING, True, True)
    reports = migrator(engine, *migrations).run(options=RunOptions(batch_size=2, workers=1, accept_code_change=True))
    assert [report.status for report in reports] == [Status.COMPLETED] * len(migrations)


def test_rows_with_keys_of_any_type_are_done_once_though_the_run_was_stopped(
    engine: Engine, subtests: pytest.Subtests
) -> None:
    for kind, (types, values) in KEYS.items():
        with subtests.test(kind=kind):
            names = [f"k{index}" for index in range(len(types))]
            keys = [
                sa.Column(name, type_, primary_key=True, autoincrement=False)
                for name, type_ in zip(names, types, strict=True)
            ]
            columns = [*keys, sa.Column("y", sa.Integer()), sa.Column("z", sa.Integer())]
            rows = [dict(zip(names, key, strict=True)) | {"y": number} for number, key in enumerate(values)]
            make_table(engine, kind, *columns, rows=rows)

            forms = (Fill, Increment) if kind in WITH_PENDING else (Increment,)
            stopped_half_way_and_resumed(engine, *(on_table(form, kind) for form in forms))
            filled = [number * 10 if Fill in forms else None for number in range(len(values))]
            done = rows_of(engine, f"SELECT y, z FROM {kind} ORDER BY y")
            assert done == [(number + 1, filled[number]) for number in range(len(values))]
    missed = "SELECT SUM(vanished), SUM(deferred), SUM(held) FROM system_migration_ledger"
    assert rows_of(engine, missed) == [(0, 0, 0)]


def test_a_table_without_a_key_is_refused(engine: Engine) -> None:
    make_table(engine, "number", sa.Column("y", sa.Integer()), sa.Column("z", sa.Integer()), rows=[{"y": 1}])
    with pytest.raises(Refused, match="'number' has no primary key"):
        migrator(engine, Increment).run()
    assert stored_status(engine, "001-increment") == "PENDING"


def test_a_missing_table_or_column_is_refused_and_named(engine: Engine) -> None:
    class WritesNowhere(Increment):
        writes = ("yy",)

    with pytest.raises(Refused, match="Table 'number' does not exist"):
        migrator(engine, Increment).run()
    make_numbers(engine, 1)
    with pytest.raises(Refused, match="'number' has no column 'yy', which migration 001-increment declares"):
        migrator(engine, WritesNowhere).run()


# --- rows that come while it runs ------------------------------------------------------------------------------------


class Meddled:
    """A mixin: what an application does, through its own connection, while the first row is transformed."""

    meddle: ClassVar[Callable[[], None]]
    times: ClassVar[int] = 1

    def transform(self, row: Row) -> Any:
        cls = type(self)
        if cls.times:
            cls.times -= 1
            cls.meddle()
        return super().transform(row)  # type: ignore[misc]


def meddled(migration: type[BatchMigration], meddle: Callable[[], None], times: int = 1) -> type[BatchMigration]:
    return type("Meddling", (Meddled, migration), {"meddle": staticmethod(meddle), "times": times})


def test_without_pending_rows_above_the_bound_are_left_alone(engine: Engine) -> None:
    make_numbers(engine, 5)
    insert = "INSERT INTO number (id, y) VALUES (1000, 1000)"
    (report,) = migrator(engine, meddled(Increment, lambda: execute(engine, insert))).run(options=ONE_WORKER)
    assert report.records_processed == 5
    assert rows_of(engine, "SELECT y FROM number WHERE id = 1000") == [(1000,)]


def test_with_pending_the_sweep_finds_rows_above_the_bound_and_behind_the_walk(engine: Engine) -> None:
    make_numbers(engine, 9)

    def insert() -> None:
        execute(engine, "INSERT INTO number (id, y) VALUES (1000, 7)")

    def insert_behind() -> None:
        execute(engine, "INSERT INTO number (id, y) VALUES (1, 8)")

    class Late(Fill):
        def transform(self, row: Row) -> Any:
            if row.y == 90:
                insert_behind()
            return super().transform(row)

    (report,) = migrator(engine, meddled(Late, insert)).run(options=ONE_WORKER)
    assert (report.status, report.records_processed, report.verified) == (Status.COMPLETED, 11, True)
    assert rows_of(engine, "SELECT id, z FROM number WHERE id IN (1, 1000) ORDER BY id") == [(1, 80), (1000, 70)]
    assert {number for number, *_ in batches(engine)} == {1, 2}


def test_writers_that_never_rest_pause_the_run_and_it_resumes_by_name(engine: Engine) -> None:
    make_numbers(engine, 1)
    new = iter(range(100, 200))

    def insert() -> None:
        key = next(new)
        execute(engine, "INSERT INTO number (id, y) VALUES (:key, :key)", key=key)

    restless = meddled(Fill, insert, times=7)  # a row more in each of the five passes, and in the one that checks
    with pytest.raises(Paused, match=r"passes over the table all found new rows.*run it again by name"):
        migrator(engine, restless).run()
    assert stored_status(engine, "001-fill") == "PAUSED"
    with pytest.raises(Paused, match="Go on with `migration run 001-fill`"):
        migrator(engine, restless).run()  # not by name: left for a person
    restless.times = 0  # type: ignore[attr-defined]
    (report,) = migrator(engine, restless).run("001-fill")
    assert report.status is Status.COMPLETED
    assert rows_of(engine, "SELECT COUNT(*) FROM number WHERE z IS NULL") == [(0,)]
    assert rows_of(engine, "SELECT COUNT(*) FROM number WHERE z = y * 10") == [(report.records_processed,)]


@pytest.mark.parametrize("migration", [Increment, Fill])
def test_rows_that_vanish_are_counted(engine: Engine, migration: type[BatchMigration]) -> None:
    make_numbers(engine, 6)
    gone = meddled(migration, lambda: execute(engine, "DELETE FROM number WHERE id IN (20, 30)"))
    (report,) = migrator(engine, gone).run(options=ONE_WORKER)
    assert (report.status, report.records_processed, report.vanished) == (Status.COMPLETED, 4, 2)


@pytest.mark.parametrize(
    ("migration", "expected"),
    [(Increment, [(10, 501, None), (20, 21, None)]), (Fill, [(10, 500, 5000), (20, 20, 200)])],
)
def test_a_row_that_changed_meanwhile_is_done_from_its_new_value(
    engine: Engine, migration: type[BatchMigration], expected: list[Any]
) -> None:
    make_numbers(engine, 2)
    raced = meddled(migration, lambda: execute(engine, "UPDATE number SET y = 500 WHERE id = 10"))
    (report,) = migrator(engine, raced).run(options=ONE_WORKER)
    assert rows_of(engine, "SELECT id, y, z FROM number ORDER BY id") == expected
    assert (report.records_processed, report.changed_meanwhile) == (2, 1)


def test_what_the_application_writes_into_the_target_column_meanwhile_stays(engine: Engine) -> None:
    make_numbers(engine, 3)
    raced = meddled(Fill, lambda: execute(engine, "UPDATE number SET z = -7 WHERE id = 20"))
    (report,) = migrator(engine, raced).run(options=ONE_WORKER)
    assert rows_of(engine, "SELECT id, z FROM number ORDER BY id") == [(10, 100), (20, -7), (30, 300)]
    assert (report.records_processed, report.changed_meanwhile) == (2, 1)


def test_without_pending_a_row_that_changes_in_every_pass_pauses_and_resumes(engine: Engine) -> None:
    make_numbers(engine, 2)
    restless = meddled(Increment, lambda: execute(engine, "UPDATE number SET y = y + 100 WHERE id = 10"), times=1_000)
    with pytest.raises(Paused, match="some rows changed again in every one of the last passes"):
        migrator(engine, restless).run(options=RunOptions(workers=1))
    assert stored_status(engine, "001-increment") == "PAUSED"
    ((before,),) = rows_of(engine, "SELECT y FROM number WHERE id = 10")
    assert before % 100 == 10  # never written by us so far
    restless.times = 0  # type: ignore[attr-defined]
    migrator(engine, restless).run("001-increment")
    assert rows_of(engine, "SELECT id, y FROM number ORDER BY id") == [(10, before + 1), (20, 21)]


# --- held rows -------------------------------------------------------------------------------------------------------


class HoldsOdd(Fill):
    """Holds the rows 10 and 30, of four."""

    def transform(self, row: Row) -> Any:
        if row.y in (10, 30):
            raise RowIssue("odd", "the tens are odd")
        return super().transform(row)


class HoldsOddInPlace(Increment):
    def transform(self, row: Row) -> Any:
        if row.y in (10, 30):
            raise RowIssue("odd", "the tens are odd")
        return super().transform(row)


@pytest.mark.parametrize("migration", [HoldsOdd, HoldsOddInPlace])
def test_held_rows_fail_the_run_until_they_are_accepted(engine: Engine, migration: type[BatchMigration]) -> None:
    make_numbers(engine, 4)
    before = rows_of(engine, "SELECT * FROM number WHERE id IN (10, 30)")
    with pytest.raises(MigrationFailed, match=r"held: 2, allowed: 0\. .*run it again with --max-issues 2"):
        migrator(engine, migration).run()
    assert stored_status(engine, migration.name) == "FAILED"
    with pytest.raises(MigrationFailed, match="held: 2, allowed: 1"):
        migrator(engine, migration).run(options=RunOptions(max_issues=1))

    (report,) = migrator(engine, migration).run(options=RunOptions(max_issues=2))
    assert (report.status, report.issues, report.records_processed) == (Status.COMPLETED, 2, 2)
    assert rows_of(engine, "SELECT * FROM number WHERE id IN (10, 30)") == before
    issues = migrator(engine, migration).issues(migration.name)
    assert [(issue.key, issue.code, issue.message) for issue in issues] == [
        (10, "odd", "the tens are odd"),
        (30, "odd", "the tens are odd"),
    ]
    assert all(issue.at.tzinfo is UTC for issue in issues)
    (status,) = migrator(engine, migration).status().migrations
    assert (status.status, status.issues, status.error) == (Status.COMPLETED, 2, None)


def test_the_migration_itself_may_allow_held_rows(engine: Engine) -> None:
    class Lenient(HoldsOdd):
        def allowed_issues(self, rows: int) -> int:
            return rows // 2

    make_numbers(engine, 4)
    (report,) = migrator(engine, Lenient).run()
    assert (report.status, report.issues, report.verified) == (Status.COMPLETED, 2, True)


def test_a_run_stops_after_so_many_issues_and_continues(engine: Engine) -> None:
    class Wrong(Fill):
        wrong: ClassVar[bool] = True

        def transform(self, row: Row) -> Any:
            if self.wrong:
                raise RowIssue("wrong")
            return super().transform(row)

    make_numbers(engine, 9)
    with pytest.raises(MigrationFailed, match=r"2 rows are held, and the run was to stop at 2"):
        migrator(engine, Wrong).run(options=RunOptions(batch_size=2, workers=1, stop_after_issues=2))
    assert len(migrator(engine, Wrong).issues("001-fill")) == 2
    assert batches(engine) == [(1, 1, 2, 0)]
    Wrong.wrong = False
    (report,) = migrator(engine, Wrong).run(options=RunOptions(max_issues=2))
    assert (report.records_processed, report.issues) == (7, 2)


def test_accepting_changed_code_tries_the_held_rows_again(engine: Engine) -> None:
    make_numbers(engine, 4)
    with pytest.raises(MigrationFailed):
        migrator(engine, HoldsOdd).run()
    (report,) = migrator(engine, Fill).run(options=RunOptions(accept_code_change=True))
    assert (report.status, report.records_processed, report.issues) == (Status.COMPLETED, 4, 0)
    assert rows_of(engine, "SELECT z FROM number ORDER BY id") == [(100,), (200,), (300,), (400,)]
    assert migrator(engine, Fill).issues("001-fill") == []


def test_an_error_in_transform_holds_the_row_without_its_text(engine: Engine) -> None:
    class Careless(Fill):
        def transform(self, row: Row) -> Any:
            return {"z": int(f"secret-{row.y}")}

    make_numbers(engine, 1)
    with pytest.raises(MigrationFailed):
        migrator(engine, Careless).run()
    (issue,) = migrator(engine, Careless).issues("001-fill")
    assert issue.code == "transform_error"
    assert issue.message.startswith("ValueError raised at test_batches.py:")
    everything = "".join(
        str(rows_of(engine, f"SELECT * FROM {table}"))
        for table in sa.inspect(engine).get_table_names()
        if table != "number"
    )
    assert "transform_error" in everything
    assert "secret" not in everything


def test_a_transform_that_changes_nothing_is_held_as_still_pending(engine: Engine) -> None:
    class Idle(Fill):
        def transform(self, row: Row) -> Any:
            return {"z": None}

    make_numbers(engine, 3)
    with pytest.raises(MigrationFailed, match="held: 3"):
        migrator(engine, Idle).run()
    assert {issue.code for issue in migrator(engine, Idle).issues("001-fill")} == {"still_pending"}


def test_a_value_that_leaves_pending_true_is_refused_before_it_is_written_twice(engine: Engine) -> None:
    class NeverDone(Increment):
        def pending(self, t: sa.FromClause) -> sa.ColumnElement[bool]:
            return t.c.z.is_(None)  # which transform never writes

    make_numbers(engine, 2)
    with pytest.raises(MigrationFailed, match=r"pending is still true for 2 rows; the batch was rolled back"):
        migrator(engine, NeverDone).run()
    assert rows_of(engine, "SELECT y FROM number ORDER BY id") == [(10,), (20,)]
    assert (stored_status(engine, "001-increment"), batches(engine)) == ("FAILED", [])


def test_without_pending_a_row_that_needs_no_change_is_counted(engine: Engine) -> None:
    class Even(Increment):
        def transform(self, row: Row) -> Any:
            return {"y": row.y - row.y % 20}

    make_numbers(engine, 4)
    (report,) = migrator(engine, Even).run()
    assert (report.records_processed, report.unchanged) == (2, 2)


# --- resuming, running again -----------------------------------------------------------------------------------------


def test_exactly_the_ranges_that_the_ledger_lacks_are_done_again(engine: Engine, subtests: pytest.Subtests) -> None:
    quoted = engine.dialect.identifier_preparer.quote("range")
    for index, lost in enumerate(([1], [3], [2, 3], [5], [1, 3, 5])):
        with subtests.test(lost=lost):
            table = f"number_{index}"
            make_numbers(engine, 18, table=table)  # five ranges: 4, 4, 4, 4, 2
            increment = on_table(Increment, table)
            migrator(engine, increment).run(options=ONE_WORKER)
            for number in lost:
                delete = f"DELETE FROM system_migration_ledger WHERE name = :name AND {quoted} = :number"
                execute(engine, delete, name=increment.name, number=(number - 1) * SPAN + 1)
            failed = "UPDATE system_migration_migration SET status = 'FAILED' WHERE name = :name"
            execute(engine, failed, name=increment.name)
            (report,) = migrator(engine, increment).run(options=ONE_WORKER)

            twice = {key for number in lost for key in range((number - 1) * 40 + 10, min(number * 40, 180) + 1, 10)}
            expected = [(key, key + (2 if key in twice else 1)) for key in range(10, 181, 10)]
            assert rows_of(engine, f"SELECT id, y FROM {table} ORDER BY id") == expected
            assert report.records_processed == 18
            assert covered(engine, increment.name) == [(1, 5 * SPAN)]


def test_a_gap_that_other_sizes_left_is_filled_without_a_row_more(engine: Engine) -> None:
    """The resumed run has another batch size: the gap's numbers are shared out among as many batches as it takes."""
    make_numbers(engine, 20)
    migrator(engine, Increment).run(options=RunOptions(batch_size=5))
    quoted = engine.dialect.identifier_preparer.quote("range")
    execute(engine, f"DELETE FROM system_migration_ledger WHERE {quoted} IN ({SPAN + 1}, {2 * SPAN + 1})")
    execute(engine, "UPDATE system_migration_migration SET status = 'FAILED'")
    execute(engine, "UPDATE number SET y = y - 1 WHERE id > 50 AND id <= 150")
    migrator(engine, Increment).run(options=RunOptions(batch_size=2))
    assert rows_of(engine, "SELECT COUNT(*) FROM number WHERE y = id + 1") == [(20,)]
    assert [read for _, _, read, _ in batches(engine)] == [5, 2, 2, 2, 2, 2, 0, 5]  # none larger than it was told
    assert covered(engine, "001-increment") == [(1, 4 * SPAN)]


def test_a_completed_one_by_name_finds_missed_rows_and_changes_nothing_else(engine: Engine) -> None:
    make_numbers(engine, 3)
    migrator(engine, Fill).run()
    execute(engine, "UPDATE number SET z = -1 WHERE id = 10")
    execute(engine, "INSERT INTO number (id, y) VALUES (1, 7)")
    assert migrator(engine, Fill).run() == []  # only when named
    (report,) = migrator(engine, Fill).run("001-fill")
    assert (report.status, report.records_processed, report.verified) == (Status.COMPLETED, 4, True)
    assert rows_of(engine, "SELECT id, z FROM number ORDER BY id") == [(1, 70), (10, -1), (20, 200), (30, 300)]


def test_a_completed_one_without_pending_is_refused_with_the_word_reset(engine: Engine) -> None:
    make_numbers(engine, 3)
    migrator(engine, Increment).run()
    with pytest.raises(Refused, match=r"is COMPLETED.*`migration reset 001-increment --reason"):
        migrator(engine, Increment).run("001-increment")
    assert rows_of(engine, "SELECT y FROM number ORDER BY id") == [(11,), (21,), (31,)]
    assert stored_status(engine, "001-increment") == "COMPLETED"


class FailsOnce(Increment):
    """Version 1 holds a row; version 2 is the fix."""

    def transform(self, row: Row) -> Any:
        if row.y == 20:
            raise RowIssue("twenty")
        return super().transform(row)


class Fixed(Increment):
    version = "1.0.1"


def test_changed_code_resumes_only_when_accepted(engine: Engine) -> None:
    make_numbers(engine, 3)
    with pytest.raises(MigrationFailed):
        migrator(engine, FailsOnce).run()
    (status,) = migrator(engine, Fixed).status().migrations
    assert status.code_changed
    with pytest.raises(Refused, match=r"code of 001-increment changed since its run began.*--accept-code-change"):
        migrator(engine, Fixed).run()
    assert stored_status(engine, "001-increment") == "FAILED"
    (report,) = migrator(engine, Fixed).run(options=RunOptions(accept_code_change=True, max_issues=1))
    assert (report.status, report.records_processed) == (Status.COMPLETED, 2)
    assert rows_of(engine, "SELECT y FROM number ORDER BY id") == [(11,), (20,), (31,)]  # no row twice


def test_code_may_change_freely_before_anything_was_done(engine: Engine) -> None:
    class RefusesUntilFixed(Increment):
        def preflight(self, context: Any) -> None:
            raise Refused("Not today.")

    make_numbers(engine, 2)
    with pytest.raises(Refused, match="Not today"):
        migrator(engine, RefusesUntilFixed).run()
    (report,) = migrator(engine, Fixed).run()
    assert report.status is Status.COMPLETED


# --- refusing, checking ----------------------------------------------------------------------------------------------


def test_a_preflight_that_refuses_leaves_the_schema_and_the_rows_alone(engine: Engine) -> None:
    seen: list[Any] = []

    class Refusing(Fill):
        writes = ("fresh",)

        def prepare(self, schema: Any) -> None:
            schema.add_column("number", sa.Column("fresh", sa.Integer()))

        def pending(self, t: sa.FromClause) -> sa.ColumnElement[bool]:
            return t.c.fresh.is_(None)

        def preflight(self, context: Any) -> None:
            seen.extend(context.scan(("y", "fresh"), None))
            raise Refused("The wind is wrong.")

    make_numbers(engine, 2)
    with pytest.raises(Refused, match="The wind is wrong"):
        migrator(engine, Refusing).run()
    assert [(key, row.y, row.fresh) for key, row in seen] == [((10,), 10, None), ((20,), 20, None)]
    assert [column["name"] for column in sa.inspect(engine).get_columns("number")] == ["id", "y", "z"]
    assert stored_status(engine, "001-fill") == "PENDING"
    (run,) = migrator(engine, Refusing).history("001-fill")
    assert (run.outcome, run.error) == ("refused", "The wind is wrong.")


def test_a_pin_binds_the_generation(engine: Engine) -> None:
    class Pinned(HoldsOdd):
        key: ClassVar[str] = "first"

        def preflight(self, context: Any) -> None:
            context.pin("key fingerprint", type(self).key)

    make_numbers(engine, 4)
    with pytest.raises(MigrationFailed):
        migrator(engine, Pinned).run()
    Pinned.key = "second"
    with pytest.raises(Refused, match="The key fingerprint differs from the one this migration began with"):
        migrator(engine, Pinned).run(options=RunOptions(max_issues=2))
    Pinned.key = "first"
    assert migrator(engine, Pinned).run(options=RunOptions(max_issues=2))[0].status is Status.COMPLETED


def test_check_is_asked_of_every_migrated_row(engine: Engine) -> None:
    class Checked(Fill):
        def check(self, row: Row) -> bool:
            return bool(row.z == row.y * 10)

    make_numbers(engine, 5)
    (report,) = migrator(engine, Checked).run()
    assert report.verified
    execute(engine, "UPDATE number SET z = 1 WHERE id = 40")
    (verdict,) = migrator(engine, Checked).verify()
    assert verdict.verified is False
    assert verdict.error == "check() does not hold for the row with key 40."
    assert migrator(engine, Checked).status().migrations[0].verified is False


def test_verification_is_other_code_on_the_rows_as_they_are(engine: Engine) -> None:
    make_numbers(engine, 5)
    migrator(engine, Fill).run()
    execute(engine, "UPDATE number SET z = NULL WHERE id IN (20, 30)")
    (verdict,) = migrator(engine, Fill).verify("001-fill")
    assert verdict.error == "2 rows are neither migrated nor held. Run it again by name."
    migrator(engine, Fill).run("001-fill")
    (verdict,) = migrator(engine, Fill).verify("001-fill")
    assert (verdict.verified, verdict.error) == (True, None)


def test_verify_of_something_unfinished_is_refused(engine: Engine) -> None:
    make_numbers(engine, 1)
    with pytest.raises(Refused, match="001-fill is PENDING; only a COMPLETED one can be verified"):
        migrator(engine, Fill).verify("001-fill")


def test_a_row_that_the_database_refuses_is_found_by_halving_and_held(engine: Engine) -> None:
    """The sixth value violates a constraint: it alone stays as it was, whatever batch it was in."""

    class Breaking(Increment):
        def transform(self, row: Row) -> Any:
            return {"y": None if row.y == 60 else row.y + 1}

    make_table(
        engine,
        "number",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("y", sa.Integer(), nullable=False),
        rows=[{"id": key, "y": key} for key in range(10, 81, 10)],
    )
    with pytest.raises(MigrationFailed) as failure:
        migrator(engine, Breaking).run(options=ONE_WORKER)
    assert rows_of(engine, "SELECT y FROM number ORDER BY id") == [(y,) for y in (11, 21, 31, 41, 51, 60, 71, 81)]
    assert covered(engine, "001-increment") == [(1, 2 * SPAN)]
    assert [(issue.key, issue.code) for issue in migrator(engine, Breaking).issues("001-increment")] == [
        (60, "constraint_violation")
    ]
    assert stored_status(engine, "001-increment") == "FAILED"
    assert "rows held: 1" in failure.value.reason
