"""Connections on which nothing arrives any more, and no end either: soon given up, then asked about like lost ones."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from sqlalchemy import Connection, Engine, event, make_url, text

from system_migration import (
    Migration,
    MigrationContext,
    MigrationResult,
    MigrationRollbackResult,
    Migrator,
    Registry,
    Settings,
    connect,
)
from system_migration.store.database import Database
from system_migration.store.dialects import silence
from tests.crash.harness import Job, engine_for
from tests.crash.subjects import InPlace, Items
from tests.support.proxy import AFTER, BEFORE, HANGING, PULLED, CuttingProxy, drop_what_arrives

TOO_LONG = 30.0
"""By itself TCP would give up after a quarter of an hour."""


def tcp_options(connection: Connection) -> dict[str, int]:
    """The options of a connection's socket."""
    names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
    driver: Any = connection.connection.dbapi_connection
    descriptor = driver.fileno() if hasattr(driver, "fileno") else driver._sock.fileno()
    with socket.fromfd(descriptor, socket.AF_INET, socket.SOCK_STREAM) as copy:
        return {name: copy.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second of silence is enough."""
    for name in ("IDLE_SECONDS", "INTERVAL_SECONDS", "SILENT_SECONDS"):
        monkeypatch.setattr(silence, name, 1)


def first_transform(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Something in it as soon as a row was transformed: what is committed next is a batch."""
    transformed: list[int] = []
    monkeypatch.setattr(InPlace, "before_transform", lambda *_: transformed.append(1))
    return transformed


def expect_completed_soon(items: Items, proxy: CuttingProxy, url: str) -> None:
    """A run through the proxy ends well, and without the help that comes when it takes too long."""
    rescue = threading.Timer(TOO_LONG, proxy.end_connections)
    rescue.start()
    began = time.monotonic()
    (report,) = Job(url, InPlace, lease_seconds=2.0).run()
    took = time.monotonic() - began
    rescue.cancel()
    assert (items.values(), items.status(), report.verified) == (items.migrated, "COMPLETED", True)
    assert (proxy.cuts, items.runs()) == (1, 1)
    assert took < TOO_LONG


@pytest.mark.databases("postgresql", "mariadb")
@pytest.mark.parametrize("decision", [BEFORE, AFTER])
def test_a_connection_that_falls_silent_at_a_commit_does_not_hold_the_run(
    items: Items, impatient: None, monkeypatch: pytest.MonkeyPatch, decision: str
) -> None:
    """What it had locked the server sets free when its transaction has idled for as long as a lease lasts."""
    transformed = first_transform(monkeypatch)
    Job(items.url, InPlace).init()
    with CuttingProxy(items.url, lambda: decision if transformed and not proxy.cuts else None, PULLED) as proxy:
        expect_completed_soon(items, proxy, proxy.url)


@pytest.mark.databases("mariadb")
def test_a_read_timeout_in_the_url_gives_up_a_proxy_that_hangs(items: Items, monkeypatch: pytest.MonkeyPatch) -> None:
    """It acknowledges everything, so that the system's probes find nothing wrong."""
    transformed = first_transform(monkeypatch)
    Job(items.url, InPlace).init()
    with CuttingProxy(items.url, lambda: AFTER if transformed and not proxy.cuts else None, HANGING) as proxy:
        expect_completed_soon(items, proxy, f"{proxy.url}?read_timeout=2")


@pytest.mark.databases("postgresql", "mariadb")
def test_a_statement_that_merely_takes_long_is_not_cut_off(items: Items, impatient: None) -> None:
    database = Database(engine_for(items.url))
    with database.read() as connection:
        connection.exec_driver_sql("SELECT pg_sleep(3)" if items.kind == "postgresql" else "SELECT SLEEP(3)")
    database.close()


class SlowToRead(Migration):
    """Sends 20 MB while the server still works at what came first: the driver does not wait for each answer."""

    name = "001-slow-to-read"

    def up(self, context: MigrationContext) -> MigrationResult:
        insert = text("INSERT INTO long_text SELECT :body FROM (SELECT pg_sleep(:seconds)) AS slept")
        rows = [{"body": "", "seconds": 3}, *({"body": "x" * 100_000, "seconds": 0} for _ in range(200))]
        context.connection.execute(text("CREATE TEMPORARY TABLE long_text (body text) ON COMMIT DROP"))
        context.connection.execute(insert, rows)
        return MigrationResult()


@pytest.mark.databases("postgresql")
def test_what_the_server_is_slow_to_read_from_a_migration_is_not_cut_off(items: Items, impatient: None) -> None:
    """It accepts nothing for longer than a silence may last, and yet it answers every probe."""
    Job(items.url, SlowToRead).run()
    assert items.status() == "COMPLETED"


def test_where_there_is_no_limit_the_probes_tell_of_a_silence(impatient: None) -> None:
    """While `up` waits for an answer, say."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname(), TOO_LONG) as ours,
        listener.accept()[0] as theirs,
    ):
        silence.notice_silence(ours, {"tcp_user_timeout": "0"})
        drop_what_arrives(theirs)
        with pytest.raises(TimeoutError) as caught:
            ours.recv(1)
    assert caught.value.errno == errno.ETIMEDOUT  # the system's; that of Python after TOO_LONG has no number


class Noting(Migration):
    """Notes, each time it has a connection, what the limit on that is."""

    name = "001-noting"
    rollbackable = True
    limits: ClassVar[set[tuple[str, int]]]

    def note(self, method: str, context: MigrationContext) -> None:
        self.limits.add((method, tcp_options(context.connection)["TCP_USER_TIMEOUT"]))

    def up(self, context: MigrationContext) -> MigrationResult:
        self.note("up", context)
        return MigrationResult()

    def applied(self, context: MigrationContext) -> bool:
        self.note("applied", context)
        return True

    def verify(self, context: MigrationContext) -> bool:
        self.note("verify", context)
        return True

    def down(self, context: MigrationContext) -> MigrationRollbackResult:
        self.note("down", context)
        return MigrationRollbackResult()


class NotingUnprotected(Noting):
    transactional = False


@pytest.fixture
def limits_at_commit() -> Iterator[set[int]]:
    """The limits of all connections on which something was committed."""
    found: set[int] = set()

    def note(connection: Connection) -> None:
        found.add(tcp_options(connection)["TCP_USER_TIMEOUT"])

    event.listen(Engine, "commit", note)
    yield found
    event.remove(Engine, "commit", note)


@pytest.mark.databases("postgresql", "mariadb")
@pytest.mark.parametrize("migration", [Noting, NotingUnprotected])
def test_only_what_up_and_down_send_may_wait_without_limit(
    items: Items, monkeypatch: pytest.MonkeyPatch, limits_at_commit: set[int], migration: type[Noting]
) -> None:
    limits: set[tuple[str, int]] = set()
    monkeypatch.setattr(Noting, "limits", limits, raising=False)
    with Migrator(engine_for(items.url), Registry([migration]), Settings(environment="crash")) as migrator:
        migrator.dry_run()
        migrator.run()
        migrator.rollback(migration.name)
    applied = set() if migration.transactional else {("applied", 20_000)}
    assert limits == {("up", 0), ("down", 0), ("verify", 20_000)} | applied
    assert limits_at_commit == {20_000}


@pytest.mark.databases("postgresql")
def test_a_limit_in_the_url_counts_there_too(items: Items, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: set[tuple[str, int]] = set()
    monkeypatch.setattr(Noting, "limits", limits, raising=False)
    url = make_url(items.url).update_query_dict({"tcp_user_timeout": "90000"}).render_as_string(hide_password=False)
    Job(url, Noting).run()
    assert limits == {("up", 90_000), ("verify", 90_000)}


# Whose settings they are


def test_who_connects_to_postgresql_waits_for_ten_seconds_or_as_the_url_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGCONNECT_TIMEOUT", raising=False)
    assert connect("postgresql://host/name").url.query == {"connect_timeout": "10"}
    assert connect("postgresql://host/name?connect_timeout=3&sslmode=disable").url.query == {
        "connect_timeout": "3",
        "sslmode": "disable",
    }
    assert connect("mysql://host/name").url.query == {}


def test_what_the_environment_of_postgresql_says_about_it_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "3")
    assert connect("postgresql://host/name").url.query == {}
    assert connect("postgresql://host/name?connect_timeout=5").url.query == {"connect_timeout": "5"}


def first_options(engine: Engine) -> dict[str, int]:
    """The options of the first connection that the engine makes."""
    with engine.connect() as connection:
        return tcp_options(connection)


@pytest.mark.databases("postgresql", "mariadb")
def test_our_connections_notice_silence_and_the_applications_are_left_alone(items: Items) -> None:
    application = engine_for(items.url)
    as_before = first_options(application)
    database = Database(application)
    ours = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 2, "TCP_USER_TIMEOUT": 20_000}
    assert first_options(database.engine) == ours
    application.dispose()
    assert first_options(application) == as_before != ours
    database.close()
    application.dispose()


IDLE, LIMIT = "TCP_KEEPIDLE", "TCP_USER_TIMEOUT"


@pytest.mark.databases("postgresql")
@pytest.mark.parametrize(
    ("given", "counts"),
    [
        ({"tcp_user_timeout": "90000", "keepalives_idle": "77"}, {LIMIT: 90_000, IDLE: 77, "TCP_KEEPINTVL": 5}),
        ({"keepalives": "1"}, {LIMIT: 20_000, IDLE: 10}),
        ({"keepalives": "1", "keepalives_idle": "77"}, {LIMIT: 20_000, IDLE: 77}),
        ({"keepalives": "0", "keepalives_idle": "77"}, {LIMIT: 0}),
    ],
)
def test_what_the_url_says_about_it_counts(items: Items, given: dict[str, str], counts: dict[str, int]) -> None:
    database = Database(engine_for(make_url(items.url).update_query_dict(given).render_as_string(hide_password=False)))
    assert counts.items() <= first_options(database.engine).items()
    database.close()


# Other systems


def test_what_a_system_calls_otherwise_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """On macOS the time before the first probe bears the name that elsewhere stands for the whole."""
    with socket.socket() as connected:
        monkeypatch.setattr(socket, "TCP_KEEPALIVE", socket.TCP_KEEPIDLE, raising=False)
        for name in ("TCP_KEEPIDLE", "TCP_USER_TIMEOUT"):
            monkeypatch.delattr(socket, name)
        assert silence.notice_silence(connected, {}) is False
        assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPALIVE) == silence.IDLE_SECONDS  # type: ignore[attr-defined,unused-ignore]


def test_a_socket_that_has_no_such_options_is_left_as_it_is() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as connected:
        assert silence.notice_silence(connected, {}) is False


@pytest.mark.databases("postgresql")
def test_a_connection_needs_neither_a_descriptor_of_a_file_nor_a_home(
    items: Items, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Windows a socket's number is no file's; and a user of a container need not be in its list of users."""

    def fail(*_: object) -> None:
        raise RuntimeError

    database = Database(engine_for(items.url))
    monkeypatch.setattr("os.dup", fail)
    monkeypatch.setattr("pathlib.Path.home", fail)
    assert first_options(database.engine)["TCP_USER_TIMEOUT"] == 20_000
    database.close()


@pytest.mark.databases("postgresql")
def test_a_process_out_of_descriptors_connects_nevertheless(items: Items, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes without what a descriptor is needed for."""

    def fail(*_: object) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    database = Database(engine_for(items.url))
    monkeypatch.setattr(socket, "fromfd", fail)
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1
    database.close()
