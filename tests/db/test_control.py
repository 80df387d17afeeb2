"""Pause, cancel and resume from elsewhere: obeyed at a clean checkpoint, and at once where the runner is dead."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from system_migration import (
    Migration,
    MigrationContext,
    MigrationResult,
    MigrationRollbackResult,
    Refused,
    Row,
    RowIssue,
    RunOptions,
    Status,
)
from system_migration.errors import Cancelled, LeaseLost, Paused
from system_migration.running import requests
from system_migration.store.database import Database
from system_migration.store.patience import Patience
from tests.db.test_workbench import Fill, Increment, execute, fingerprint, make_numbers, migrator, rows_of, statements
from tests.support.chains import head_last

ONE_BY_ONE = RunOptions(batch_size=1, workers=1)
CHANGED = "SELECT COUNT(*) FROM number WHERE y = id + 1"


@pytest.fixture(autouse=True)
def _with_the_head_locked_last() -> Iterator[None]:
    with head_last():
        yield


@pytest.fixture(autouse=True)
def looking_at_every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a test need not be slower than the runner's look."""
    monkeypatch.setattr(requests, "EVERY_SECONDS", 0.0)


class Gate:
    """Holds up the work in a thread until the test lets it go on."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()

    def pass_through(self) -> None:
        self.reached.set()
        assert self.opened.wait(30)


class Running:
    """A run in a thread of its own, with the error it ended in."""

    def __init__(self, gate: Gate, work: Callable[[], Any]) -> None:
        self.gate, self._work = gate, work
        self.result: Any = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.result = self._work()
        except BaseException as error:
            self.error = error
        finally:
            self.gate.reached.set()

    def start(self) -> Running:
        self._thread.start()
        assert self.gate.reached.wait(30)
        assert self.error is None
        return self

    def end(self) -> None:
        self.gate.opened.set()
        self._thread.join(60)
        assert not self._thread.is_alive()


@contextmanager
def held_up(engine: Engine, form: type[Increment] | type[Fill] = Increment, **more: Any) -> Iterator[Running]:
    """A run of eight rows, one in a batch, that stands in its third transform."""
    gate = Gate()

    class Gated(form):  # type: ignore[misc, valid-type]
        def transform(self, row: Row) -> dict[str, Any]:
            if row.y == 30:
                gate.pass_through()
            changed: dict[str, Any] = super().transform(row)
            return changed

    make_numbers(engine, 8)
    running = Running(gate, lambda: migrator(engine, Gated, **more).run(options=ONE_BY_ONE))
    running.start()
    try:
        yield running
    finally:
        running.end()


def control(engine: Engine, form: type[Migration] = Increment, by: str = "ada") -> Any:
    """The migrator of somebody else, elsewhere."""
    return migrator(engine, form, executed_by=by)


def actions(engine: Engine, name: str = "001-increment") -> list[tuple[str, str]]:
    events = control(engine).show(name).events
    return [(event.action, event.actor) for event in reversed(events)]


ACCEPTING = RunOptions(accept_code_change=True)


def test_rows_that_are_held_show_while_the_run_is_going(engine: Engine) -> None:
    class Picky(Increment):
        max_issues = 1

        def transform(self, row: Row) -> dict[str, Any]:
            if row.y == 10:
                raise RowIssue("ten", "stays as it is")
            return super().transform(row)

    with held_up(engine, Picky):
        (status,) = control(engine).status().migrations
        assert (status.status, status.issues, status.records_processed) == (Status.RUNNING, 1, 1)


def test_a_pause_is_obeyed_after_the_batch_in_flight_and_resumed_exactly(engine: Engine) -> None:
    with held_up(engine) as running:
        asked = control(engine).pause("001-increment")
        assert (asked.status, asked.request, asked.requested_by) == (Status.RUNNING, "pause", "ada")
        running.end()
    assert isinstance(running.error, Paused)
    assert str(running.error) == (
        "Migration 001-increment paused: ada asked for it. Go on with `migration resume 001-increment`."
    )
    assert rows_of(engine, CHANGED) == [(3,)]
    (status,) = control(engine).status().migrations
    assert (status.status, status.request, status.records_processed) == (Status.PAUSED, None, 3)
    assert status.error == "ada asked for it."
    assert actions(engine) == [("run_started", "tester"), ("pause_asked", "ada"), ("paused", "tester")]
    assert control(engine).history()[0].outcome == "paused"
    with pytest.raises(Paused, match=r"ada asked for it\. Go on with `migration run 001-increment`"):
        control(engine).run()
    report = control(engine).resume("001-increment", ACCEPTING)
    assert (report.status, report.records_processed) == (Status.COMPLETED, 8)
    assert rows_of(engine, CHANGED) == [(8,)]


def test_a_cancelled_run_continues_only_when_named(engine: Engine) -> None:
    with held_up(engine) as running:
        assert control(engine).cancel("001-increment").request == "cancel"
        running.end()
    assert isinstance(running.error, Cancelled)
    assert "was cancelled by ada. What is committed stays" in str(running.error)
    (status,) = control(engine).status().migrations
    assert (status.status, status.cancelled, status.requested_by) == (Status.FAILED, True, "ada")
    assert control(engine).pending() == []
    assert control(engine).run() == []
    assert rows_of(engine, CHANGED) == [(3,)]
    (report,) = control(engine).run("001-increment", ACCEPTING)
    assert (report.status, report.records_processed) == (Status.COMPLETED, 8)
    (status,) = control(engine).status().migrations
    assert (status.cancelled, status.request, status.requested_by) == (False, None, None)


def test_a_starter_that_listed_it_before_it_was_cancelled_leaves_it_alone(engine: Engine) -> None:
    """It is decided with the lease in hand, not by the list."""
    with held_up(engine) as running:
        control(engine).cancel("001-increment")
        running.end()
    starter = control(engine)
    from system_migration.running.runner import Runner

    assert Runner(starter._workspace(), Increment, RunOptions()).run(named=False) is None
    assert rows_of(engine, CHANGED) == [(3,)]


def expire(engine: Engine) -> None:
    """As if the holder had not renewed for long: it is dead, or frozen."""
    past = "'2026-01-01 00:00:00.000000'"
    execute(engine, f"UPDATE system_migration_lease SET expires_at = {past}, takeover_at = {past}")


@pytest.mark.parametrize(("verb", "end"), [("pause", Status.PAUSED), ("cancel", Status.FAILED)])
def test_a_request_to_a_dead_runner_is_done_at_once_and_shuts_it_out(engine: Engine, verb: str, end: Status) -> None:
    with held_up(engine) as frozen:
        expire(engine)
        status = getattr(control(engine), verb)("001-increment")
        assert (status.status, status.stale, status.records_processed) == (end, False, 2)
        assert status.cancelled is (verb == "cancel")
        frozen.end()
    assert isinstance(frozen.error, LeaseLost)  # it woke up, and its batch was rolled back
    assert rows_of(engine, CHANGED) == [(2,)]
    (run,) = control(engine).history()
    assert run.outcome == ("paused" if verb == "pause" else "failed")
    assert (f"{verb}_at_once", "ada") in actions(engine)
    (report,) = control(engine).run("001-increment", ACCEPTING)
    assert (report.status, report.records_processed) == (Status.COMPLETED, 8)
    assert rows_of(engine, CHANGED) == [(8,)]


@pytest.mark.databases("postgresql", "mariadb")
def test_the_last_batch_of_a_frozen_runner_is_waited_for_and_counted(engine: Engine) -> None:
    with held_up(engine) as frozen:
        expire(engine)
        waiting = threading.Event()

        def hear(_c: Any, _cursor: Any, statement: str, *_more: Any) -> None:
            if statement.startswith("UPDATE system_migration_run SET fence"):
                waiting.set()

        event.listen(Engine, "before_cursor_execute", hear)
        operator = Running(Gate(), lambda: control(engine).pause("001-increment"))
        try:
            with engine.begin() as batch:  # it has passed its fence check, and is about to commit
                batch.execute(text("SELECT id FROM system_migration_run FOR UPDATE"))
                batch.execute(text("UPDATE system_migration_ledger SET changed = changed + 5"))
                operator._thread.start()
                assert waiting.wait(30)
            operator.end()
        finally:
            event.remove(Engine, "before_cursor_execute", hear)
        assert operator.error is None
        assert operator.result.records_processed == 12
        frozen.end()
    assert isinstance(frozen.error, LeaseLost)
    assert control(engine).history()[0].records_processed == 12


def test_a_paused_one_is_cancelled_at_once(engine: Engine) -> None:
    with held_up(engine) as running:
        control(engine).pause("001-increment")
        running.end()
    status = control(engine, by="bob").cancel("001-increment")
    assert (status.status, status.cancelled, status.requested_by) == (Status.FAILED, True, "bob")
    assert control(engine).pending() == []


def test_a_pause_that_nobody_obeyed_yet_is_taken_back(engine: Engine) -> None:
    with held_up(engine) as running:
        control(engine).pause("001-increment")
        assert control(engine).resume("001-increment") is None
        running.end()
    assert running.error is None
    assert running.result[0].status is Status.COMPLETED
    assert ("pause_withdrawn", "ada") in actions(engine)


def test_a_cancel_is_not_taken_back_by_a_resume(engine: Engine) -> None:
    with held_up(engine) as running:
        control(engine).cancel("001-increment")
        with pytest.raises(Refused, match="001-increment is RUNNING, not PAUSED"):
            control(engine).resume("001-increment")
        running.end()
    assert isinstance(running.error, Cancelled)


def test_the_last_word_counts(engine: Engine) -> None:
    with held_up(engine) as running:
        control(engine).pause("001-increment")
        control(engine, by="bob").cancel("001-increment")
        running.end()
    assert isinstance(running.error, Cancelled)
    assert running.error.by == "bob"


def test_what_does_not_run_can_be_neither_paused_nor_cancelled(engine: Engine) -> None:
    make_numbers(engine, 2)
    migrator(engine, Increment).init()
    before = fingerprint(engine)
    for verb, done in (("pause", "paused"), ("cancel", "cancelled")):
        with pytest.raises(Refused, match=f"001-increment is PENDING; nothing runs that could be {done}"):
            getattr(control(engine), verb)("001-increment")
    with pytest.raises(Refused, match="001-increment is PENDING, not PAUSED"):
        control(engine).resume("001-increment")
    assert fingerprint(engine) == before
    migrator(engine, Increment).run()
    for verb in ("pause", "cancel"):
        with pytest.raises(Refused, match="001-increment is COMPLETED; nothing runs"):
            getattr(control(engine), verb)("001-increment")
    with pytest.raises(Refused, match="001-increment is COMPLETED, not PAUSED"):
        control(engine).resume("001-increment")


def orphaned_with_a_request(engine: Engine) -> None:
    """Its runner died before it obeyed a pause."""
    with held_up(engine) as running:
        control(engine).pause("001-increment")
        expire(engine)
        execute(engine, "UPDATE system_migration_run SET fence = fence + 100")  # and says no more
        running.end()
    assert isinstance(running.error, LeaseLost | Paused)
    execute(engine, "UPDATE system_migration_lease SET fence = fence + 100, released = :yes", yes=True)
    (status,) = control(engine).status().migrations
    assert (status.status, status.stale, status.request) == (Status.RUNNING, True, "pause")


def test_a_takeover_obeys_what_the_dead_runner_was_asked(engine: Engine) -> None:
    orphaned_with_a_request(engine)
    before = rows_of(engine, CHANGED)
    with pytest.raises(Paused, match="ada asked for it"):
        control(engine, by="robot").run(options=ACCEPTING)
    assert rows_of(engine, CHANGED) == before
    assert control(engine).status().migrations[0].status is Status.PAUSED


def test_a_start_by_name_overrides_what_the_dead_runner_was_asked(engine: Engine) -> None:
    orphaned_with_a_request(engine)
    (report,) = control(engine).run("001-increment", ACCEPTING)
    assert (report.status, report.records_processed) == (Status.COMPLETED, 8)
    assert rows_of(engine, CHANGED) == [(8,)]


class Up(Migration):
    name = "001-increment"
    version = "1.0.0"
    description = "in one transaction"
    gate: Gate
    calls = 0

    def up(self, context: MigrationContext) -> MigrationResult:
        type(self).calls += 1
        self.gate.pass_through()
        context.connection.exec_driver_sql("UPDATE number SET z = 1")
        return MigrationResult(records_processed=2)

    def verify(self, context: MigrationContext) -> bool:
        return True


def gated_up() -> type[Up]:
    class Gated(Up):
        gate = Gate()

    return Gated


@pytest.mark.databases("postgresql", "mariadb")
def test_an_up_in_its_transaction_ends_before_a_request_is_obeyed(engine: Engine) -> None:
    make_numbers(engine, 2)
    form = gated_up()
    running = Running(form.gate, lambda: migrator(engine, form).run()).start()
    assert control(engine, form).pause("001-increment").request == "pause"
    running.end()
    assert isinstance(running.error, Paused)
    assert rows_of(engine, "SELECT z FROM number") == [(1,), (1,)]
    report = control(engine, form).resume("001-increment")
    assert (report.status, report.verified, form.calls) == (Status.COMPLETED, True, 1)  # only verification was left


@pytest.mark.databases("sqlite")
def test_a_transaction_that_lets_nobody_write_refuses_the_request(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Database, "patience", Patience(in_the_way=0.0, away=0.0))
    make_numbers(engine, 2)
    form = gated_up()
    running = Running(form.gate, lambda: migrator(engine, form).run()).start()
    with pytest.raises(Refused, match="001-increment is inside a transaction that lets nobody else write"):
        control(engine, form).pause("001-increment")
    running.end()
    assert running.error is None


def test_a_request_before_up_starts_keeps_it_from_starting(engine: Engine) -> None:
    """The runner died between its start and `up`, and was asked before somebody took it over."""
    make_numbers(engine, 2)
    form = gated_up()
    form.gate.opened.set()
    migrator(engine, form).run()
    execute(
        engine,
        "UPDATE system_migration_migration SET status = 'RUNNING', applied = :no, request = 'cancel',"
        " requested_by = 'ada'",
        no=False,
    )
    execute(engine, "UPDATE system_migration_run SET outcome = NULL, finished_at = NULL")
    with pytest.raises(Cancelled, match="cancelled by ada"):
        control(engine, form).run()
    assert form.calls == 1


def test_a_paused_rollback_is_resumed_as_a_rollback(engine: Engine) -> None:
    class Undoable(Up):
        rollbackable = True
        gate = Gate()

        def down(self, context: MigrationContext) -> MigrationRollbackResult:
            context.connection.exec_driver_sql("UPDATE number SET z = NULL")
            return MigrationRollbackResult(records_processed=2)

    Undoable.gate.opened.set()
    make_numbers(engine, 2)
    migrator(engine, Undoable).run()
    execute(engine, "UPDATE system_migration_migration SET status = 'PAUSED'")
    execute(engine, "UPDATE system_migration_run SET kind = 'rollback', outcome = 'paused'")
    assert control(engine, Undoable).resume("001-increment").status is Status.ROLLED_BACK
    assert rows_of(engine, "SELECT z FROM number") == [(None,), (None,)]
    assert Undoable.calls == 1


def test_a_request_that_comes_after_the_last_look_is_told_and_ended(engine: Engine) -> None:
    gate = Gate()

    class Verified(Increment):
        def verify(self, context: Any) -> bool:
            gate.pass_through()
            return True

    make_numbers(engine, 2)
    running = Running(gate, lambda: migrator(engine, Verified).run()).start()
    control(engine, Verified).cancel("001-increment")
    running.end()
    assert running.error is None
    (status,) = control(engine, Verified).status().migrations
    assert (status.status, status.request, status.cancelled) == (Status.COMPLETED, None, False)
    assert ("request_came_too_late", "tester") in actions(engine)


def test_a_starter_in_preflight_is_asked_again_later(engine: Engine) -> None:
    gate = Gate()

    class Slow(Increment):
        def preflight(self, context: Any) -> None:
            gate.pass_through()

    make_numbers(engine, 2)
    running = Running(gate, lambda: migrator(engine, Slow).run()).start()
    with pytest.raises(Refused, match=r"001-increment is just being started by tester on .* Ask again in a moment"):
        control(engine, Slow).pause("001-increment")
    running.end()
    assert running.result[0].status is Status.COMPLETED


def test_what_runs_can_be_stopped_where_its_file_is_missing(engine: Engine) -> None:
    with held_up(engine) as running:
        assert control(engine, Fill).pause("001-increment").request == "pause"
        running.end()
    assert isinstance(running.error, Paused)


@pytest.mark.databases("sqlite")
def test_a_decision_ends_a_request_and_the_word_cancelled(engine: Engine) -> None:
    with held_up(engine) as running:
        control(engine).cancel("001-increment")
        running.end()
    status = control(engine).reset("001-increment", "again from the start")
    assert (status.status, status.cancelled, status.requested_by) == (Status.PENDING, False, None)
    assert control(engine).pending() == ["001-increment"]


@pytest.mark.databases("sqlite")
def test_a_run_looks_for_requests_by_one_small_select(engine: Engine) -> None:
    make_numbers(engine, 4)
    with statements("SELECT system_migration_migration.request, ") as heard:
        migrator(engine, Increment).run(options=ONE_BY_ONE)
    assert heard
    assert len(set(heard)) == 1
    assert "JOIN" not in heard[0]
