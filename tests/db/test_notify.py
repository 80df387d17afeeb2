"""Who is told of runs, through `Migrator` and so through every door; and that no run feels who is told."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, text

from system_migration import (
    Background,
    ConfigurationError,
    Migration,
    MigrationContext,
    MigrationFailed,
    MigrationResult,
    MigrationRollbackResult,
    Migrator,
    Notification,
    Refused,
    Row,
    RowIssue,
    RunOptions,
    Settings,
    Startup,
    Status,
    webhook,
)
from system_migration.errors import Interrupted, LeaseLost
from system_migration.registry import Registry
from tests.db.test_workbench import Fill, Increment, execute, make_numbers, migrator, quick, rows_of, stored_status
from tests.support.receiver import SECRET, Receiver, receiving

PATIENCE = 20.0
ONE_BY_ONE = RunOptions(batch_size=1, workers=1)


class News(list[Notification]):
    """A hook, and what it was told."""

    def __call__(self, news: Notification) -> None:
        self.append(news)

    @property
    def brief(self) -> list[tuple[Any, ...]]:
        return [(each.event, str(each.kind), each.rows, each.held) for each in self]


@pytest.fixture
def news() -> News:
    return News()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as listening:
        yield listening


class Picky(Increment):
    """Holds one row."""

    max_issues = 1
    rollbackable = True
    journal = True

    def transform(self, row: Row) -> dict[str, Any]:
        if row.y == 20:
            raise RowIssue("unlucky", "twenty stays as it is")
        return {"y": row.y + 1}


class Strict(Picky):
    """May hold none."""

    max_issues = 0


class Mark(Migration):
    name = "001-mark"
    rollbackable = True

    def up(self, context: MigrationContext) -> MigrationResult:
        context.connection.execute(text("UPDATE number SET z = 1"))
        return MigrationResult(records_processed=4)

    def down(self, context: MigrationContext) -> MigrationRollbackResult:
        context.connection.execute(text("UPDATE number SET z = NULL"))
        return MigrationRollbackResult(records_processed=4)


def all_told(one: Migrator) -> None:
    assert one.flush(PATIENCE)


# --- what is told ----------------------------------------------------------------------------------------------------


def test_a_run_and_its_rollback_are_told_from_beginning_to_end(engine: Engine, news: News) -> None:
    make_numbers(engine, 4)
    one = migrator(engine, Picky, notify=[news])
    (report,) = one.run()
    one.rollback(Picky.name)
    all_told(one)
    assert news.brief == [
        ("started", "run", 0, 0),
        ("completed", "run", 3, 1),
        ("started", "rollback", 0, 0),
        ("completed", "rollback", 3, 0),
    ]
    assert {(each.migration, each.environment, each.actor) for each in news} == {(Picky.name, "test", "tester")}
    assert [each.run_id for each in news[:2]] == [report.run_id] * 2
    assert len({each.run_id for each in news}) == 2


@pytest.mark.databases("sqlite")
def test_an_imperative_one_is_told_the_same(engine: Engine, news: News) -> None:
    make_numbers(engine, 4)
    one = migrator(engine, Mark, notify=[news])
    one.run()
    one.rollback(Mark.name)
    all_told(one)
    assert [each[:3] for each in news.brief if each[0] == "completed"] == [
        ("completed", "run", 4),
        ("completed", "rollback", 4),
    ]


@pytest.mark.databases("sqlite")
def test_a_failure_is_told_with_the_sentence_that_the_record_has(engine: Engine, news: News) -> None:
    make_numbers(engine, 4)
    one = migrator(engine, Strict, notify=[news])
    with pytest.raises(MigrationFailed):
        one.run()
    all_told(one)
    assert news.brief == [("started", "run", 0, 0), ("failed", "run", 3, 1)]
    assert news[-1].error == one.status().migrations[0].error
    assert news[-1].error is not None


@pytest.mark.databases("sqlite")
def test_a_preflight_that_breaks_is_told_and_a_refusal_is_not(engine: Engine, news: News) -> None:
    class Breaks(Increment):
        def preflight(self, context: Any) -> None:
            int("a row's value")

    class Refuses(Increment):
        def preflight(self, context: Any) -> None:
            raise Refused("not today.")

    make_numbers(engine, 4)
    one = migrator(engine, Breaks, notify=[news])
    with pytest.raises(MigrationFailed):
        one.run()
    other = migrator(engine, Refuses, notify=[news])
    with pytest.raises(Refused):
        other.run()
    all_told(one)
    all_told(other)
    assert news.brief == [("failed", "run", 0, 0)]
    assert "a row's value" not in str(news[0].error)


@pytest.mark.databases("sqlite")
def test_looking_is_no_news(engine: Engine, news: News) -> None:
    make_numbers(engine, 4)
    one = migrator(engine, Fill, notify=[news])
    one.dry_run()
    one.run()
    one.verify()
    all_told(one)
    assert [each.event for each in news] == ["started", "completed"]


def test_a_takeover_tells_the_end_and_not_the_beginning_again(engine: Engine, news: News) -> None:
    """The run of a process that stopped: the one that goes on with it tells how it ended, under the same id."""
    make_numbers(engine, 4)
    first = migrator(engine, _stopping(None), notify=[news], lease_seconds=0.6)
    first.registry = Registry([_stopping(first)])
    with pytest.raises(Interrupted):
        first.run(options=ONE_BY_ONE)
    all_told(first)
    assert [each.event for each in news] == ["started"]
    second = migrator(engine, _stopping(None), notify=[news])
    second.run()
    all_told(second)
    assert [each.event for each in news] == ["started", "completed"]
    assert len({each.run_id for each in news}) == 1
    assert news[-1].rows == 4


def _stopping(one: Migrator | None) -> type[Increment]:
    class Stops(Increment):
        def transform(self, row: Row) -> dict[str, Any]:
            if one is not None:
                one.request_stop(15)
            return {"y": row.y + 1}

    return Stops


@pytest.mark.databases("sqlite")
def test_a_pause_is_told_by_who_obeys_it_or_by_who_finds_the_runner_dead(engine: Engine, news: News) -> None:
    make_numbers(engine, 4)
    first = migrator(engine, _stopping(None))
    first.registry = Registry([_stopping(first)])
    with pytest.raises(Interrupted):
        first.run(options=ONE_BY_ONE)
    done = rows_of(engine, "SELECT COUNT(*) FROM number WHERE y = id + 1")[0][0]
    other = migrator(engine, _stopping(None), notify=[news], executed_by="ada")
    other.pause(Increment.name)
    other.cancel(Increment.name)
    all_told(other)
    assert news.brief == [("paused", "run", done, 0), ("failed", "run", done, 0)]
    assert [str(each.error).split(".")[0] for each in news] == ["ada asked for it", "cancelled by ada"]


@pytest.mark.databases("sqlite")
def test_one_that_stops_itself_is_told_as_paused_once(engine: Engine, news: News) -> None:
    make_numbers(engine, 4)
    one = migrator(engine, Fill, notify=[news])
    one.run(Fill.name, RunOptions(to_key="20"))
    all_told(one)
    assert news.brief == [("started", "run", 0, 0), ("paused", "run", 2, 0)]


@pytest.mark.databases("sqlite")
def test_a_runner_that_lost_its_lease_tells_no_end_that_is_not_its_own(engine: Engine, news: News) -> None:
    make_numbers(engine, 4)

    class Overtaken(Increment):
        def transform(self, row: Row) -> dict[str, Any]:
            execute(engine, "UPDATE system_migration_run SET fence = fence + 1")
            return {"y": row.y + 1}

    one = migrator(engine, Overtaken, notify=[news])
    with pytest.raises(LeaseLost):
        one.run()
    all_told(one)
    assert [each.event for each in news] == ["started"]


@pytest.mark.databases("sqlite")
def test_a_start_of_the_application_is_told_too(engine: Engine, news: News) -> None:
    make_numbers(engine, 4)
    settings = Settings(environment="test", run_on_startup=True, auto_migrate=True)
    with Migrator(quick(engine), Registry([Increment]), settings, notify=[news]) as one:
        startup = Startup(one, Background(one))
        startup.begin()
        assert startup.wait(to_the_end=True)
        startup.stop()
    assert [(each.event, each.actor.partition("@")[0]) for each in news] == [
        ("started", "startup"),
        ("completed", "startup"),
    ]


def _refuse(engine: Engine, column: str, when: str = "1") -> None:
    """Let the database refuse to record this."""
    execute(
        engine,
        f"CREATE TRIGGER refuse BEFORE UPDATE OF {column} ON system_migration_migration WHEN {when} "
        "BEGIN SELECT RAISE(ABORT, 'refused'); END",
    )


@pytest.mark.databases("sqlite")
def test_a_failure_that_could_not_be_recorded_is_told_by_who_takes_over(engine: Engine, news: News) -> None:
    """The record says RUNNING: an end of it now would have the id under which the real one is told."""
    make_numbers(engine, 4)
    one = migrator(engine, Strict, notify=[news], lease_seconds=0.6)
    one.dry_run()
    _refuse(engine, "status", "NEW.status = 'FAILED'")
    with pytest.raises(MigrationFailed):
        one.run()
    all_told(one)
    assert stored_status(engine, Strict.name) == "RUNNING"
    assert [each.event for each in news] == ["started"]
    execute(engine, "DROP TRIGGER refuse")
    with pytest.raises(MigrationFailed):
        one.run()
    all_told(one)
    assert news.brief == [("started", "run", 0, 0), ("failed", "run", 3, 1)]
    assert len({each.run_id for each in news}) == 1


@pytest.mark.databases("sqlite")
def test_pins_that_cannot_be_kept_are_a_failure_that_is_recorded_and_told(engine: Engine, news: News) -> None:
    make_numbers(engine, 4)
    one = migrator(engine, Increment, notify=[news])
    one.dry_run()
    _refuse(engine, "pins")
    with pytest.raises(MigrationFailed):
        one.run()
    all_told(one)
    assert stored_status(engine, Increment.name) == "FAILED"
    assert [each.event for each in news] == ["started", "failed"]


# --- that no run feels it --------------------------------------------------------------------------------------------


def test_a_hook_that_raises_is_one_warning_in_the_run_s_log(
    engine: Engine, news: News, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(given: Notification) -> None:
        raise ValueError("a secret of the hook's")

    make_numbers(engine, 4)
    one = migrator(engine, Increment, notify=[breaks, news])
    one.run()
    all_told(one)
    assert stored_status(engine, Increment.name) == "COMPLETED"
    assert [each.event for each in news] == ["started", "completed"]
    warned = [each.message for each in one.logs(Increment.name, level="warning")]
    (sentence,) = warned
    assert sentence.startswith("The hook ")
    assert sentence.endswith("breaks raised ValueError.")
    (record,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert (record.getMessage(), getattr(record, "migration", None)) == (sentence, Increment.name)
    assert "secret" not in caplog.text


@pytest.mark.databases("sqlite")
def test_a_hook_that_hangs_holds_up_neither_the_run_nor_the_end_for_long(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    opened = threading.Event()
    make_numbers(engine, 4)
    one = migrator(engine, Increment, notify=[lambda news: opened.wait(PATIENCE)])
    one.run()
    assert stored_status(engine, Increment.name) == "COMPLETED"
    assert not one.flush(0)
    (name,) = one.untold()
    one.close(wait=0.1)
    opened.set()
    assert f"{name} was not told that {Increment.name} started (run " in caplog.text
    assert f", and that {Increment.name} completed (run " in caplog.text


class AsyncHook:
    async def __call__(self, news: Notification) -> None:
        """Nobody would await it."""


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("hook", [AsyncHook(), AsyncHook().__call__])
def test_a_hook_that_nobody_would_await_is_refused_at_once(engine: Engine, hook: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"The hook AsyncHook\S* is async, .* Give a plain function"):
        migrator(engine, Increment, notify=[hook])


# --- the webhook -----------------------------------------------------------------------------------------------------


def hooked(engine: Engine, receiver: Receiver, *migrations: type[Migration]) -> Migrator:
    settings = Settings(environment="test", webhook_url=receiver.url, webhook_secret=SECRET)
    return Migrator(quick(engine), Registry(migrations), settings, executed_by="tester")


@pytest.mark.databases("sqlite")
def test_the_webhook_of_the_settings_is_told(engine: Engine, receiver: Receiver) -> None:
    make_numbers(engine, 4)
    with hooked(engine, receiver, Picky) as one:
        (report,) = one.run()
    assert [(each["event"], each["rows"], each["held"]) for each in (got.news for got in receiver.received)] == [
        ("started", 0, 0),
        ("completed", 3, 1),
    ]
    assert {got.news["runId"] for got in receiver.received} == {report.run_id}


@pytest.mark.databases("sqlite")
def test_a_webhook_that_fails_is_one_warning_and_names_no_more_than_its_host(
    engine: Engine, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(webhook, "PAUSES", (0.01,))
    receiver.answers = [500] * 9
    make_numbers(engine, 4)
    with hooked(engine, receiver, Increment) as one:
        (report,) = one.run()
        all_told(one)
        warned = [each.message for each in one.logs(Increment.name, level="warning")]
    assert report.status is Status.COMPLETED
    (sentence,) = warned
    assert sentence.startswith("The webhook at 127.0.0.1 was not told of '")
    assert sentence.endswith("': it answered 500.")
    assert "hush" not in caplog.text
    assert SECRET not in caplog.text
    assert sorted(receiver.events) == ["completed"] * 2 + ["started"] * 2


@pytest.mark.databases("sqlite")
def test_a_webhook_that_hangs_ends_with_the_process_s_patience(engine: Engine) -> None:
    make_numbers(engine, 4)
    with receiving(shut=True) as hanging:
        one = hooked(engine, hanging, Increment)
        one.run()
        assert stored_status(engine, Increment.name) == "COMPLETED"
        one.close(wait=0.1)
        assert hanging.events == ["started"]


@pytest.mark.databases("sqlite")
def test_the_end_is_tried_although_the_beginning_still_waits_to_be_tried_again(
    engine: Engine, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(webhook, "PAUSES", (3_600.0,))
    receiver.answers = [503] * 2
    make_numbers(engine, 4)
    one = hooked(engine, receiver, Increment)
    (report,) = one.run()
    assert _soon(lambda: len(receiver.received) == 2 and not receiver.answers)
    one.close(wait=0.1)
    assert receiver.events == ["started", "completed"]
    missing = [f"that {Increment.name} {event} (run {report.run_id})" for event in ("started", "completed")]
    assert f"The webhook was not told {', and '.join(missing)} before this process ended." in caplog.text


def _soon(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + PATIENCE
    while not (done := condition()) and time.monotonic() < until:
        time.sleep(0.01)
    return done
