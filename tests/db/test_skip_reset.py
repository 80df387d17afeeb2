"""Decisions of an operator: skip, and reset, which starts a generation. Each along an arrow, with a reason."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine

from system_migration import MigrationFailed, Refused, Row, RowIssue, RunOptions, Status
from system_migration.errors import ChangedMeanwhile, Interrupted, UnknownMigration
from system_migration.states import ARROWS
from system_migration.states import Status as Stored
from system_migration.store import migrations
from system_migration.store.database import Database
from tests.db.test_workbench import (
    Fill,
    Increment,
    execute,
    fingerprint,
    make_numbers,
    migrator,
    quick,
    rows_of,
    stored_status,
)


class Holding(Fill):
    def transform(self, row: Row) -> dict[str, Any]:
        raise RowIssue("held", "for a reason")


def test_a_skipped_one_is_not_run_unless_named(engine: Engine) -> None:
    make_numbers(engine, 2)
    deciding = migrator(engine, Fill, executed_by="anna")
    assert deciding.skip("001-fill", "not needed here").status is Status.SKIPPED
    assert deciding.pending() == []
    assert deciding.run() == []
    event = deciding.show("001-fill").events[0]
    assert (event.action, event.actor, dict(event.detail)) == ("skipped", "anna", {"reason": "not needed here"})
    assert rows_of(engine, "SELECT z FROM number") == [(None,), (None,)]
    assert deciding.run("001-fill")[0].status is Status.COMPLETED


def test_a_failed_one_may_be_skipped_and_its_error_is_gone(engine: Engine) -> None:
    make_numbers(engine, 1)
    with pytest.raises(MigrationFailed):
        migrator(engine, Holding).run()
    status = migrator(engine, Holding).skip("001-fill", "given up")
    assert (status.status, status.error) == (Status.SKIPPED, None)


def test_what_others_require_may_be_skipped(engine: Engine) -> None:
    class After(Increment):
        name = "002-after"
        requires = ("001-fill",)

    make_numbers(engine, 1)
    both = migrator(engine, Fill, After)
    both.skip("001-fill", "not needed here")
    assert [report.name for report in both.run()] == ["002-after"]


def test_reset_starts_a_generation_without_the_old_ones_held_rows(engine: Engine) -> None:
    make_numbers(engine, 2)
    with pytest.raises(MigrationFailed):
        migrator(engine, Holding).run()
    assert len(migrator(engine, Holding).issues("001-fill")) == 2
    status = migrator(engine, Holding).reset("001-fill", "mended")
    assert (status.status, status.issues, status.error, status.verified) == (Status.PENDING, 0, None, False)
    assert migrator(engine, Holding).issues("001-fill") == []
    assert migrator(engine, Holding).show("001-fill").generation == 2
    (report,) = migrator(engine, Fill).run()  # and without the question whether the code changed
    assert (report.records_processed, report.issues) == (2, 0)
    assert [run.generation for run in migrator(engine, Fill).history()] == [2, 1]
    assert rows_of(engine, "SELECT COUNT(*) FROM system_migration_issue") == [(2,)]  # the record stays


def test_after_a_reset_all_of_the_work_is_done_again(engine: Engine) -> None:
    make_numbers(engine, 5)
    for generation in range(1, 4):
        (report,) = migrator(engine, Increment).run(options=RunOptions(batch_size=2))
        assert report.records_processed == 5
        assert migrator(engine, Increment).reset("001-increment", "again").status is Status.PENDING
        assert migrator(engine, Increment).show("001-increment").generation == generation + 1
    assert rows_of(engine, "SELECT y - id FROM number") == [(3,)] * 5


def test_an_unknown_name_is_told_with_the_known_ones(engine: Engine) -> None:
    for verb in ("skip", "reset"):
        with pytest.raises(UnknownMigration, match=r"no migration named '001-typo'\. Known migrations: 001-fill"):
            getattr(migrator(engine, Fill), verb)("001-typo", "?")


def test_what_is_pending_cannot_be_reset_and_what_is_done_cannot_be_skipped(engine: Engine) -> None:
    make_numbers(engine, 1)
    deciding = migrator(engine, Fill)
    with pytest.raises(Refused, match="001-fill is PENDING; it cannot become PENDING"):
        deciding.reset("001-fill", "?")
    deciding.run()
    with pytest.raises(Refused, match="001-fill is COMPLETED; it cannot become SKIPPED"):
        deciding.skip("001-fill", "?")
    assert stored_status(engine, "001-fill") == "COMPLETED"


def test_a_run_that_was_interrupted_is_neither_skipped_nor_reset(engine: Engine) -> None:
    class Stopping(Fill):
        def transform(self, row: Row) -> dict[str, Any]:
            running.request_stop(2)
            return super().transform(row)

    make_numbers(engine, 4)
    running = migrator(engine, Stopping)
    with pytest.raises(Interrupted, match="SIGINT"):
        running.run(options=RunOptions(batch_size=2))
    for verb in ("skip", "reset"):
        with pytest.raises(Refused, match="001-fill is RUNNING; it cannot become"):
            getattr(migrator(engine, Stopping), verb)("001-fill", "?")


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("old", list(Stored))
def test_the_store_moves_only_along_arrows_and_only_from_what_it_saw(engine: Engine, old: Stored) -> None:
    migrator(engine, Fill).init()
    database = Database(quick(engine))
    with database.write() as connection:
        row = migrations.read_or_add(connection, "test", "001-fill", "1.0.0")
    execute(engine, "UPDATE system_migration_migration SET status = :old", old=old.value)
    for new in Stored:
        with database.write() as connection:
            row = migrations.read_or_add(connection, "test", "001-fill", "1.0.0")
        before = fingerprint(engine, but=set())
        if (old, new) not in ARROWS:
            with pytest.raises(Refused), database.write() as connection:
                migrations.transition(connection, row, new)
            assert fingerprint(engine, but=set()) == before
            continue
        with database.write() as connection:
            migrations.transition(connection, row, new)
        assert stored_status(engine, "001-fill") == new
        with pytest.raises(ChangedMeanwhile), database.write() as connection:
            migrations.transition(connection, row, new)  # somebody else was faster
        execute(engine, "UPDATE system_migration_migration SET status = :old", old=old.value)
        with pytest.raises(ChangedMeanwhile), database.write() as connection:
            migrations.transition(connection, row, new)  # and has even come back since
    database.close()
