"""The parallel batch loop: each row once, little under way at a time, and nothing lost by an error beside it."""

from __future__ import annotations

import threading
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.exc import IntegrityError

from system_migration import BatchMigration, MigrationFailed, Row, RunOptions, Status
from system_migration.batching.commit import Batch, carefully, commit_batch
from system_migration.batching.ranges import NAMED_ROWS, SPAN, Gap, Numbers
from system_migration.batching.resolution import resolve
from system_migration.states import RunKind
from system_migration.store import ledger, runs
from system_migration.store.database import Database
from system_migration.store.runs import Attempt
from tests.db.test_batches import covered
from tests.db.test_workbench import Fill, Increment, execute, make_numbers, make_table, migrator, rows_of

LONG = 30.0
"""Seconds that a test waits for something that must come, at the most."""


def sums(engine: Engine) -> tuple[int, int]:
    """Rows read and rows changed, as the ledger has them."""
    ((read, changed),) = rows_of(engine, "SELECT SUM(rows_read), SUM(changed) FROM system_migration_ledger")
    return int(read), int(changed)


def test_four_writers_change_each_row_once(engine: Engine) -> None:
    make_numbers(engine, 5_000)
    (report,) = migrator(engine, Increment).run(options=RunOptions(batch_size=50, workers=4))
    assert (report.status, report.records_processed) == (Status.COMPLETED, 5_000)
    assert rows_of(engine, "SELECT COUNT(*) FROM number WHERE y = id + 1") == [(5_000,)]
    assert sums(engine) == (5_000, 5_000)
    assert len(covered(engine, "001-increment")) == 1


class AtWork:
    """Counts the batches that are being committed at once, and holds each until `enough` are or nobody else comes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, hold: float = 0.3) -> None:
        self.now, self.most, self.threads = 0, 0, set[str]()
        self._turn = threading.Condition()
        self._hold = hold
        monkeypatch.setattr("system_migration.batching.settling.commit_batch", self._commit)

    def _commit(self, *given: Any) -> Any:
        with self._turn:
            self.now += 1
            self.most = max(self.most, self.now)
            self.threads.add(threading.current_thread().name)
            self._turn.notify_all()
            self._turn.wait_for(lambda: self.now > 8, timeout=self._hold)
        try:
            return commit_batch(*given)
        finally:
            with self._turn:
                self.now -= 1


@pytest.mark.parametrize("workers", [2, 4])
def test_no_more_batches_are_committed_at_once_than_there_are_workers(
    engine: Engine, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_numbers(engine, 24)
    watch = AtWork(monkeypatch)
    migrator(engine, Increment).run(options=RunOptions(batch_size=1, workers=workers))
    assert watch.most == workers


def test_one_worker_is_the_calling_thread(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    make_numbers(engine, 12)
    watch = AtWork(monkeypatch, hold=0)
    migrator(engine, Increment).run(options=RunOptions(batch_size=2, workers=1))
    assert watch.threads == {threading.current_thread().name}


def test_an_error_beside_them_loses_no_batch_that_was_committed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All four have a batch in hand when one fails; the others commit, and are counted."""
    make_numbers(engine, 40)
    together = threading.Barrier(4, timeout=LONG)
    failed: list[int] = []

    def commit(database: Any, run: Any, target: Any, batch: Any, *rest: Any) -> Any:
        if not failed:
            together.wait()
            if batch.lower is None:
                failed.append(1)
                raise RuntimeError("no more")
        return commit_batch(database, run, target, batch, *rest)

    monkeypatch.setattr("system_migration.batching.settling.commit_batch", commit)
    with pytest.raises(MigrationFailed, match="RuntimeError"):
        migrator(engine, Increment).run(options=RunOptions(batch_size=2, workers=4))
    monkeypatch.undo()
    read, changed = sums(engine)
    assert changed >= 6
    shown = migrator(engine, Increment).show("001-increment").status
    assert shown.records_processed == changed == read
    (report,) = migrator(engine, Increment).run(options=RunOptions(batch_size=3, workers=4))
    assert (report.status, report.records_processed) == (Status.COMPLETED, 40)
    assert rows_of(engine, "SELECT COUNT(*) FROM number WHERE y = id + 1") == [(40,)]


# --- rows that the database refuses ----------------------------------------------------------------------------------


class RefusedRows(BatchMigration):
    """Adds one to `y`, but gives the rows in `bad` a value that the database or its driver refuses."""

    reads = ("y", "text")
    writes = ("y", "text")
    bad: ClassVar[frozenset[int]] = frozenset()
    value: ClassVar[dict[str, Any]] = {}

    def transform(self, row: Row) -> dict[str, Any]:
        return self.value if row.y in self.bad else {"y": row.y + 1}


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "NOT NULL": ({"y": None}, "constraint_violation"),
    "CHECK": ({"y": -5}, "constraint_violation"),
    "UNIQUE": ({"text": "taken"}, "constraint_violation"),
    "type of the driver": ({"text": object()}, "value_refused"),
}
TOO_MUCH: dict[str, tuple[dict[str, Any], str]] = {
    "too long": ({"text": "x" * 50}, "value_refused"),
    "out of range": ({"y": 1 << 40}, "value_refused"),
}
WHO_REFUSES = {"UNIQUE", "type of the driver"}
"""One of the database's and one of the driver's: where the rows are must make no difference to either."""
PLACES = {"first": {1}, "middle": {7}, "last": {14}, "neighbours": {7, 8}, "all": set(range(1, 15))}


def make_strict(engine: Engine, name: str) -> None:
    make_table(
        engine,
        name,
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("y", sa.Integer(), nullable=False),
        sa.Column("text", sa.String(20), unique=True),
        sa.CheckConstraint("y >= 0"),  # type: ignore[arg-type]
        rows=[{"id": key, "y": key, "text": None} for key in range(1, 15)] + [{"id": 1000, "y": 1000, "text": "taken"}],
    )


@pytest.mark.parametrize("batch_size", [1, 2, 7, 100])
def test_exactly_the_refused_rows_are_held(engine: Engine, batch_size: int, subtests: pytest.Subtests) -> None:
    limited = TOO_MUCH if engine.dialect.name != "sqlite" else {}
    forms = {
        (refusal, place): refusing(f"strict_{refusal}_{place}".replace(" ", "_").lower(), bad, value)
        for refusal, (value, _) in (REFUSALS | limited).items()
        for place, bad in PLACES.items()
        if place == "neighbours" or (batch_size in (2, 7) and refusal in WHO_REFUSES)
    }
    running = migrator(engine, *forms.values())  # one for all: it compiles its statements once
    for (refusal, place), form in forms.items():
        with subtests.test(refusal=refusal, place=place):
            make_strict(engine, form.name)
            (report,) = running.run(form.name, RunOptions(batch_size=batch_size, workers=1, max_issues=14))
            assert (report.status, report.issues) == (Status.COMPLETED, len(form.bad))
            held = {(issue.key, issue.code) for issue in running.issues(form.name)}
            assert held == {(key, (REFUSALS | TOO_MUCH)[refusal][1]) for key in form.bad}
            found = rows_of(engine, f"SELECT id, y FROM {form.name} WHERE id < 1000 ORDER BY id")
            assert found == [(key, key if key in form.bad else key + 1) for key in range(1, 15)]
            assert len(covered(engine, form.name)) == 1


def refusing(name: str, bad: set[int], value: dict[str, Any]) -> type[RefusedRows]:
    """A migration of the table of this name."""
    return type("Form", (RefusedRows,), {"name": name, "table": name, "bad": frozenset(bad), "value": value})


# --- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 4])
def test_never_more_rows_are_changed_than_allowed_also_when_it_resumes(engine: Engine, workers: int) -> None:
    make_numbers(engine, 60)
    for _ in range(2):
        with pytest.raises(MigrationFailed, match="it would change more than 21 rows"):
            migrator(engine, Increment).run(options=RunOptions(batch_size=4, workers=workers, max_rows=21))
        ((changed,),) = rows_of(engine, "SELECT COUNT(*) FROM number WHERE y = id + 1")
        assert changed == sums(engine)[1]
        assert 0 < changed <= 21
    migrator(engine, Increment).run(options=RunOptions(batch_size=4, workers=workers, max_rows=60))
    assert rows_of(engine, "SELECT COUNT(*) FROM number WHERE y = id + 1") == [(60,)]


# --- rows put off, and retries ---------------------------------------------------------------------------------------


def test_rows_put_off_by_a_retry_that_died_are_not_lost_to_the_next(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first held row changes under the retry's hands and is put off; an error comes before it is done again."""

    class Holding(Increment):
        bad: ClassVar[set[int]] = {20, 50}
        meddle: ClassVar[bool] = False

        def transform(self, row: Row) -> Any:
            if row.y in self.bad:
                raise ValueError
            if type(self).meddle:
                type(self).meddle = False
                execute(engine, "UPDATE number SET y = y + 1000 WHERE id = :id", id=row.y)
                put_off.append(row.y)
            return super().transform(row)

    put_off: list[int] = []
    make_numbers(engine, 6)
    options = RunOptions(batch_size=1, workers=1, max_issues=2)
    migrator(engine, Holding).run(options=options)
    Holding.bad, Holding.meddle = set(), True

    def commit(database: Any, run: Any, target: Any, batch: Any, *rest: Any) -> Any:
        if target.key_of(batch.rows[0]) != (put_off[0],):
            raise RuntimeError
        return commit_batch(database, run, target, batch, *rest)

    monkeypatch.setattr("system_migration.batching.settling.commit_batch", commit)
    with pytest.raises(MigrationFailed, match="RuntimeError"):
        migrator(engine, Holding).retry("001-increment", options)
    monkeypatch.undo()
    report = migrator(engine, Holding).retry("001-increment", options)
    assert report.status is Status.COMPLETED
    assert rows_of(engine, "SELECT id, y FROM number WHERE id IN (20, 50) ORDER BY id") == [
        (key, key + 1 + 1000 * (key in put_off)) for key in (20, 50)
    ]


# --- the ledger stays small ------------------------------------------------------------------------------------------


def test_batches_long_past_share_a_ledger_row(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("system_migration.batching.loop.COMPACT_EVERY", 20)
    make_numbers(engine, 200)
    running = migrator(engine, Fill)
    (report,) = running.run(options=RunOptions(batch_size=1, workers=3))
    assert (report.status, report.records_processed) == (Status.COMPLETED, 200)
    ((rows, batches),) = rows_of(engine, "SELECT COUNT(*), SUM(batches) FROM system_migration_ledger")
    assert (rows < 60, batches) == (True, 200)
    assert len(covered(engine, "001-fill")) == 1
    assert sums(engine) == (200, 200)
    assert max(batch.batches for batch in running.batches("001-fill")) > 1


def test_what_a_retry_has_numbered_is_no_gap_of_a_walk(engine: Engine) -> None:
    """A pass that holds named rows alone has everything left to walk, as one open end."""
    make_numbers(engine, 3)
    migrator(engine, Increment).run()
    quote = engine.dialect.identifier_preparer.quote
    execute(engine, f"UPDATE system_migration_ledger SET {quote('range')} = :n, last_range = :n", n=NAMED_ROWS)
    place = Attempt("", "test", Increment.name, 1, RunKind.RUN, 0)
    with engine.connect() as connection:
        assert ledger.missing(connection, place, 1) == [Gap(1, None, None, None)]
        assert ledger.next_named(connection, place) == NAMED_ROWS + 1


class Surrounded(BatchMigration):
    """On a table whose names are those that a writer might take for its own."""

    name = "001-surrounded"
    table = "given"
    reads = ("version", "first", "last", "array_0")
    writes = ("last", "array_0")

    def transform(self, row: Row) -> dict[str, Any]:
        return {"last": row.first + row.version, "array_0": row.array_0 + "!"}


def test_names_that_a_writer_might_use_itself_are_only_names(engine: Engine) -> None:
    names = ("version", "first", "last")
    make_table(
        engine,
        "given",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in names),
        sa.Column("array_0", sa.String(20)),
        rows=[{"id": n, "version": n, "first": 1, "last": 0, "array_0": "x"} for n in range(1, 6)],
    )
    (report,) = migrator(engine, Surrounded).run(options=RunOptions(batch_size=2, workers=1))
    assert (report.status, report.records_processed, report.changed_meanwhile) == (Status.COMPLETED, 5, 0)
    quoted = [engine.dialect.identifier_preparer.quote(name) for name in (*names, "array_0", "given")]
    query = "SELECT id, {}, {}, {}, {} FROM {} ORDER BY id".format(*quoted)
    assert rows_of(engine, query) == [(n, n, 1, n + 1, "x!") for n in range(1, 6)]


def test_a_range_is_committed_once_even_under_one_fence(engine: Engine) -> None:
    """A COMMIT that was given up for lost may arrive late: whichever comes second finds the range's number taken."""
    make_numbers(engine, 3)
    migrator(engine, Increment).run(options=RunOptions(workers=1))
    execute(engine, "UPDATE system_migration_run SET outcome = NULL, finished_at = NULL")  # as if it were still going
    database = Database(create_engine(engine.url))
    with database.read() as connection:
        row = connection.execute(select(runs.run.id, runs.run.fence)).one()
        target = resolve(connection, Increment())
        rows = target.fetch(connection, target.batch(None, None, 3))
    attempt = Attempt(row.id, "test", Increment.name, 1, RunKind.RUN, row.fence)
    batch = Batch(1, Numbers(1, SPAN), None, None, rows, [{"y": 0}] * 3)
    with pytest.raises(IntegrityError):
        commit_batch(database, attempt, target, batch, "another attempt", carefully)
    database.close()
    assert rows_of(engine, "SELECT COUNT(*) FROM number WHERE y = id + 1") == [(3,)]
