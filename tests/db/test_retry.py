"""Retry: the held rows once more, and no others."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine

from system_migration import (
    Migration,
    MigrationContext,
    MigrationResult,
    Migrator,
    Refused,
    Row,
    RowIssue,
    RunOptions,
    Status,
)
from system_migration.errors import Interrupted, MigrationFailed, NotHeld, UnreadableKey
from system_migration.records import as_json
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
)
from tests.support.chains import head_last

ACCEPTING_TWO = RunOptions(max_issues=2, batch_size=3)


@pytest.fixture(autouse=True)
def _with_the_head_locked_last() -> Iterator[None]:
    with head_last():
        yield


def holding(form: type[Increment] | type[Fill]) -> Any:
    """A form that holds the rows in `bad`, counts the rows it saw, and has `halted` stop at each."""

    class Holding(form):  # type: ignore[misc, valid-type]
        bad: ClassVar[set[int]] = {20, 50}
        seen: ClassVar[list[int]] = []
        halted: ClassVar[list[Migrator]] = []

        def transform(self, row: Row) -> dict[str, Any]:
            self.seen.append(row.y)
            for each in self.halted:
                each.request_stop(signal.SIGTERM)
            if row.y in self.bad:
                raise RowIssue("bad", "for a reason")
            changed: dict[str, Any] = super().transform(row)
            return changed

    return Holding


@pytest.mark.parametrize("form", [Increment, Fill])
def test_held_rows_of_a_completed_one_are_migrated_and_no_other_row_is_looked_at(engine: Engine, form: Any) -> None:
    make_numbers(engine, 6)
    mended = holding(form)
    (report,) = migrator(engine, mended).run(options=ACCEPTING_TWO)
    assert (report.status, report.issues, report.records_processed) == (Status.COMPLETED, 2, 4)
    mended.bad, mended.seen = set(), []
    report = migrator(engine, mended).retry(form.name)
    assert (report.status, report.issues, report.records_processed) == (Status.COMPLETED, 0, 6)
    assert sorted(mended.seen) == [20, 50]
    assert migrator(engine, mended).issues(form.name) == []
    done = "y = id + 1" if form is Increment else "z = y * 10"
    assert rows_of(engine, f"SELECT COUNT(*) FROM number WHERE {done}") == [(6,)]


@pytest.mark.parametrize("form", [Increment, Fill])
def test_a_row_that_still_cannot_be_migrated_stays_held(engine: Engine, form: Any) -> None:
    make_numbers(engine, 6)
    mended = holding(form)
    migrator(engine, mended).run(options=ACCEPTING_TWO)
    mended.bad = {50}
    report = migrator(engine, mended).retry(form.name)
    assert (report.status, report.issues, report.records_processed) == (Status.COMPLETED, 1, 5)
    assert [issue.key for issue in migrator(engine, mended).issues(form.name)] == [50]


def test_a_held_row_that_the_application_has_done_itself_is_held_no_more(engine: Engine) -> None:
    make_numbers(engine, 6)
    mended = holding(Fill)
    migrator(engine, mended).run(options=ACCEPTING_TWO)
    execute(engine, "UPDATE number SET z = 7 WHERE id = 20")
    mended.seen = []
    report = migrator(engine, mended).retry("001-fill")
    assert mended.seen == [50]  # a row that needs nothing is not transformed
    assert (report.status, report.issues, report.vanished, report.changed_meanwhile) == (Status.COMPLETED, 1, 1, 0)
    assert [issue.key for issue in migrator(engine, mended).issues("001-fill")] == [50]
    assert rows_of(engine, "SELECT z FROM number WHERE id = 20") == [(7,)]


@pytest.mark.parametrize("code", ["the same code", "mended code"])
def test_a_failed_one_completes_when_its_held_rows_were_all_that_was_missing(engine: Engine, code: str) -> None:
    make_numbers(engine, 6)
    mended = holding(Fill)
    with pytest.raises(MigrationFailed, match="rows held: 2, allowed: 0"):
        migrator(engine, mended).run()
    mended.bad, mended.seen = set(), []
    if code == "mended code":
        execute(engine, "UPDATE system_migration_run SET code_checksum = 'another'")
    report = migrator(engine, mended).retry("001-fill", RunOptions(accept_code_change=code == "mended code"))
    assert sorted(mended.seen) == [20, 50]
    assert (report.status, report.verified, report.issues) == (Status.COMPLETED, True, 0)


def test_a_retry_of_unfinished_work_ends_as_paused(engine: Engine) -> None:
    """Rows that were never tried are not a retry's business."""
    make_numbers(engine, 6)
    mended = holding(Fill)
    with pytest.raises(MigrationFailed, match="the run was to stop at 1"):
        migrator(engine, mended).run(options=RunOptions(batch_size=2, stop_after_issues=1))
    mended.bad = set()
    report = migrator(engine, mended).retry("001-fill")
    assert (report.status, report.issues) == (Status.PAUSED, 0)
    assert "held rows were tried again; 4 rows outside of them remain" in report.metadata["note"]
    assert migrator(engine, mended).run("001-fill")[0].status is Status.COMPLETED


def test_where_nothing_is_held_there_is_nothing_to_retry(engine: Engine) -> None:
    make_numbers(engine, 2)
    running = migrator(engine, Increment)
    running.init()
    with pytest.raises(Refused, match="001-increment is PENDING; held rows are retried when a run has ended"):
        running.retry("001-increment")
    running.run()
    with pytest.raises(Refused, match="001-increment holds no row, so there is nothing to retry"):
        running.retry("001-increment")
    assert running.status().migrations[0].status is Status.COMPLETED
    assert rows_of(engine, "SELECT held_by FROM system_migration_lease WHERE released = :no", no=False) == []


def test_an_imperative_one_has_no_rows_to_retry(engine: Engine) -> None:
    class Up(Migration):
        name = "001-up"
        version = "1.0.0"

        def up(self, context: MigrationContext) -> MigrationResult:
            return MigrationResult()

    with pytest.raises(Refused, match="001-up holds no rows: it works through up"):
        migrator(engine, Up).retry("001-up")


def test_half_done_work_is_not_retried_by_other_code(engine: Engine) -> None:
    make_numbers(engine, 6)
    with pytest.raises(MigrationFailed):
        migrator(engine, holding(Fill)).run()
    execute(engine, "UPDATE system_migration_run SET code_checksum = 'another'")
    with pytest.raises(Refused, match="The code of 001-fill changed since its run began"):
        migrator(engine, holding(Fill)).retry("001-fill")


def keeping(engine: Engine, form: type[Increment] | type[Fill], held: frozenset[int] = frozenset({20, 50})) -> Any:
    """A form of which rows are held, though nothing is wrong with them any more."""
    make_numbers(engine, 6)
    mended = holding(form)
    mended.bad = held
    migrator(engine, mended).run(options=RunOptions(max_issues=len(held)))
    mended.bad, mended.seen = set(), []
    return mended


@pytest.mark.parametrize("form", [Increment, Fill])
def test_a_chosen_row_is_tried_and_no_other(engine: Engine, form: Any) -> None:
    mended = keeping(engine, form)
    report = migrator(engine, mended).retry(form.name, RunOptions(keys=("50",)))
    assert (report.status, report.issues, report.records_processed) == (Status.COMPLETED, 1, 5)
    assert mended.seen == [50]
    (left,) = migrator(engine, mended).issues(form.name)
    assert left.key == 20
    report = migrator(engine, mended).retry(form.name, RunOptions(keys=(left.id, "20", "20")))
    assert (report.status, report.issues, report.records_processed) == (Status.COMPLETED, 0, 6)


def test_what_stays_held_beside_the_chosen_rows_fails_a_run_as_before(engine: Engine) -> None:
    make_numbers(engine, 6)
    mended = holding(Fill)
    with pytest.raises(MigrationFailed, match="rows held: 2, allowed: 0"):
        migrator(engine, mended).run()
    mended.bad = set()
    with pytest.raises(MigrationFailed, match="rows held: 1, allowed: 0"):
        migrator(engine, mended).retry("001-fill", RunOptions(keys=("20",)))
    report = migrator(engine, mended).retry("001-fill", RunOptions(keys=("50",)))
    assert (report.status, report.issues) == (Status.COMPLETED, 0)


def test_rows_left_unchosen_do_not_stop_a_retry_that_is_to_stop_at_so_many(engine: Engine) -> None:
    mended = keeping(engine, Fill)
    report = migrator(engine, mended).retry("001-fill", RunOptions(keys=("20",), stop_after_issues=1))
    assert (report.status, report.issues) == (Status.COMPLETED, 1)


def test_a_chosen_row_that_is_not_held_is_refused_before_any_write(engine: Engine) -> None:
    mended = keeping(engine, Fill)
    before = fingerprint(engine, but={"system_migration_lease"})
    with pytest.raises(NotHeld, match="was to retry 4 rows, of which 2 are not held, the first of them '30'"):
        migrator(engine, mended).retry("001-fill", RunOptions(keys=("20", "30", "50", "70")))
    with pytest.raises(UnreadableKey, match="cannot be a key of 001-fill: its held rows have keys of another kind"):
        migrator(engine, mended).retry("001-fill", RunOptions(keys=("20", "twenty")))
    with pytest.raises(Refused, match="1 to 1,000 keys, not of 1,001"):
        migrator(engine, mended).retry("001-fill", RunOptions(keys=("20",) * 1001))
    with pytest.raises(Refused, match="Only held rows can be chosen by their keys"):
        migrator(engine, mended).run("001-fill", RunOptions(keys=("20",)))
    assert fingerprint(engine, but={"system_migration_lease"}) == before
    assert mended.seen == []


def test_a_run_of_the_held_rows_is_a_retry(engine: Engine) -> None:
    """A restart repeats the options of a start, so `run` takes them."""
    shared = migrator(engine, keeping(engine, Fill))
    before = fingerprint(engine, but={"system_migration_lease"})
    with pytest.raises(NotHeld, match="was to retry 2 rows, of which 2 are not held, the first of them '99'"):
        shared.run("001-fill", RunOptions(held_only=True, keys=("99", "10")))
    with pytest.raises(Refused, match="1 to 1,000 keys, not of 0"):
        shared.run("001-fill", RunOptions(held_only=True, keys=()))
    assert fingerprint(engine, but={"system_migration_lease"}) == before
    (report,) = shared.run("001-fill", RunOptions(held_only=True, keys=("20",)))
    assert (report.status, report.issues) == (Status.COMPLETED, 1)
    (run, *_) = shared.history("001-fill")
    assert run.held_only


def test_neither_a_rollback_nor_a_dry_run_is_of_chosen_rows(engine: Engine) -> None:
    shared, keys = migrator(engine, keeping(engine, Fill)), RunOptions(keys=("20",))
    before = fingerprint(engine)
    for verb, what in (
        (shared.rollback, "rollback"),
        (shared.dry_rollback, "rollback"),
        (shared.dry_run, "dry run"),
    ):
        for options in (keys, replace(keys, held_only=True)):
            with pytest.raises(Refused, match=f"`retry` works on them; a {what} is of all rows"):
                verb("001-fill", options)
    assert fingerprint(engine) == before


@pytest.mark.parametrize("unattended", [False, True])
def test_whoever_takes_a_retry_over_keeps_to_the_chosen_rows(engine: Engine, unattended: bool) -> None:
    mended, one_by_one = keeping(engine, Fill, frozenset({20, 30, 40, 50})), RunOptions(batch_size=1, workers=1)
    for begin in (
        lambda first: first.retry("001-fill", replace(one_by_one, keys=("20", "30", "50"))),
        lambda second: second.run("001-fill", one_by_one),
    ):
        mended.halted = [migrator(engine, mended)]
        with pytest.raises(Interrupted):
            begin(mended.halted[0])
    mended.halted = []
    (report,) = migrator(engine, mended).run("001-fill", RunOptions(unattended=unattended))
    assert report.status is Status.COMPLETED
    assert [issue.key for issue in migrator(engine, mended).issues("001-fill")] == [40]
    assert 40 not in mended.seen


@pytest.mark.parametrize("form", [Increment, Fill])
def test_a_retry_knows_no_range_of_keys(engine: Engine, form: Any) -> None:
    """A held row outside of it would be held no longer, and yet not be migrated."""
    mended = keeping(engine, form)
    before = fingerprint(engine)
    with pytest.raises(Refused, match="Leave out the range of keys"):
        migrator(engine, mended).retry(form.name, RunOptions(from_key="30", to_key="40"))
    assert fingerprint(engine) == before


def test_a_resume_is_of_all_rows(engine: Engine) -> None:
    with pytest.raises(Refused, match="`retry` works on them"):
        migrator(engine, keeping(engine, Fill)).resume("001-fill", RunOptions(keys=("20",)))


ODD_KEYS: dict[str, tuple[list[sa.Column[Any]], list[tuple[Any, ...]]]] = {
    "decimal": ([sa.Column("id", sa.Numeric(20, 6))], [(Decimal("1.5"),), (Decimal("15"),)]),
    "bytes": ([sa.Column("id", Bytes)], [(b"\x00'\xff",), (b"text",)]),
    "time": ([sa.Column("id", Timestamp)], [(datetime(2024, 2, 29, 23, 59, 59, 999999),), (datetime(2024, 2, 29),)]),
    "several": (
        [sa.Column("id", ExactText), sa.Column("part", sa.Date()), sa.Column("no", sa.BigInteger())],
        [('a"b', date(2024, 1, 1), 2**53 + 1), ("a'b ", date(2024, 1, 1), 2**53 + 1)],
    ),
    "like an id": ([sa.Column("id", sa.String(100))], [("1-" + "a" * 64,), ("1-" + "b" * 64,)]),
}


@pytest.mark.parametrize("kind", ODD_KEYS)
def test_keys_of_any_type_are_chosen_by_their_id_and_as_they_are_shown(engine: Engine, kind: str) -> None:
    columns, keys = ODD_KEYS[kind]
    columns = [sa.Column(each.name, each.type, primary_key=True, autoincrement=False) for each in columns]
    names = [each.name for each in columns]
    rows = [dict(zip(names, key, strict=True)) | {"y": 20, "z": None} for key in keys]
    make_table(engine, "number", *columns, sa.Column("y", sa.Integer()), sa.Column("z", sa.Integer()), rows=rows)
    mended = holding(Fill)
    migrator(engine, mended).run(options=RunOptions(max_issues=2))
    mended.bad = set()
    first, second = migrator(engine, mended).issues("001-fill")
    report = migrator(engine, mended).retry("001-fill", RunOptions(keys=(first.id,)))
    assert (report.records_processed, report.issues) == (1, 1)
    assert [issue.key for issue in migrator(engine, mended).issues("001-fill")] == [second.key]
    shown = json.dumps(as_json(second.key)) if len(columns) > 1 else str(second.key)
    report = migrator(engine, mended).retry("001-fill", RunOptions(keys=(shown,)))
    assert (report.records_processed, report.issues) == (2, 0)
