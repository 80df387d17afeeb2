"""Retry: the held rows once more, and no others."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from sqlalchemy import Engine

from system_migration import Migration, MigrationContext, MigrationResult, Refused, Row, RowIssue, RunOptions, Status
from system_migration.errors import MigrationFailed
from tests.db.test_workbench import Fill, Increment, execute, make_numbers, migrator, rows_of

ACCEPTING_TWO = RunOptions(max_issues=2, batch_size=3)


def holding(form: type[Increment] | type[Fill]) -> Any:
    """A form that holds the rows in `bad`, and counts the rows it saw."""

    class Holding(form):  # type: ignore[misc, valid-type]
        bad: ClassVar[set[int]] = {20, 50}
        seen: ClassVar[list[int]] = []

        def transform(self, row: Row) -> dict[str, Any]:
            self.seen.append(row.y)
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
