"""Many starters at once: one executes, the others are told who does or wait for it; a latecomer asks one question."""

from __future__ import annotations

import multiprocessing
import queue
import threading
from collections.abc import Callable
from multiprocessing.context import ForkProcess
from typing import Any, ClassVar

import pytest
from sqlalchemy import Engine, text

from system_migration import HeldElsewhere, Migration, MigrationResult, Row, RunOptions, Status
from system_migration.errors import Interrupted
from system_migration.migration import SilentProgress
from system_migration.store.dialects.sqlite import SQLite
from tests.db.test_workbench import Fill, Increment, execute, make_numbers, migrator, rows_of, statements
from tests.support.databases import application_engine

STARTERS = 12
PATIENCE = 60.0
"""How long a step may take on a busy machine before the test gives up. Nothing waits for this to pass."""

fork = multiprocessing.get_context("fork")


class Gate:
    """Holds the one that executes inside of its migration until the test opens it."""

    def __init__(self) -> None:
        self.entered, self.open = fork.Semaphore(0), fork.Event()

    def pass_through(self) -> None:
        self.entered.release()
        assert self.open.wait(PATIENCE), "the gate was never opened"


class GatedBatches(Increment):
    """In place: a second execution would show in the rows."""

    gate: ClassVar[Gate]
    passed: ClassVar[bool] = False

    def transform(self, row: Row) -> dict[str, Any]:
        if not type(self).passed:
            type(self).passed = True
            self.gate.pass_through()
        return super().transform(row)


class GatedUp(Migration):
    """The same work as one statement."""

    name = "001-increment"
    gate: ClassVar[Gate]

    def up(self, context: Any) -> MigrationResult:
        self.gate.pass_through()
        return MigrationResult(
            records_processed=context.connection.execute(text("UPDATE number SET y = y + 1")).rowcount
        )


class Starter:
    """A process that starts the migration together with the others, and tells what became of it."""

    def __init__(self, engine: Engine, migration: type[Migration], *, wait: bool) -> None:
        self.url, self.migration, self.wait = engine.url, migration, wait
        self.results, self.waits = fork.Queue(), fork.Semaphore(0)
        self.line = fork.Barrier(STARTERS)

    def start(self) -> list[ForkProcess]:
        processes = [fork.Process(target=self._run, args=(f"starter {number}",)) for number in range(STARTERS)]
        for process in processes:
            process.start()
        return processes

    def _run(self, who: str) -> None:
        waits = self.waits

        class TellsOnce(SilentProgress):
            told = False

            def waiting(self, reason: str) -> None:
                if "is being run by" in reason and not self.told:
                    self.told = True
                    waits.release()

        engine = application_engine(self.url)
        starter = migrator(engine, self.migration, executed_by=who, progress=TellsOnce())
        self.line.wait(PATIENCE)
        try:
            reports = starter.run(options=RunOptions(wait=self.wait, workers=1))
            self.results.put(("ran", [report.records_processed for report in reports]))
        except HeldElsewhere as held:
            self.results.put(("held", str(held)))
        except BaseException as error:
            self.results.put(("error", repr(error)))
        finally:
            engine.dispose()

    def result(self) -> tuple[str, Any]:
        try:
            answer: tuple[str, Any] = self.results.get(timeout=PATIENCE)
        except queue.Empty:
            pytest.fail("a starter did not answer")
        return answer


@pytest.fixture
def gate() -> Gate:
    return Gate()


MIGRATIONS = {"batches": GatedBatches, "up": GatedUp}
# On SQLite an imperative migration holds the only write lock while it works: see the last test.
CASES = [("sqlite", "batches"), ("postgresql", "batches"), ("postgresql", "up"), ("mariadb", "batches")]


@pytest.fixture(params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest, make_database_url: Callable[[str], str], gate: Gate) -> Any:
    """A database with a table, and a migration of it that stops at the gate."""
    product, form = request.param
    engine = application_engine(make_database_url(product))
    make_numbers(engine, 3)
    yield engine, type("Gated", (MIGRATIONS[form],), {"gate": gate})
    engine.dispose()


def y_of(engine: Engine) -> list[int]:
    return [y for (y,) in rows_of(engine, "SELECT y FROM number ORDER BY id")]


def test_of_twelve_starters_one_executes_and_the_others_say_who_runs(case: Any, gate: Gate) -> None:
    engine, migration = case
    starter = Starter(engine, migration, wait=False)
    processes = starter.start()
    others = [starter.result() for _ in range(STARTERS - 1)]  # all of them while the one stands at the gate
    assert gate.entered.acquire(timeout=PATIENCE)
    (holder,) = [each.held_by for each in migrator(engine, migration).status().migrations]
    gate.open.set()
    assert starter.result() == ("ran", [3])
    for process in processes:
        process.join(PATIENCE)

    assert holder is not None
    assert holder.startswith("starter ")
    expected = f"Migration 001-increment is being run by {holder}. Wait for it, or start with --wait"
    assert {kind for kind, _ in others} == {"held"}, others
    assert all(sentence.startswith(expected) for _, sentence in others), others
    assert not gate.entered.acquire(block=False)
    assert y_of(engine) == [11, 21, 31]
    assert migrator(engine, migration).run() == []  # a latecomer


def test_of_twelve_that_wait_one_executes_and_the_others_then_find_nothing(case: Any, gate: Gate) -> None:
    engine, migration = case
    starter = Starter(engine, migration, wait=True)
    processes = starter.start()
    for _ in range(STARTERS - 1):
        assert starter.waits.acquire(timeout=PATIENCE)
    gate.open.set()
    results = sorted(str(starter.result()) for _ in range(STARTERS))
    for process in processes:
        process.join(PATIENCE)
    assert results == ["('ran', [3])"] + ["('ran', [])"] * (STARTERS - 1)
    assert y_of(engine) == [11, 21, 31]
    assert rows_of(engine, "SELECT COUNT(*) FROM system_migration_run") == [(1,)]


def test_with_nothing_pending_a_start_is_one_select_on_our_tables(engine: Engine) -> None:
    make_numbers(engine, 2)
    migrator(engine, Increment).run()
    latecomer = migrator(engine, Increment)
    lease = rows_of(engine, "SELECT fence, renewed_at FROM system_migration_lease")
    with statements() as heard:
        assert latecomer.run() == []
    assert len(heard) == 1
    assert heard[0].lstrip().startswith("SELECT")
    assert "FOR UPDATE" not in heard[0]
    assert rows_of(engine, "SELECT fence, renewed_at FROM system_migration_lease") == lease
    with statements() as heard:
        assert latecomer.status().pending == []
        assert latecomer.pending() == []
    assert len(heard) == 2


def test_status_tells_who_runs_and_never_waits(engine: Engine) -> None:
    class LooksAround(Fill):
        seen: ClassVar[list[Any]] = []

        def transform(self, row: Row) -> dict[str, Any]:
            watcher = migrator(engine, LooksAround)
            self.seen.extend(watcher.status().migrations)
            with pytest.raises(HeldElsewhere, match="is being run by the first on "):
                watcher.run()
            return super().transform(row)

    make_numbers(engine, 1)
    migrator(engine, LooksAround, executed_by="the first").run()
    (status,) = LooksAround.seen
    assert (status.status, status.stale, status.executed_by) == (Status.RUNNING, False, "the first")
    assert status.held_by.startswith("the first on ")


def test_what_is_being_run_is_neither_skipped_nor_reset_nor_rolled_back(engine: Engine) -> None:
    class Interfered(Fill):
        rollbackable = True
        errors: ClassVar[list[str]] = []

        def down(self, context: Any) -> Any:
            raise AssertionError

        def transform(self, row: Row) -> dict[str, Any]:
            other = migrator(engine, Interfered)
            for verb in (lambda: other.skip("001-fill", "?"), lambda: other.reset("001-fill", "?")):
                with pytest.raises(HeldElsewhere):
                    verb()
            with pytest.raises(HeldElsewhere):
                other.rollback("001-fill")
            return super().transform(row)

    make_numbers(engine, 1)
    (report,) = migrator(engine, Interfered).run()
    assert (report.status, report.issues) == (Status.COMPLETED, 0)


LONG_AGO = "'2000-01-01 00:00:00.000000'"


def sleeps_through_its_lease(engine: Engine, meanwhile: Callable[[Any], None]) -> type[Increment]:
    """The first runner sleeps in transform, its lease expires; then it wakes up, knowing nothing."""

    class Sleepy(Increment):
        first: ClassVar[bool] = True

        def transform(self, row: Row) -> dict[str, Any]:
            if Sleepy.first:
                Sleepy.first = False
                expired = f"SET expires_at = {LONG_AGO}, takeover_at = {LONG_AGO}"
                execute(engine, f"UPDATE system_migration_lease {expired}")
                (status,) = migrator(engine, Sleepy).status().migrations
                assert (status.status, status.stale) == (Status.RUNNING, True)
                assert migrator(engine, Sleepy).pending() == ["001-increment"]
                meanwhile(migrator(engine, Sleepy, executed_by="the second"))
            return super().transform(row)

    return Sleepy


def test_a_stale_run_is_taken_over_and_its_old_runner_can_write_no_more(engine: Engine) -> None:
    def finish(second: Any) -> None:
        assert second.run()[0].records_processed == 3

    make_numbers(engine, 3)
    sleepy = sleeps_through_its_lease(engine, finish)
    with pytest.raises(HeldElsewhere, match=r"lost its lease on 001-increment .*nothing more was written"):
        migrator(engine, sleepy).run(options=RunOptions(workers=1))
    assert y_of(engine) == [11, 21, 31]
    (status,) = migrator(engine, sleepy).status().migrations
    assert status.status is Status.COMPLETED
    actions = [event.action for event in migrator(engine, sleepy).show("001-increment").events]
    assert actions == ["completed", "takeover", "run_started"]


def test_the_fence_alone_keeps_the_old_runner_out(engine: Engine) -> None:
    """The second one has taken over and committed nothing yet: no row of the ledger stands in the first one's way."""

    def take_over_only(second: Any) -> None:
        second.request_stop(15)
        with pytest.raises(Interrupted):
            second.run()

    make_numbers(engine, 3)
    sleepy = sleeps_through_its_lease(engine, take_over_only)
    with pytest.raises(HeldElsewhere, match=r"lost its lease on 001-increment .*nothing more was written"):
        migrator(engine, sleepy).run(options=RunOptions(workers=1))
    assert y_of(engine) == [10, 20, 30]
    assert rows_of(engine, "SELECT COUNT(*) FROM system_migration_ledger") == [(0,)]
    assert migrator(engine, sleepy).run()[0].records_processed == 3
    assert y_of(engine) == [11, 21, 31]


@pytest.mark.databases("sqlite")
def test_on_sqlite_a_starter_is_told_who_runs_while_up_holds_the_write_lock(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SQLite, "lock_seconds", 0.2)
    entered, opened = threading.Event(), threading.Event()

    class Long(Migration):
        name = "001-long"

        def up(self, context: Any) -> MigrationResult:
            entered.set()
            assert opened.wait(PATIENCE)
            return MigrationResult()

    class Impatient(SilentProgress):
        def waiting(self, reason: str) -> None:
            raise AssertionError(f"waits instead: {reason}")

    runner = threading.Thread(target=migrator(engine, Long).run)
    runner.start()
    try:
        assert entered.wait(PATIENCE)
        with pytest.raises(HeldElsewhere):
            migrator(engine, Long, progress=Impatient()).run()
    finally:
        opened.set()
        runner.join(PATIENCE)
