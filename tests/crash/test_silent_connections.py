"""Connections on which nothing arrives any more, and no end either: soon given up, then asked about like lost ones."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from sqlalchemy import Engine, make_url

from system_migration import connect
from system_migration.store.database import Database
from system_migration.store.dialects import silence
from tests.crash.harness import Job, engine_for
from tests.crash.subjects import InPlace, Items
from tests.support.proxy import AFTER, BEFORE, HANGING, PULLED, CuttingProxy

TOO_LONG = 30.0
"""By itself TCP would give up after a quarter of an hour."""


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


# Whose settings they are


def test_who_connects_to_postgresql_waits_for_ten_seconds_or_as_the_url_says() -> None:
    assert connect("postgresql://host/name").url.query == {"connect_timeout": "10"}
    assert connect("postgresql://host/name?connect_timeout=3&sslmode=disable").url.query == {
        "connect_timeout": "3",
        "sslmode": "disable",
    }
    assert connect("mysql://host/name").url.query == {}


def tcp_options(engine: Engine) -> dict[str, int]:
    """The options of the first connection that the engine makes."""
    names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
    with engine.connect() as connection:
        driver = connection.connection.dbapi_connection
        descriptor = driver.fileno() if hasattr(driver, "fileno") else driver._sock.fileno()  # type: ignore[union-attr]
        with socket.fromfd(descriptor, socket.AF_INET, socket.SOCK_STREAM) as copy:
            return {name: copy.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names}


@pytest.mark.databases("postgresql", "mariadb")
def test_our_connections_notice_silence_and_the_applications_are_left_alone(items: Items) -> None:
    application = engine_for(items.url)
    as_before = tcp_options(application)
    database = Database(application)
    ours = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 2, "TCP_USER_TIMEOUT": 20_000}
    assert tcp_options(database.engine) == ours
    application.dispose()
    assert tcp_options(application) == as_before != ours
    database.close()
    application.dispose()


@pytest.mark.databases("postgresql")
def test_what_the_url_says_about_it_counts(items: Items) -> None:
    given = {"tcp_user_timeout": "90000", "keepalives_idle": "77"}
    database = Database(engine_for(make_url(items.url).update_query_dict(given).render_as_string(hide_password=False)))
    found = tcp_options(database.engine)
    assert (found["TCP_USER_TIMEOUT"], found["TCP_KEEPIDLE"], found["TCP_KEEPINTVL"]) == (90_000, 77, 5)
    database.close()
