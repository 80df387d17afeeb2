"""A start of the application on real databases: what it runs, what it leaves alone, and how far it says it is."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any, ClassVar

import pytest
from sqlalchemy import Engine

from system_migration import BatchMigration, Migration, Migrator, Registry, Row, RunOptions, Settings
from system_migration import startup as startup_module
from system_migration.background import Background
from system_migration.errors import Refused
from system_migration.startup import Startup, StartupState
from system_migration.startup_plan import Plan, Stage, decide
from system_migration.states import Status
from system_migration.store import tables
from tests.crash.harness import expire_lease
from tests.db.test_preflight import read_only
from tests.db.test_workbench import Increment, execute, make_numbers, quick, rows_of, statements, stored_status
from tests.support.databases import application_engine, fresh_database
from tests.support.host import free_port, wait_for
from tests.support.roles import plain_role
from tests.support.servers import Server

ON = {"run_on_startup": True, "auto_migrate": True}
NAME = "001-stepping"
ROWS = 3000
PATIENCE = 20.0


class Stepping(BatchMigration):
    """Stops at the row at which a test wants it to."""

    name = NAME
    table = "number"
    reads = ("y",)
    writes = ("y",)
    stop_at: ClassVar[int | None] = None
    fails: ClassVar[bool] = False
    arrived: ClassVar[threading.Event]
    go_on: ClassVar[threading.Event]

    def transform(self, row: Row) -> Mapping[str, Any]:
        if row.y == self.stop_at:
            self.arrived.set()
            assert self.go_on.wait(PATIENCE)
        return {"y": row.y + 1}

    def check(self, row: Row) -> bool:
        return not self.fails


class Blocking(Stepping):
    blocks_startup = True


class Second(Increment):
    name = "002-second"


@pytest.fixture(autouse=True)
def stepping(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Stepping]]:
    """Every test begins with the door closed and nobody before it."""
    monkeypatch.setattr(startup_module, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(startup_module, "_FOLLOW_SECONDS", 0.05)
    monkeypatch.setattr(startup_module, "_GLANCE_SECONDS", 0.1)
    monkeypatch.setattr(Stepping, "arrived", threading.Event(), raising=False)
    monkeypatch.setattr(Stepping, "go_on", threading.Event(), raising=False)
    monkeypatch.setattr(Stepping, "stop_at", None)
    monkeypatch.setattr(Stepping, "fails", False)
    yield Stepping
    Stepping.go_on.set()


class Processes:
    """Starts of an application, each with what a process has of its own; all of them ended after the test."""

    def __init__(self, engine: Engine, stack: ExitStack) -> None:
        self._engine, self._stack = engine, stack

    def migrator(self, *migrations: type[Migration], engine: Engine | None = None, **settings: Any) -> Migrator:
        options = {"environment": "test"} | settings
        on = quick(application_engine((engine or self._engine).url))
        migrator = Migrator(on, Registry(migrations or [Stepping]), Settings(**options))
        self._stack.callback(migrator.close)
        return migrator

    def begin(self, *migrations: type[Migration], late: Any = None, **settings: Any) -> Startup:
        startup = Startup(self.migrator(*migrations, **(ON | settings)))
        self._stack.callback(startup.stop)
        startup.begin(late)
        return startup


@pytest.fixture
def processes(engine: Engine) -> Iterator[Processes]:
    with ExitStack() as stack:
        yield Processes(engine, stack)
        Stepping.go_on.set()


def come_to(startup: Startup, *stages: Stage) -> StartupState:
    try:
        wait_for(lambda: startup.state().stage in stages, PATIENCE, "it")
    except TimeoutError:
        raise AssertionError(f"it never came to {stages}, but to {startup.state()}") from None
    return startup.state()


def stay_for_some_looks(startup: Startup, stage: Stage) -> None:
    """It has looked again, three times, and is where it was."""
    with statements("system_migration_meta") as heard:
        wait_for(lambda: len(heard) >= 3, PATIENCE, "three more looks")
    assert startup.state().stage is stage


# What costs nothing


def test_with_nothing_pending_a_start_is_one_select(engine: Engine, processes: Processes) -> None:
    make_numbers(engine, 2)
    processes.migrator(Increment).run()
    with statements("") as heard:
        startup = processes.begin(Increment)
        come_to(startup, Stage.DONE)
    ours = [statement for statement in heard if "system_migration_" in statement]
    assert len(ours) == 1
    assert ours[0].startswith("SELECT")
    assert "FOR " not in ours[0].partition("FROM")[2].upper().replace("FOREIGN", "")
    assert startup.state().ready


@pytest.mark.databases("sqlite")
def test_a_start_that_was_not_asked_to_look_asks_the_database_nothing(processes: Processes) -> None:
    with statements("") as heard:
        startup = processes.begin(run_on_startup=False)
        assert startup.state() == StartupState(Stage.OFF, True, startup.state().sentence)
        assert startup.wait()
    assert heard == []


# What is run


def test_a_start_runs_what_is_pending_and_the_record_says_that_it_did(engine: Engine, processes: Processes) -> None:
    make_numbers(engine, 5)
    startup = processes.begin(Stepping, Second)
    come_to(startup, Stage.DONE)
    assert rows_of(engine, "SELECT id FROM number WHERE y <> id + 2") == []
    runs = processes.migrator().history()
    assert [(run.migration, run.outcome) for run in runs] == [("002-second", "succeeded"), (NAME, "succeeded")]
    assert {run.executed_by.split("@")[0] for run in runs} == {"startup"}


@pytest.mark.databases("sqlite")
def test_a_start_that_only_looks_runs_nothing(engine: Engine, processes: Processes) -> None:
    make_numbers(engine, 2)
    startup = processes.begin(auto_migrate=False)
    state = come_to(startup, Stage.PENDING)
    assert (state.ready, state.migration) == (True, NAME)
    stay_for_some_looks(startup, Stage.PENDING)
    assert rows_of(engine, "SELECT id FROM number WHERE y <> id") == []


@pytest.mark.databases("sqlite")
def test_in_production_it_is_refused_with_the_sentence_that_allows_it(
    engine: Engine, processes: Processes, caplog: pytest.LogCaptureFixture
) -> None:
    make_numbers(engine, 2)
    startup = processes.begin(environment="production")
    assert come_to(startup, Stage.REFUSED).ready
    stay_for_some_looks(startup, Stage.REFUSED)
    (warning,) = [record for record in caplog.records if record.name == "system_migration.startup"]
    assert warning.levelname == "WARNING"
    assert "or allow it with ALLOW_PRODUCTION_AUTO_MIGRATE=true." in warning.getMessage()
    assert rows_of(engine, "SELECT id FROM number WHERE y <> id") == []
    come_to(processes.begin(environment="production", allow_production_auto_migrate=True), Stage.DONE)
    assert rows_of(engine, "SELECT id FROM number WHERE y <> id + 1") == []


def test_how_far_it_is_and_a_stop_at_a_clean_checkpoint_that_the_next_start_continues(
    engine: Engine, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_numbers(engine, ROWS)
    monkeypatch.setattr(Stepping, "stop_at", 10 * ROWS // 3)  # in a batch after the first, and not in the last
    startup = processes.begin(Blocking)
    assert Stepping.arrived.wait(PATIENCE)
    wait_for(lambda: bool(startup.state().rows_done), PATIENCE, "rows that are done")
    state = startup.state()
    assert (state.stage, state.ready, state.migration, state.rows_total) == (Stage.RUNNING, False, NAME, ROWS)
    ending = threading.Thread(target=startup.stop)
    ending.start()
    wait_for(lambda: startup._migrator.stop_asked is not None, PATIENCE, "the stop to be asked")
    Stepping.go_on.set()
    ending.join(PATIENCE)
    assert startup.state().stage is Stage.STOPPED
    assert stored_status(engine, NAME) == "RUNNING"
    come_to(processes.begin(Blocking), Stage.DONE)
    assert rows_of(engine, "SELECT id FROM number WHERE y <> id + 1") == []


def test_a_follower_takes_over_when_the_lease_of_the_runner_is_over(
    engine: Engine, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_numbers(engine, 3)
    monkeypatch.setattr(Stepping, "stop_at", 20)
    frozen = processes.begin()
    assert Stepping.arrived.wait(PATIENCE)
    monkeypatch.setattr(Stepping, "stop_at", None)
    follower = processes.begin()
    come_to(follower, Stage.FOLLOWING)
    with engine.begin() as connection:
        expire_lease(connection)
    come_to(follower, Stage.DONE)
    Stepping.go_on.set()  # the one that was frozen has lost, follows, and finds it done
    come_to(frozen, Stage.DONE)
    assert rows_of(engine, "SELECT id FROM number WHERE y <> id + 1") == []


def _row(status: Status) -> dict[str, Any]:
    numbers = {"row_version": 1, "generation": 1, "records_processed": 0, "issues": 0}
    name = {"environment": "test", "name": NAME, "version": "1.0.0", "status": status.value, "pins": "{}"}
    return name | numbers | {"verified": False, "applied": False}


# What a restart leaves to a person


def fail_once(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> Startup:
    monkeypatch.setattr(Stepping, "fails", True)
    startup = processes.begin(Stepping, Second)
    come_to(startup, Stage.ATTENTION)
    monkeypatch.setattr(Stepping, "fails", False)
    return startup


def test_a_failed_one_is_not_tried_again_by_any_start_nor_is_what_comes_after_it_started(
    engine: Engine, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_numbers(engine, 3)
    first = fail_once(processes, monkeypatch)
    again = processes.begin(Stepping, Second)
    state = come_to(again, Stage.ATTENTION)
    assert state.ready
    assert f"{NAME} is FAILED" in state.sentence
    assert "A start never tries again; `migration run 001-stepping` does" in state.sentence
    stay_for_some_looks(again, Stage.ATTENTION)
    assert [run.migration for run in processes.migrator().history()] == [NAME]
    processes.migrator(Stepping, Second).run(NAME)  # a person does
    for startup in (first, again):
        come_to(startup, Stage.DONE)  # then what comes after it is started, by one of them


@pytest.mark.databases("sqlite")
def test_what_comes_after_a_failed_one_is_started_by_the_very_process_that_failed(
    engine: Engine, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_numbers(engine, 3)
    startup = fail_once(processes, monkeypatch)
    stay_for_some_looks(startup, Stage.ATTENTION)
    processes.migrator(Stepping, Second).run(NAME)
    come_to(startup, Stage.DONE)
    assert rows_of(engine, "SELECT id FROM number WHERE y <> id + 2") == []


@pytest.mark.databases("sqlite")
def test_after_a_refusal_the_same_holds_although_it_names_no_migration(
    engine: Engine, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_numbers(engine, 3)

    def refuse(self: Stepping, context: Any) -> None:
        raise Refused("Not today.")

    monkeypatch.setattr(Stepping, "preflight", refuse)
    startup = processes.begin(Stepping, Second)
    state = come_to(startup, Stage.ATTENTION)
    assert state.sentence == f"Not today. This process starts nothing more until {NAME} is settled."
    stay_for_some_looks(startup, Stage.ATTENTION)
    monkeypatch.setattr(Stepping, "preflight", BatchMigration.preflight)
    processes.migrator(Stepping, Second).run(NAME)
    come_to(startup, Stage.DONE)


@pytest.mark.databases("sqlite")
def test_a_pause_is_no_failure_what_comes_after_it_is_run_when_somebody_has_resumed_it(
    engine: Engine, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_numbers(engine, ROWS)
    monkeypatch.setattr(Stepping, "stop_at", 10 * ROWS // 3)
    startup = processes.begin(Stepping, Second)
    assert Stepping.arrived.wait(PATIENCE)
    person = processes.migrator(Stepping, Second)
    person.pause(NAME)
    Stepping.go_on.set()
    assert "PAUSED" in come_to(startup, Stage.ATTENTION).sentence
    person.resume(NAME)
    come_to(startup, Stage.DONE)
    assert rows_of(engine, "SELECT id FROM number WHERE y <> id + 2") == []


def test_one_that_fails_while_others_follow_it_is_not_tried_again_by_those(
    engine: Engine, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever saw it run, and starts when it has failed, finds the rule where the lease is taken."""
    make_numbers(engine, 3)
    fail_once(processes, monkeypatch)
    with pytest.raises(Refused, match="a start of the application never tries again"):
        processes.migrator().run(options=RunOptions(unattended=True))
    assert stored_status(engine, NAME) == "FAILED"
    assert len(processes.migrator().history()) == 1


def test_cancelled_skipped_paused_undone_and_manual_ones_are_left_alone(
    engine: Engine, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_numbers(engine, 3)

    class Third(Second):
        name = "003-manual"
        manual = True

    for status, more in (
        (Status.FAILED, {"cancelled": True}),
        (Status.SKIPPED, {}),
        (Status.ROLLED_BACK, {}),
        (Status.PAUSED, {}),
    ):
        processes.migrator().init()
        with engine.begin() as connection:
            connection.execute(tables.migration.delete())
            connection.execute(tables.migration.insert().values(**_row(status) | more))
        startup = processes.begin(Stepping, Third)
        state = come_to(startup, Stage.ATTENTION if status is Status.PAUSED else Stage.DONE)
        assert state.ready
        startup.stop()
        assert stored_status(engine, NAME) == status.value
    assert rows_of(engine, "SELECT id FROM number WHERE y <> id") == []


# Following others, and waiting for them


def test_readiness_follows_the_run_of_another_process(
    engine: Engine, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_numbers(engine, ROWS)
    monkeypatch.setattr(Stepping, "stop_at", 10 * ROWS)
    runner = processes.begin(Blocking)
    assert Stepping.arrived.wait(PATIENCE)
    for settings in ({}, {"auto_migrate": False}):
        follower = processes.begin(Blocking, **settings)
        state = come_to(follower, Stage.FOLLOWING)
        wait_for(lambda each=follower: bool(each.state().rows_done), PATIENCE, "its rows")
        assert (state.ready, state.migration) == (False, NAME)
    waiting: Future[bool] = Background(follower._migrator).start(follower.wait)
    assert not waiting.done()
    Stepping.go_on.set()
    assert waiting.result(PATIENCE)
    come_to(follower, Stage.DONE)
    come_to(runner, Stage.DONE)
    assert len(processes.migrator(Blocking).history()) == 1


@pytest.mark.databases("sqlite")
def test_a_run_that_somebody_started_in_this_very_process_is_followed(
    engine: Engine, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_numbers(engine, 3)
    monkeypatch.setattr(Stepping, "stop_at", 10)
    migrator = processes.migrator(Stepping, Second, **ON)
    background = Background(migrator)
    asked = background.start(lambda: migrator.acting_as("account 7").run(NAME))
    assert Stepping.arrived.wait(PATIENCE)
    startup = Startup(migrator, background)
    startup.begin()
    come_to(startup, Stage.FOLLOWING)
    Stepping.go_on.set()
    asked.result(PATIENCE)
    come_to(startup, Stage.DONE)
    assert {run.executed_by.split("@")[0] for run in migrator.history()} == {"account 7", "startup"}


@pytest.mark.databases("sqlite")
def test_one_whose_worker_is_stopped_as_it_looks_just_stops(
    engine: Engine, processes: Processes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make_numbers(engine, 3)
    migrator = processes.migrator(Stepping, **ON)
    background = Background(migrator)

    def decide_late(*asked: Any) -> Plan:
        background.stop()
        return decide(*asked)

    monkeypatch.setattr(startup_module, "decide", decide_late)
    startup = Startup(migrator, background)
    startup.begin()
    come_to(startup, Stage.STOPPED)
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING] == []
    assert migrator.history() == []


@pytest.mark.databases("sqlite")
def test_the_deadline_of_one_that_blocks_the_start(engine: Engine, processes: Processes) -> None:
    make_numbers(engine, 3)
    late = threading.Event()
    startup = processes.begin(Blocking, late=late.set, auto_migrate=False, startup_seconds=0.3)
    assert startup.wait() is False
    assert late.wait(PATIENCE)
    assert startup.state().stage is Stage.PENDING
    assert not startup.state().ready


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("asked_for", [False, True], ids=["by the start", "over HTTP"])
def test_the_deadline_does_not_end_the_process_that_is_at_work_itself(
    engine: Engine, processes: Processes, monkeypatch: pytest.MonkeyPatch, asked_for: bool
) -> None:
    """Whoever asked for the work. Without checkpoints it would begin anew in the next process, and never end."""
    make_numbers(engine, 3)
    monkeypatch.setattr(Stepping, "stop_at", 10)
    migrator, late = processes.migrator(Blocking, **ON, startup_seconds=0.2), threading.Event()
    background = Background(migrator)
    startup = Startup(migrator, background)
    if asked_for:
        background.start(lambda: migrator.acting_as("account 7").run(NAME))
        assert Stepping.arrived.wait(PATIENCE)
    startup.begin(late.set)
    waiting: Future[bool] = Background(migrator).start(lambda: startup.wait(to_the_end=True))
    assert Stepping.arrived.wait(PATIENCE)
    began = time.monotonic()
    wait_for(lambda: waiting.done() or late.is_set() or time.monotonic() > began + 0.5, PATIENCE, "some looks more")
    assert not waiting.done()
    Stepping.go_on.set()
    assert waiting.result(PATIENCE) is True
    assert not late.is_set()


@pytest.mark.databases("sqlite")
def test_a_failed_one_that_blocks_the_start_ends_no_server(
    engine: Engine, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_numbers(engine, 3)
    monkeypatch.setattr(Stepping, "fails", True)
    come_to(processes.begin(Blocking), Stage.ATTENTION)
    late = threading.Event()
    startup = processes.begin(Blocking, late=late.set, startup_seconds=0.2)
    assert startup.wait() is False
    come_to(startup, Stage.ATTENTION)
    stay_for_some_looks(startup, Stage.ATTENTION)
    assert not late.is_set()
    monkeypatch.setattr(Stepping, "fails", False)
    processes.migrator(Blocking).run(NAME)
    come_to(startup, Stage.DONE)  # and it serves as soon as a person has mended it
    assert startup.state().ready


# What goes wrong without ending the application


def test_a_database_that_takes_no_writes_is_left_alone(engine: Engine, processes: Processes) -> None:
    make_numbers(engine, 3)
    processes.migrator().init()
    state = come_to(processes.begin(engine=read_only(engine)), Stage.ATTENTION)
    assert state.ready
    assert state.sentence.startswith("The database is read-only.")
    assert rows_of(engine, "SELECT id FROM number WHERE y <> id") == []


@pytest.mark.databases("postgresql", "mariadb")
def test_a_role_without_rights_on_our_tables_serves_and_says_so(engine: Engine, processes: Processes) -> None:
    make_numbers(engine, 3)
    processes.migrator().init()
    with plain_role(engine) as (name, role):
        if engine.dialect.name == "mysql":
            execute(engine, f"GRANT SELECT ON number TO {name}")
        startup = processes.begin(engine=role)
        state = come_to(startup, Stage.ATTENTION)
        assert state.ready
        assert "A right is missing" in state.sentence
        startup.stop()


@pytest.mark.databases("sqlite")
def test_newer_tracking_tables_are_only_looked_at(engine: Engine, processes: Processes) -> None:
    make_numbers(engine, 3)
    processes.migrator().init()
    execute(engine, "UPDATE system_migration_meta SET schema_version = 999")
    state = come_to(processes.begin(), Stage.ATTENTION)
    assert state.ready
    assert "this program knows" in state.sentence
    assert rows_of(engine, "SELECT id FROM number WHERE y <> id") == []


@pytest.mark.databases("sqlite")
def test_nothing_is_started_where_a_newer_program_migrated(engine: Engine, processes: Processes) -> None:
    make_numbers(engine, 3)

    class Newer(Increment):
        name = "009-newer"

    processes.migrator(Newer).run()
    assert "a newer program migrated this database (009-newer)" in come_to(processes.begin(), Stage.REFUSED).sentence


def test_a_server_database_without_a_named_environment_is_a_wrong_setting(postgres_url: str) -> None:
    with ExitStack() as stack:
        startup = Processes(application_engine(postgres_url), stack).begin(environment=None)
        state = come_to(startup, Stage.MISCONFIGURED)
        assert state.ready
        assert "Set MIGRATION_ENVIRONMENT" in state.sentence


def test_a_database_that_is_away_is_asked_again_until_it_answers(
    mortal_postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fresh_database(mortal_postgres.url) as url, ExitStack() as stack:
        engine = application_engine(url)
        make_numbers(engine, 3)
        mortal_postgres.kill()
        monkeypatch.setattr(Stepping, "stop_at", 20)
        startup = Processes(engine, stack).begin()
        come_to(startup, Stage.DATABASE_AWAY)
        mortal_postgres.start()
        assert Stepping.arrived.wait(PATIENCE)
        mortal_postgres.kill()  # the run waits for it, so what waits for the end of the run does too
        come_to(startup, Stage.DATABASE_AWAY)
        waiting = Background(startup._migrator).start(lambda: startup.wait(to_the_end=True))
        mortal_postgres.start()
        come_to(startup, Stage.RUNNING)
        assert not waiting.done()
        Stepping.go_on.set()
        assert waiting.result(PATIENCE)
        assert startup.state().stage is Stage.DONE
        assert rows_of(engine, "SELECT id FROM number WHERE y <> id + 1") == []


def test_a_process_that_lives_no_longer_waits_for_its_database_for_a_while(
    mortal_postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would run what is pending afterwards: on a host that boots, the database may come up a little later."""
    with fresh_database(mortal_postgres.url) as url, ExitStack() as stack:
        engine = application_engine(url)
        make_numbers(engine, 3)
        mortal_postgres.kill()
        processes = Processes(engine, stack)
        startup = processes.begin()
        come_to(startup, Stage.DATABASE_AWAY)
        waiting = Background(startup._migrator).start(lambda: startup.wait(to_the_end=True))
        monkeypatch.setattr(startup_module, "_AWAY_SECONDS", 0.0)
        assert processes.begin(auto_migrate=False).wait(to_the_end=True)  # not for ever
        assert not waiting.done()
        mortal_postgres.start()
        assert waiting.result(PATIENCE)
        assert startup.state().stage is Stage.DONE


def test_where_nothing_blocks_the_start_an_application_is_ready_without_its_database() -> None:
    url = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
    with ExitStack() as stack:
        startup = Processes(application_engine(url), stack).begin()
        assert startup.wait()
        assert come_to(startup, Stage.DATABASE_AWAY).ready
