"""A dry run executes the real code, reports what a run would do, and leaves nothing but its report."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from system_migration import (
    Migration,
    MigrationFailed,
    MigrationResult,
    Migrator,
    Refused,
    Registry,
    Row,
    RowIssue,
    RunOptions,
    Settings,
    Status,
    connect,
)
from system_migration.errors import Interrupted
from system_migration.running import dry_run
from tests.db.test_workbench import (
    PREFIX,
    Fill,
    Increment,
    execute,
    fingerprint,
    make_numbers,
    migrator,
    rows_of,
    stored_status,
)


class Mixed(Fill):
    """Changes most rows, holds one in five, and touches a column nobody may see."""

    writes = ("z", "secret")
    sensitive = ("secret",)

    def prepare(self, schema: Any) -> None:
        schema.add_column("number", sa.Column("secret", sa.String(40)))

    def transform(self, row: Row) -> dict[str, Any]:
        if row.y % 50 == 0:
            raise RowIssue("round", "divisible by fifty")
        return {"z": row.y, "secret": f"hidden-{row.y}"}


def test_it_reports_what_a_run_would_do_before_prepare_ever_ran(engine: Engine) -> None:
    make_numbers(engine, 10)
    before = fingerprint(engine)
    (report,) = migrator(engine, Mixed).dry_run(options=RunOptions(workers=2))
    assert (report.name, report.rows, report.examined, report.complete) == ("001-fill", 10, 10, True)
    assert (report.would_change, report.would_hold, report.unchanged) == (8, 2, 0)
    assert [(held.code, held.rows, held.keys) for held in report.held] == [("round", 2, [50, 100])]
    assert report.samples[0].key == 10
    assert report.samples[0].before == {"y": 10, "z": None, "secret": "***"}
    assert report.samples[0].after == {"z": 10, "secret": "***"}
    assert report.schema_changes == ["add column number.secret"]
    assert "the schema change: add column number.secret" in report.not_covered
    assert (report.refusal, report.error, report.workers) == (None, None, 2)
    assert report.rows_per_second is not None
    assert report.estimated_seconds == pytest.approx(10 / report.rows_per_second)

    after = fingerprint(engine)
    assert after["number"] == before["number"]
    ours = {table: rows for table, (_, rows) in after.items() if table.startswith(PREFIX)}
    assert ours.pop(f"{PREFIX}meta")  # the first write binds the database
    assert ours.pop(f"{PREFIX}event_head")  # and begins the audit chain
    assert set(map(len, ours.values())) == {0}
    (run,) = migrator(engine, Mixed).history()
    assert (run.kind, run.outcome) == ("dry-run", "succeeded")
    assert "hidden" not in str(fingerprint(engine, but=set()))


def test_the_stored_report_is_the_one_that_was_returned(engine: Engine) -> None:
    make_numbers(engine, 5)
    dry = migrator(engine, Mixed)
    assert dry.show("001-fill").report is None
    (report,) = dry.dry_run("001-fill")
    stored = dry.show("001-fill").report
    assert stored is not None
    assert (stored["wouldChange"], stored["wouldHold"], stored["notCovered"]) == (4, 1, report.not_covered)
    assert stored["samples"][0] == {
        "key": 10,
        "before": {"y": 10, "z": None, "secret": "***"},
        "after": {"z": 10, "secret": "***"},
    }
    assert [each.status for each in dry.status().migrations] == [Status.PENDING]


def test_nothing_changes_however_often_and_whatever_the_form(engine: Engine) -> None:
    class Up(Migration):
        name = "002-up"
        rollbackable = False

        def up(self, context: Any) -> MigrationResult:
            changed = context.connection.execute(text("UPDATE number SET z = 7")).rowcount
            context.connection.execute(text("DELETE FROM number WHERE id = 10"))
            context.schema.create_table("fresh", sa.Column("id", sa.Integer(), primary_key=True))
            return MigrationResult(records_processed=changed, metadata={"dry": context.dry_run})

    make_numbers(engine, 3)
    dry = migrator(engine, Fill, Increment, Up)
    dry.dry_run()
    before = fingerprint(engine)
    assert [report.name for report in dry.dry_run()] == ["001-fill", "001-increment", "002-up"]
    dry.dry_run("002-up", RunOptions(batch_size=1), full=True)
    assert fingerprint(engine) == before
    assert len(dry.history()) == 7

    up = dry.dry_run("002-up")[0]
    assert (up.would_change, up.metadata, up.error, up.refusal) == (3, {"dry": True}, None, None)
    assert up.schema_changes == ["create table fresh"]
    left_out = "the schema change: create table fresh" in up.not_covered
    assert left_out == (engine.dialect.name == "mysql")  # where it would commit, it is not rehearsed
    assert up.complete != left_out


def test_a_refusal_is_in_the_report_and_not_raised(engine: Engine) -> None:
    class Refusing(Fill):
        def preflight(self, context: Any) -> None:
            assert context.dry_run
            context.foresee((10,), "unreadable")
            raise Refused("One row is unreadable.")

    make_numbers(engine, 3)
    (report,) = migrator(engine, Refusing).dry_run()
    assert (report.refusal, report.examined, report.would_change) == ("One row is unreadable.", 0, 0)
    assert [(held.code, held.keys) for held in report.held] == [("unreadable", [10])]
    (run,) = migrator(engine, Refusing).history()
    assert (run.outcome, run.error) == ("refused", "One row is unreadable.")


@pytest.mark.parametrize("end", [SystemExit(3), KeyboardInterrupt()])
def test_one_that_breaks_off_is_recorded_as_failed(engine: Engine, end: BaseException) -> None:
    class Quitting(Fill):
        quits: ClassVar[bool] = True

        def preflight(self, context: Any) -> None:
            self.quit()

        def check(self, row: Row) -> bool:
            self.quit()
            return True

        def quit(self) -> None:
            if self.quits:
                raise end

    make_numbers(engine, 3)
    with migrator(engine, Quitting) as looking:
        with pytest.raises(type(end)):
            looking.dry_run()
        Quitting.quits = False
        looking.run()
        Quitting.quits = True
        with pytest.raises(type(end)):
            looking.verify()
        ended = [(run.kind, run.outcome, run.error) for run in looking.history()]
    name = type(end).__name__
    assert [(kind, outcome) for kind, outcome, _ in ended] == [
        ("verify", "failed"),
        ("run", "succeeded"),
        ("dry-run", "failed"),
    ]
    assert all(error is None or error.startswith(f"{name} at test_dry_run.py:") for _, _, error in ended)


def test_a_missing_table_is_a_refusal_too(engine: Engine) -> None:
    (report,) = migrator(engine, Increment).dry_run()
    assert report.refusal is not None
    assert "Table 'number' does not exist" in report.refusal
    assert report.rows is None


def test_an_error_is_in_the_report(engine: Engine) -> None:
    class Broken(Fill):
        def preflight(self, context: Any) -> None:
            raise RuntimeError("out of order")

    make_numbers(engine, 1)
    (report,) = migrator(engine, Broken).dry_run()
    assert report.error is not None
    assert report.error.startswith("RuntimeError")
    assert migrator(engine, Broken).history()[0].outcome == "failed"


def test_a_sample_says_how_much_it_left_out_and_full_leaves_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run, "SAMPLE_ROWS", 30)
    make_numbers(engine, 75)
    (sample,) = migrator(engine, Fill).dry_run()
    assert (sample.rows, sample.examined, sample.complete) == (75, 30, False)
    assert sample.not_covered[0] == "transform on the other 45 rows (--full covers them)"
    assert sample.estimated_seconds is not None
    (full,) = migrator(engine, Fill).dry_run(full=True)
    assert (full.examined, full.would_change, full.complete) == (75, 75, True)
    assert not any("--full" in gap for gap in full.not_covered)


def test_rows_that_would_stay_pending_and_rows_that_need_nothing_are_told_apart(engine: Engine) -> None:
    class Idle(Fill):
        def transform(self, row: Row) -> dict[str, Any]:
            return {"z": None}

    class Even(Increment):
        def transform(self, row: Row) -> dict[str, Any]:
            return {"y": row.y - row.y % 20}

    make_numbers(engine, 4)
    idle, even = migrator(engine, Idle, Even).dry_run()
    assert [(held.code, held.rows) for held in idle.held] == [("still_pending", 4)]
    assert (even.would_change, even.unchanged, even.would_hold) == (2, 2, 0)


def test_the_real_run_is_not_touched_while_it_is_half_way(engine: Engine) -> None:
    """Neither its status nor its ledger, lease, pins, held rows or bound (what dry runs of others have dropped)."""

    class HalfWay(Fill):
        stop: ClassVar[Any]

        def preflight(self, context: Any) -> None:
            context.pin("key", "first")

        def transform(self, row: Row) -> dict[str, Any]:
            if row.y == 20:
                raise RowIssue("twenty")
            self.stop()
            return super().transform(row)

    make_numbers(engine, 9)
    running = migrator(engine, HalfWay)
    HalfWay.stop = lambda self: running.request_stop(15)
    with pytest.raises(Interrupted):
        running.run(options=RunOptions(batch_size=4, workers=1))
    HalfWay.stop = lambda self: None
    before = fingerprint(engine)
    (report,) = migrator(engine, HalfWay).dry_run()
    assert (report.rows, report.would_change) == (6, 5)  # the held row is looked at again, the three done are not
    assert fingerprint(engine) == before
    (status,) = migrator(engine, HalfWay).status().migrations
    assert (status.status, status.stale) == (Status.RUNNING, True)

    with pytest.raises(MigrationFailed):
        migrator(engine, HalfWay).run()
    before = fingerprint(engine)
    migrator(engine, HalfWay).dry_run("001-fill", full=True)
    assert fingerprint(engine) == before
    assert stored_status(engine, "001-fill") == "FAILED"
    assert migrator(engine, HalfWay).run(options=RunOptions(max_issues=1))[0].records_processed == 8


@pytest.mark.parametrize("way", ["second connection", "commit()", "COMMIT"])
def test_what_it_could_not_undo_is_refused(engine: Engine, way: str) -> None:
    class Escaping(Migration):
        name = "001-escaping"

        def up(self, context: Any) -> MigrationResult:
            context.connection.execute(text("UPDATE number SET z = 1"))
            if way == "second connection":
                with context.connection.engine.begin() as second:
                    second.execute(text("INSERT INTO number (id) VALUES (1)"))
            elif way == "commit()":
                context.connection.commit()
            else:
                context.connection.execute(text("COMMIT"))
            return MigrationResult()

    make_numbers(engine, 2)
    (report,) = migrator(engine, Escaping).dry_run()
    wanted = "A dry run cannot undo" if way == "second connection" else "must not commit or roll back"
    assert report.error is not None
    assert wanted in report.error
    assert rows_of(engine, "SELECT id, z FROM number ORDER BY id") == [(10, None), (20, None)]


def test_an_up_that_fails_is_told_in_the_report(engine: Engine) -> None:
    class Unsuccessful(Migration):
        name = "001-unsuccessful"

        def up(self, context: Any) -> MigrationResult:
            context.connection.execute(text("UPDATE number SET z = 1"))
            return MigrationResult(success=False, error="no luck")

    make_numbers(engine, 1)
    (report,) = migrator(engine, Unsuccessful).dry_run()
    assert report.error is not None
    assert report.error.endswith("no luck")
    assert rows_of(engine, "SELECT z FROM number") == [(None,)]


def test_a_non_transactional_up_is_not_rehearsed_and_says_so(engine: Engine) -> None:
    class Unprotected(Migration):
        name = "001-unprotected"
        transactional = False

        def up(self, context: Any) -> MigrationResult:
            raise AssertionError("must not run")

        def applied(self, context: Any) -> bool:
            return False

    (report,) = migrator(engine, Unprotected).dry_run()
    assert report.error is None
    assert report.not_covered == ["up(): it runs outside of a transaction, so it could not be undone"]


def test_values_of_any_type_can_be_stored_in_the_report(engine: Engine) -> None:
    class Odd(Migration):
        name = "001-odd"

        def up(self, context: Any) -> MigrationResult:
            return MigrationResult(metadata={"total": Decimal("1.50"), "kinds": {"a"}, "raw": b"\0\xff"})

    dry = migrator(engine, Odd)
    dry.dry_run()
    stored = dry.show("001-odd").report
    assert stored is not None
    assert stored["metadata"]["total"] == "1.50"
    json.dumps(stored, allow_nan=False)


# --- read-only databases ---------------------------------------------------------------------------------------------


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("bound", [False, True])
def test_on_a_read_only_file_it_only_prints(engine: Engine, bound: bool) -> None:
    make_numbers(engine, 3)
    if bound:
        migrator(engine, Increment).init()
    before = fingerprint(engine, but=set())
    read_only = connect(f"sqlite:///file:{engine.url.database}?mode=ro&uri=true", create=True)
    with Migrator(read_only, Registry([Increment]), Settings(environment="test")) as dry:
        (report,) = dry.dry_run()
        assert (report.would_change, report.error, report.refusal) == (3, None, None)
        assert dry.history() == []
    read_only.dispose()
    assert fingerprint(engine, but=set()) == before


@pytest.mark.databases("postgresql")
def test_on_a_read_only_server_it_only_prints(engine: Engine) -> None:
    make_numbers(engine, 3)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"ALTER DATABASE {engine.url.database} SET default_transaction_read_only = on"))
    engine.dispose()  # it is so for new connections
    dry = migrator(engine, Increment)
    (report,) = dry.dry_run()
    assert (report.would_change, report.error) == (3, None)
    assert dry.history() == []
    with pytest.raises(DBAPIError):
        execute(engine, "UPDATE number SET y = 0")
