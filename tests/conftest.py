"""Fixtures for every test: a cleaned environment, and fresh databases on real servers.

A server is started when the first test asks for it. Set TEST_POSTGRES_URL or TEST_MARIADB_URL (an address
with the right to create databases) to use one of yours. A database that is not installed is skipped, and the
summary says so; with REQUIRE_DATABASES=1 it is a failure. So is a program that a deployment file is tested with.
"""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import Engine, QueuePool, make_url

from tests.support import statements, torture
from tests.support.databases import KINDS, MakeDatabaseUrl, application_engine, fresh_database
from tests.support.host import BinaryMissing, temporary_root
from tests.support.requirements import NOT_TESTED, not_tested
from tests.support.servers import MariadbServer, Pgbouncer, PostgresServer, Server

SETTINGS = (
    "DATABASE_URL",
    "MIGRATION_ENVIRONMENT",
    "APP_ENV",
    "MIGRATIONS",
    "ALEMBIC_CONFIG",
    "RUN_MIGRATIONS_ON_STARTUP",
    "AUTO_MIGRATE",
    "ALLOW_PRODUCTION_AUTO_MIGRATE",
    "MIGRATION_STARTUP_WAIT",
    "MIGRATION_STARTUP_SECONDS",
    "ENCRYPTION_KEY",
    "ENCRYPTION_KEYS_OLD",
    "ENCRYPTION_CANARY",
    "BCRYPT_COST",
    "PASSWORD_OVER_72_BYTES",
    "PASSWORD_VERIFY_SAMPLE",
    "LEGACY_OBSERVATION_DAYS",
    "MIGRATION_LEASE_SECONDS",
    "REHEARSE_DATABASE_URL",
    "DASK_SCHEDULER",
    "DASK_FALLBACK",
    "MIGRATION_AUDIT_KEY",
    "MIGRATION_AUDIT_KEYS_OLD",
    "LOG_FORMAT",
    "MIGRATION_WEBHOOK_URL",
    "MIGRATION_WEBHOOK_SECRET",
    "AUTH_SECRET",
    "AUTH_SECRET_OLD",
    "ACCESS_TOKEN_MINUTES",
    "LISTEN_HOST",
    "PORT",
)

S = TypeVar("S", bound=Server)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="full numbers for what counts rounds, rows or kill points")


def pytest_configure(config: pytest.Config) -> None:
    gc.disable()  # until everything is loaded
    statements.share()
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(temporary_root()))  # what pytest has for the root of `tmp_path`
    if config.getoption("--long"):
        torture.be_long()


def pytest_collection_finish() -> None:
    """From here on the collector need not look again and again at what is loaded: a fifth of the tests' work."""
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)
    gc.enable()


@pytest.fixture(scope="session")
def scale() -> Callable[[int, int], int]:
    """`scale(short, long)`: the number that applies, the long one with `--long`."""
    return torture.scale


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the developer's shell reaches a test."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def vectors() -> dict[str, Any]:
    """Legacy passwords encrypted by the system we replace; treat as read-only."""
    path = Path(__file__).parent / "data" / "legacy-passwords.json"
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


# Servers, one a session


@contextmanager
def _running(make: Callable[[], S]) -> Iterator[S]:
    """The server, started. Not installed, it is a skip, or a failure where databases are required."""
    server, missing = None, ""
    try:
        server = make()
    except BinaryMissing as error:
        missing = str(error)
    if server is None:
        not_tested(missing)
    with server:
        yield server


@pytest.fixture(scope="session")
def postgres_server_url() -> Iterator[str]:
    """A PostgreSQL server on which databases can be created."""
    if given := os.environ.get("TEST_POSTGRES_URL"):
        yield given
        return
    with _running(PostgresServer) as server:
        yield server.url


@pytest.fixture(scope="session")
def mariadb_server_url() -> Iterator[str]:
    """A MariaDB server on which databases can be created."""
    if given := os.environ.get("TEST_MARIADB_URL"):
        yield given
        return
    with _running(MariadbServer) as server:
        yield server.url


@pytest.fixture(scope="session")
def pgbouncer_server(postgres_server_url: str) -> Iterator[Pgbouncer]:
    """Transaction pooling in front of the PostgreSQL server: three server connections for each database."""
    with _running(lambda: Pgbouncer(postgres_server_url, pool_size=3)) as server:
        yield server


# Servers that a test may kill: never the ones above, so a test that leaves one dead harms nobody


@pytest.fixture(scope="session")
def _mortal_servers() -> Iterator[Callable[[type[Server]], Server]]:
    with ExitStack() as stack:
        started: dict[type[Server], Server] = {}

        def get(make: type[Server]) -> Server:
            if make not in started:
                started[make] = stack.enter_context(_running(make))
            if not started[make].running:  # the test before left it dead
                started[make].start()
            return started[make]

        yield get


@pytest.fixture
def mortal_postgres(_mortal_servers: Callable[[type[Server]], Server]) -> Server:
    """A PostgreSQL to `kill()` and `start()`. Make databases with `fresh_database(server.url)`."""
    return _mortal_servers(PostgresServer)


@pytest.fixture
def mortal_mariadb(_mortal_servers: Callable[[type[Server]], Server]) -> Server:
    """A MariaDB to `kill()` and `start()`. Make databases with `fresh_database(server.url)`."""
    return _mortal_servers(MariadbServer)


# Databases, fresh for each test


@pytest.fixture
def make_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeDatabaseUrl]:
    """Call it with "sqlite", "postgresql" or "mariadb"; each call makes a new, empty database."""
    server_urls = {"postgresql": "postgres_server_url", "mariadb": "mariadb_server_url"}
    with ExitStack() as stack:
        files = 0

        def make(kind: str) -> str:
            nonlocal files
            if kind == "sqlite":
                files += 1
                path = tmp_path / f"database-{files}.sqlite"
                path.touch()
                return f"sqlite:///{path}"
            return stack.enter_context(fresh_database(request.getfixturevalue(server_urls[kind])))

        yield make


@pytest.fixture
def sqlite_url(make_database_url: MakeDatabaseUrl) -> str:
    return make_database_url("sqlite")


@pytest.fixture
def postgres_url(make_database_url: MakeDatabaseUrl) -> str:
    return make_database_url("postgresql")


@pytest.fixture
def mariadb_url(make_database_url: MakeDatabaseUrl) -> str:
    return make_database_url("mariadb")


@pytest.fixture
def pgbouncer_url(pgbouncer_server: Pgbouncer, postgres_url: str) -> str:
    """`postgres_url`, reached through pgbouncer. A test may ask for both: they are the same database."""
    database = make_url(postgres_url).database
    assert database is not None
    return pgbouncer_server.url_for(database)


@pytest.fixture
def database_url(request: pytest.FixtureRequest, make_database_url: MakeDatabaseUrl) -> str:
    """A fresh database of each kind in turn, or of those in `@pytest.mark.databases("sqlite", ...)`."""
    return make_database_url(request.param)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """The application's engine on `database_url`. It keeps its connections: to make one is dear on a server."""
    engine = application_engine(database_url, poolclass=QueuePool)
    yield engine
    engine.dispose()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "database_url" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("databases")
    kinds = marker.args if marker else KINDS
    if not kinds or set(kinds) - set(KINDS):
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: databases{kinds!r} must name some of {KINDS}")
    metafunc.parametrize("database_url", kinds, ids=kinds, indirect=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Nobody should read "passed" and believe that a database, or a deployment, was tested when it was not."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = [str(report.longrepr[2]) for report in skipped if isinstance(report.longrepr, tuple)]
    missing = [reason.partition(NOT_TESTED)[2].lstrip(": ") for reason in reasons if NOT_TESTED in reason]
    if missing:
        terminalreporter.section(NOT_TESTED, red=True, bold=True)
        for reason in sorted(set(missing)):
            terminalreporter.line(f"{reason} ({missing.count(reason)} tests skipped)", red=True)
