"""The fixtures themselves: what the other tests believe about their databases."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pymysql
import pytest
from sqlalchemy import Engine, inspect, make_url, text
from sqlalchemy.exc import DBAPIError

from tests.support import host
from tests.support.databases import MakeDatabaseUrl, application_engine, fresh_database
from tests.support.host import alive
from tests.support.servers import Pgbouncer, Server

ROOT = Path(__file__).parents[2]
VERSION = {"sqlite": "SELECT sqlite_version()", "postgresql": "SELECT version()", "mysql": "SELECT version()"}


def version_of(engine: Engine) -> str:
    with engine.connect() as connection:
        return str(connection.scalar(text(VERSION[engine.dialect.name])))


def test_the_three_urls_reach_three_products(sqlite_url: str, postgres_url: str, mariadb_url: str) -> None:
    assert sqlite_url.startswith("sqlite:////")
    assert version_of(application_engine(sqlite_url)).startswith("3.")
    assert postgres_url.startswith("postgresql://")
    assert version_of(application_engine(postgres_url)).startswith("PostgreSQL")
    assert mariadb_url.startswith("mysql://")
    assert "MariaDB" in version_of(application_engine(mariadb_url))


@pytest.mark.parametrize("turn", ["first", "second"])
def test_each_test_gets_an_empty_database(engine: Engine, turn: str) -> None:
    assert inspect(engine).get_table_names() == []
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE leftover (turn VARCHAR(20))"))
        connection.execute(text("INSERT INTO leftover VALUES (:turn)"), {"turn": f"{turn} 🐘"})
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT turn FROM leftover")) == f"{turn} 🐘"


@pytest.mark.databases("sqlite", "postgresql")
def test_a_test_chooses_its_databases(database_url: str, request: pytest.FixtureRequest) -> None:
    kind = make_url(database_url).get_backend_name()
    assert request.node.callspec.id == kind
    assert kind in {"sqlite", "postgresql"}


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
def test_a_test_may_have_two_databases(make_database_url: MakeDatabaseUrl, kind: str) -> None:
    first, second = application_engine(make_database_url(kind)), application_engine(make_database_url(kind))
    with first.begin() as connection:
        connection.execute(text("CREATE TABLE only_in_the_first (id INT)"))
    assert inspect(second).get_table_names() == []


def test_a_database_is_dropped_although_a_session_is_in_it(postgres_server_url: str, mariadb_server_url: str) -> None:
    for server_url in (postgres_server_url, mariadb_server_url):
        with fresh_database(server_url) as url:
            abandoned = application_engine(url).connect()
            abandoned.execute(text("CREATE TABLE t (id INT)"))
            abandoned.execute(text("INSERT INTO t VALUES (1)"))
        with pytest.raises(DBAPIError):
            application_engine(url).connect()
        abandoned.invalidate()
        abandoned.close()


@pytest.fixture(scope="module")
def _developers_shell() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", "postgresql://production/erp")
        patch.setenv("AUTO_MIGRATE", "true")
        yield


@pytest.mark.usefixtures("_developers_shell")
def test_the_environment_is_clean() -> None:
    assert not {"DATABASE_URL", "AUTO_MIGRATE"} & set(os.environ)


def test_the_vectors_are_loaded(vectors: dict[str, object]) -> None:
    assert vectors["kind"] == "legacy-passwords"


def test_pgbouncer_pools_transactions(pgbouncer_server: Pgbouncer, pgbouncer_url: str, postgres_url: str) -> None:
    """Six clients, three server connections: a client's next transaction is served by whichever is free."""
    told = pgbouncer_server.configuration()
    assert (told["pool_mode"], told["default_pool_size"]) == ("transaction", "3")

    clients = [psycopg.connect(pgbouncer_url, prepare_threshold=None) for _ in range(6)]
    try:
        backends = set()
        for client in clients:  # all six are connected; each ends its transaction before the next begins
            backends.add(backend_of(client))
            client.commit()
        assert len(backends) <= 3
        direct = psycopg.connect(postgres_url)
        assert backend_of(direct) not in backends
        direct.close()

        moved, blocker = clients[0], clients[1]
        before = backend_of(moved)
        moved.commit()
        assert backend_of(blocker) == before  # the last one used is reused first, and stays taken
        assert backend_of(moved) != before  # the same client, the same session to its eyes
    finally:
        for client in clients:
            client.close()


def test_pgbouncer_forgets_session_state(pgbouncer_url: str) -> None:
    with (
        psycopg.connect(pgbouncer_url, prepare_threshold=None) as client,
        psycopg.connect(pgbouncer_url, prepare_threshold=None) as blocker,
    ):
        client.execute("SET work_mem = '7MB'")
        client.commit()
        # The blocker's transaction now holds the server connection on which the client said SET.
        assert blocker.execute("SHOW work_mem").fetchone() == ("7MB",)
        assert client.execute("SHOW work_mem").fetchone() != ("7MB",)


def backend_of(client: psycopg.Connection) -> int:
    row = client.execute("SELECT pg_backend_pid()").fetchone()
    assert row is not None
    return int(row[0])


def test_files_lie_in_memory_where_there_is_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    disk, memory = tmp_path / "disk", tmp_path / "memory"
    disk.mkdir()
    memory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    monkeypatch.setattr(host, "MEMORY", memory)
    monkeypatch.setattr(host, "ROOM", 1)
    assert root_of_a_scratch_directory() == host.temporary_root() == memory
    assert root_of_a_scratch_directory(on_disk=True) == disk  # for who measures
    monkeypatch.setattr(host, "ROOM", 1 << 62)
    assert root_of_a_scratch_directory() == host.temporary_root() == disk
    monkeypatch.setattr(host, "MEMORY", tmp_path / "nothing")
    assert root_of_a_scratch_directory() == host.temporary_root() == disk


def root_of_a_scratch_directory(*, on_disk: bool = False) -> Path:
    directory, lock = host.scratch_directory(None, on_disk=on_disk)
    os.close(lock)
    return directory.parent


def test_the_tests_own_files_lie_there_too(tmp_path: Path) -> None:
    assert tmp_path.is_relative_to(os.environ["PYTEST_DEBUG_TEMPROOT"])


@pytest.fixture(params=["mortal_postgres", "mortal_mariadb"])
def mortal_server(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(request.param)
    return server


def test_a_killed_server_keeps_what_was_committed(mortal_server: Server) -> None:
    """Everything that was answered "committed", and nothing that was not."""
    with fresh_database(mortal_server.url) as url:
        engine = application_engine(url)
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE t (id INT PRIMARY KEY)"))
        with engine.connect() as connection:
            for number in range(50):
                connection.execute(text("INSERT INTO t VALUES (:number)"), {"number": number})
                connection.commit()
            connection.execute(text("INSERT INTO t VALUES (1000)"))
            pid = mortal_server.pid
            mortal_server.kill()
            assert not alive(pid)
            with pytest.raises(DBAPIError):
                connection.execute(text("SELECT 1"))
            connection.invalidate()
        with pytest.raises(DBAPIError):
            engine.connect()

        mortal_server.start()

        with engine.connect() as connection:
            assert connection.scalars(text("SELECT id FROM t ORDER BY id")).all() == list(range(50))


def test_a_running_statement_dies_with_its_server(mortal_postgres: Server) -> None:
    """A backend outlives its postmaster until it looks up; `kill` leaves none that may still commit."""
    client = psycopg.connect(mortal_postgres.url)
    backend = backend_of(client)
    client.pgconn.send_query(b"SELECT sum(sqrt(n)) FROM generate_series(1, 1000000000) n")
    mortal_postgres.kill()
    assert not alive(backend)
    client.close()
    mortal_postgres.start()


OWNER = """
import sys, time
from tests.support import servers
with getattr(servers, sys.argv[1])() as server:
    print(server.pid, server.directory, server.url, flush=True)
    time.sleep(120)
"""


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_does_not_outlive_its_tests(mortal_server: Server, blow: signal.Signals) -> None:
    """Neither does it when pytest is killed in a way that runs no clean-up."""
    command = [sys.executable, "-c", OWNER, type(mortal_server).__name__]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as owner:
        assert owner.stdout is not None
        pid, directory, url = owner.stdout.readline().split()
        assert alive(int(pid))
        owner.send_signal(blow)
    try:
        end = time.monotonic() + 10
        while alive(int(pid)) and time.monotonic() < end:
            time.sleep(0.01)
        assert not alive(int(pid))
        with pytest.raises((psycopg.OperationalError, pymysql.OperationalError, DBAPIError)):
            application_engine(url).connect()
    finally:
        shutil.rmtree(directory)
