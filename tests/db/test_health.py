"""The ready-made health checks, asked of real servers under real load; and a run that they hold."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, make_url, text
from sqlalchemy.exc import DBAPIError

from system_migration import BatchMigration, ConfigurationError, RunOptions, Status
from system_migration.health import active_sessions, replication_lag
from system_migration.migration import MigrationContext, SilentProgress
from tests.db.test_workbench import Increment, execute, make_numbers, migrator, quick, rows_of
from tests.support.databases import application_engine
from tests.support.host import wait_for
from tests.support.roles import plain_role
from tests.support.servers import PostgresServer, Server


@contextmanager
def looking(engine: Engine) -> Iterator[Connection]:
    """A connection with no transaction open, as `healthy` is handed."""
    with quick(engine).connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        yield connection


class Busy:
    """Sessions of somebody else that work until `end`."""

    def __init__(self, engine: Engine, count: int) -> None:
        self._engine = engine
        self._threads = [threading.Thread(target=self._work) for _ in range(count)]
        self._sessions: list[int] = []
        for thread in self._threads:
            thread.start()
        wait_for(lambda: len(self._working()) == count, 20, "the sessions to be at work")

    def _work(self) -> None:
        postgres = self._engine.dialect.name == "postgresql"
        with quick(self._engine).connect() as connection:
            own = connection.execute(text("SELECT pg_backend_pid()" if postgres else "SELECT CONNECTION_ID()"))
            self._sessions.append(own.scalar_one())
            try:
                connection.execute(text("SELECT pg_sleep(60)" if postgres else "SELECT SLEEP(60)"))
            except DBAPIError:
                connection.invalidate()  # ended, as it was meant to be

    def _working(self) -> list[tuple[Any, ...]]:
        if self._engine.dialect.name == "postgresql":
            return rows_of(self._engine, "SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'")
        return rows_of(self._engine, "SELECT 1 FROM information_schema.processlist WHERE info = 'SELECT SLEEP(60)'")

    def end(self) -> None:
        kill = "SELECT pg_terminate_backend(:id)" if self._engine.dialect.name == "postgresql" else "KILL :id"
        while self._sessions:
            execute(self._engine, kill, id=self._sessions.pop())
        for thread in self._threads:
            thread.join(20)


@contextmanager
def busy(engine: Engine, count: int) -> Iterator[Busy]:
    working = Busy(engine, count)
    try:
        yield working
    finally:
        working.end()


@pytest.mark.databases("postgresql", "mariadb")
def test_more_active_sessions_than_the_limit_are_a_reason_to_wait(engine: Engine) -> None:
    with looking(engine) as connection:
        assert active_sessions(connection, limit=2) is None
        with busy(engine, 3):
            assert active_sessions(connection, limit=2) == "3 sessions are active, the limit is 2"
            assert active_sessions(connection, limit=3) is None
        wait_for(lambda: active_sessions(connection, limit=2) is None, 20, "the sessions to be gone")


@pytest.mark.databases("sqlite")
def test_sqlite_is_always_well(engine: Engine) -> None:
    with looking(engine) as connection:
        assert active_sessions(connection, limit=0) is None
        assert replication_lag(connection, seconds=0) is None


@pytest.mark.databases("postgresql", "mariadb")
def test_a_server_without_replicas_does_not_lag(engine: Engine) -> None:
    with looking(engine) as connection:
        assert replication_lag(connection, seconds=0) is None


@pytest.mark.databases("postgresql")
def test_a_role_that_cannot_see_others_is_told_so(engine: Engine) -> None:
    with plain_role(engine) as (role, plain):
        for ask in (lambda c: active_sessions(c, limit=9), lambda c: replication_lag(c, seconds=9)):
            with looking(plain) as connection, pytest.raises(ConfigurationError, match="GRANT pg_read_all_stats"):
                ask(connection)
        execute(engine, f"GRANT pg_read_all_stats TO {role}")
        with looking(plain) as connection:
            assert active_sessions(connection, limit=9) is None


class Standby(PostgresServer):
    """A replica of another server of ours that applies what it receives two seconds late."""

    def __init__(self, primary: Server) -> None:
        self.primary = make_url(primary.url)
        super().__init__()

    def _initialise(self) -> None:
        where = ("-h", str(self.primary.host), "-p", str(self.primary.port), "-U", str(self.primary.username))
        self._run(str(self.binaries / "pg_basebackup"), *where, "-D", str(self.directory / "data"), "-R", "-c", "fast")

    def _command(self) -> list[str]:
        return [*super()._command(), "-c", "recovery_min_apply_delay=2s"]


def test_a_replica_that_is_late_is_a_reason_to_wait(mortal_postgres: Server) -> None:
    primary = application_engine(mortal_postgres.url)
    execute(primary, "CREATE TABLE IF NOT EXISTS written (at TIMESTAMP)")

    def lags() -> bool:
        execute(primary, "INSERT INTO written VALUES (now())")
        return replication_lag(connection, seconds=1) is not None

    with Standby(mortal_postgres), looking(primary) as connection:
        wait_for(lags, 30, "the primary to notice that its replica is late")
        told = replication_lag(connection, seconds=0.5)
        assert told is not None
        assert told.endswith(" s behind, the limit is 0.5 s")
        assert replication_lag(connection, seconds=3600) is None
    with looking(primary) as connection:
        wait_for(lambda: replication_lag(connection, seconds=0) is None, 20, "the replica to be forgotten")
    primary.dispose()


def test_a_mariadb_replica_that_stands_still_is_a_reason_to_wait(mortal_mariadb: Server) -> None:
    replica = application_engine(mortal_mariadb.url)
    execute(replica, "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_USER = 'nobody'")
    try:
        with looking(replica) as connection:
            assert replication_lag(connection, seconds=3600) == "replication stands still"
    finally:
        execute(replica, "RESET SLAVE ALL")
        replica.dispose()


class Told(SilentProgress):
    """Remembers why the run waited; tells when it did so for the second time."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.twice = threading.Event()

    def waiting(self, reason: str) -> None:
        self.reasons.append(reason)
        if len(self.reasons) >= 2:
            self.twice.set()


class Considerate(Increment):
    def healthy(self, context: MigrationContext) -> str | None:
        return active_sessions(context.connection, limit=4)


def run_beside(engine: Engine, migration: type[BatchMigration], told: Told) -> tuple[threading.Thread, list[Any]]:
    reports: list[Any] = []
    able = migrator(engine, migration, progress=told)
    thread = threading.Thread(target=lambda: reports.extend(able.run(options=RunOptions(workers=1))))
    thread.start()
    return thread, reports


@pytest.mark.databases("postgresql", "mariadb")
def test_a_run_is_held_while_the_server_is_busy_and_goes_on_afterwards(engine: Engine) -> None:
    make_numbers(engine, 30)
    migrator(engine, Considerate).init()
    told = Told()
    with busy(engine, 8):
        thread, reports = run_beside(engine, Considerate, told)
        assert told.twice.wait(30), "the run was not held"
        assert rows_of(engine, "SELECT count(*) FROM system_migration_ledger") == [(0,)]
        assert rows_of(engine, "SELECT count(*) FROM number WHERE y <> id") == [(0,)]
    thread.join(60)
    assert [report.status for report in reports] == [Status.COMPLETED]
    assert rows_of(engine, "SELECT count(*) FROM number WHERE y = id + 1") == [(30,)]
    assert "sessions are active, the limit is 4" in told.reasons[0]


def test_a_check_that_fails_lets_the_run_go_on_and_says_so(engine: Engine) -> None:
    class Broken(Increment):
        def healthy(self, context: MigrationContext) -> str | None:
            raise ValueError("the gauge is broken")

    make_numbers(engine, 3)
    able = migrator(engine, Broken)
    (report,) = able.run()
    assert report.status is Status.COMPLETED
    (line,) = [line for line in able.logs("001-increment") if line.level.upper() == "WARNING"]
    assert line.message.startswith("healthy() ended with an error, so it holds nothing: ValueError at test_health.py")
