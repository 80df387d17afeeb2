"""How a runner looks for what it is asked: seldom, from any thread, and never so that a look ends a run."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from system_migration.errors import Cancelled, Paused
from system_migration.running.requests import EVERY_SECONDS, Requests
from system_migration.states import RunKind, Status
from system_migration.store import control, migrations, tracking
from system_migration.store.control import Request
from system_migration.store.database import Database
from system_migration.store.runs import Attempt
from tests.db.test_lease import FakeClock
from tests.db.test_workbench import execute, quick, statements

pytestmark = pytest.mark.databases("sqlite")
ATTEMPT = Attempt("run", "test", "001-x", 1, RunKind.RUN, 1)
LOOK = "SELECT system_migration_migration.request"


@pytest.fixture
def database(engine: Engine) -> Iterator[Database]:
    """A database with one migration that runs."""
    made = Database(quick(engine))
    tracking.ensure(made, "test")
    with made.write() as connection:
        row = migrations.read_or_add(connection, "test", "001-x", "1.0.0")
        migrations.transition(connection, row, Status.RUNNING)
    yield made
    made.close()


def ask(database: Database, request: Request) -> bool:
    with database.write() as connection:
        row = migrations.read(connection, "test", "001-x")
        assert row is not None
        return control.ask(connection, row, request, "ada")


def test_it_looks_at_most_once_in_a_while(database: Database) -> None:
    clock = FakeClock()
    requests = Requests(database, ATTEMPT, clock)
    with statements(LOOK) as heard:
        for _ in range(100):
            requests.check()
        assert len(heard) == 1
        clock.seconds += EVERY_SECONDS
        for _ in range(100):
            requests.check()
        assert len(heard) == 2
        requests.check_now()
        assert len(heard) == 3


def test_many_threads_look_together_once_and_all_obey(database: Database) -> None:
    clock = FakeClock()
    requests = Requests(database, ATTEMPT, clock)
    assert ask(database, Request.PAUSE)
    line, obeyed = threading.Barrier(8), []

    def work() -> None:
        line.wait(30)
        until = time.monotonic() + 30
        while time.monotonic() < until:
            try:
                requests.check()
            except Paused as pause:
                obeyed.append(pause.reason)
                return

    with statements(LOOK) as heard:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert len(heard) == 1
    assert obeyed == ["ada asked for it."] * 8


def test_what_was_seen_once_is_obeyed_to_the_end(database: Database) -> None:
    """Else one writer would go on where another has stopped."""
    requests = Requests(database, ATTEMPT, FakeClock())
    ask(database, Request.CANCEL)
    with pytest.raises(Cancelled, match="cancelled by ada"):
        requests.check()
    with database.write() as connection:
        row = migrations.read(connection, "test", "001-x")
        assert row is not None
        assert control.withdraw(connection, row)
    for look in (requests.check, requests.check_now):
        with pytest.raises(Cancelled):
            look()


def test_a_look_that_fails_is_taken_again_later_and_ends_nothing(database: Database, engine: Engine) -> None:
    clock = FakeClock()
    requests = Requests(database, ATTEMPT, clock)
    ask(database, Request.PAUSE)
    execute(engine, "ALTER TABLE system_migration_migration RENAME TO gone")
    requests.check()
    execute(engine, "ALTER TABLE gone RENAME TO system_migration_migration")
    requests.check()  # not due
    clock.seconds += EVERY_SECONDS
    with pytest.raises(Paused):
        requests.check()


def test_only_a_running_one_takes_a_request(database: Database) -> None:
    with database.read() as connection:
        seen = migrations.read(connection, "test", "001-x")
    assert seen is not None
    with database.write() as connection:
        migrations.transition(connection, seen, Status.COMPLETED)
        assert control.ask(connection, seen, Request.PAUSE, "ada") is False  # it has just ended
        assert control.asked(connection, "test", "001-x") is None
