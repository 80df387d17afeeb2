"""Sessions killed, the database switched to read-only, the server killed: the run waits, and ends COMPLETED."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine, make_url, text
from sqlalchemy.exc import DBAPIError

from system_migration.migration import SilentProgress
from system_migration.store import tables
from tests.crash.harness import Gate, Job
from tests.crash.subjects import InPlace, Items, fill_items
from tests.support.databases import fresh_database
from tests.support.servers import Server
from tests.support.torture import scale

SECONDS = float(scale(3, 20))
EVERY = 0.05
MANY = 300


class Telling(SilentProgress):
    """Calls a function with each reason that the run gives for waiting."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def waiting(self, reason: str) -> None:
        self._tell(reason)


def fill(items: Items, rows: int) -> dict[int, int]:
    """So many items in place of the usual six; what they must become."""
    with items.engine.begin() as connection:
        fill_items(connection, {key: 10 * key for key in range(1, rows + 1)})
    Job(items.url, InPlace).init()
    return {key: 10 * key + 1 for key in range(1, rows + 1)}


def check_completed(items: Items, expected: dict[int, int]) -> None:
    """Every row changed once, by one run, which never was anything but RUNNING and COMPLETED."""
    assert items.values() == expected
    with items.engine.connect() as connection:
        outcomes = connection.execute(sa.select(tables.run.c.outcome)).scalars().all()
        changed = connection.execute(sa.select(sa.func.sum(tables.ledger.c.changed))).scalar_one()
        actions = connection.execute(sa.select(tables.event.c.action)).scalars().all()
    assert (items.status(), outcomes, int(changed)) == ("COMPLETED", ["succeeded"], len(expected))
    assert "failed" not in actions


# Sessions


class Murderer(threading.Thread):
    """Ends every session in a database but its own, again and again, for some seconds."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(daemon=True)
        self._engine, self.over, self.victims = engine, threading.Event(), 0
        self._rest = threading.Event()

    def run(self) -> None:
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for _ in range(int(SECONDS / EVERY)):
                self._kill(connection)
                self._rest.wait(EVERY)  # nobody ends this rest: it is the pace of the killing
        self.over.set()

    def _kill(self, connection: sa.Connection) -> None:
        if self._engine.dialect.name == "postgresql":
            others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            self.victims += len(connection.execute(text(f"SELECT pg_terminate_backend(pid) {others}")).all())
            return
        others = "WHERE db = DATABASE() AND id <> CONNECTION_ID()"
        for (session,) in connection.execute(text(f"SELECT id FROM information_schema.processlist {others}")).all():
            with suppress(DBAPIError):  # it has ended meanwhile
                connection.execute(text(f"KILL {int(session)}"))
                self.victims += 1


@pytest.mark.databases("postgresql", "mariadb")
def test_sessions_are_killed_all_the_time(
    items: Items, monkeypatch: pytest.MonkeyPatch, publish: Callable[[str], None]
) -> None:
    expected = fill(items, MANY)
    murderer = Murderer(items.engine)

    def before_transform(*_: object) -> None:
        """From the first row on; the rows take half of the killing's time, so that the end is under fire, too."""
        if not murderer.is_alive() and not murderer.over.is_set():
            murderer.start()
        murderer.over.wait(SECONDS / 2 / MANY)

    monkeypatch.setattr(InPlace, "before_transform", before_transform)
    Job(items.url, InPlace).run()
    murderer.join()
    check_completed(items, expected)
    assert murderer.victims > scale(4, 30)
    publish(f"session murder: {murderer.victims} killed in {SECONDS:.0f} s: 0 rows lost, 0 doubled, never failed")


# The switch


@contextmanager
def read_only_postgres(items: Items) -> Iterator[tuple[str, Callable[[], None], Callable[[], None]]]:
    """An address, how to switch its database to read-only, and how back."""
    name = make_url(items.url).database

    def switch(statement: str) -> None:
        with items.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("SET default_transaction_read_only = off"))
            connection.execute(text(f"ALTER DATABASE {name} {statement}"))
            # The setting is for new sessions: a failover ends the old ones.
            others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            connection.execute(text(f"SELECT pg_terminate_backend(pid) {others}"))

    yield (
        items.url,
        lambda: switch("SET default_transaction_read_only = on"),
        lambda: switch("RESET default_transaction_read_only"),
    )


@contextmanager
def read_only_mariadb(items: Items) -> Iterator[tuple[str, Callable[[], None], Callable[[], None]]]:
    """The same. The switch does not concern an administrator, so the address is a plain user's."""
    user = "CREATE OR REPLACE USER plain@127.0.0.1", "GRANT ALL ON *.* TO plain@127.0.0.1"
    for statement in (*user, "REVOKE READ ONLY ADMIN ON *.* FROM plain@127.0.0.1"):
        items.change(text(statement))
    plain = make_url(items.url).set(username="plain").render_as_string(hide_password=False)
    try:
        yield (
            plain,
            lambda: items.change(text("SET GLOBAL read_only = 1")),
            lambda: items.change(text("SET GLOBAL read_only = 0")),
        )
    finally:
        items.change(text("SET GLOBAL read_only = 0"))


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_the_database_is_read_only_for_a_while(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The run says what it waits for, and goes on when it may: it is told so only after it has said it."""
    server: Server = request.getfixturevalue({"postgresql": "mortal_postgres", "mariadb": "mortal_mariadb"}[kind])
    with fresh_database(server.url) as url:
        items = Items(url)
        expected = fill(items, 12)
        with {"postgresql": read_only_postgres, "mariadb": read_only_mariadb}[kind](items) as (address, on, off):
            said: list[str] = []

            def tell(reason: str) -> None:
                said.append(reason)
                if "read" in reason and "only" in reason:
                    off()

            rows = count(1)
            monkeypatch.setattr(InPlace, "before_transform", lambda *_: on() if next(rows) == 5 else None)
            Job(address, InPlace, progress=Telling(tell)).run()
        check_completed(items, expected)
        assert any("read" in reason and "only" in reason for reason in said)
        items.close()


# The server


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_the_server_is_killed_twice(request: pytest.FixtureRequest, kind: str) -> None:
    server: Server = request.getfixturevalue(f"mortal_{kind}")
    with fresh_database(server.url) as url:
        items = Items(url)
        expected = fill(items, 12)
        for_rows, for_waits = [Gate(), Gate()], [Gate(), Gate()]

        def arrange() -> None:
            rows = count(1)
            stops = {4: for_rows[0], 9: for_rows[1]}
            InPlace.before_transform = staticmethod(  # type: ignore[method-assign]
                lambda: stops[row].stop() if (row := next(rows)) in stops else None
            )

        def tell(_: str) -> None:
            """At the first reason to wait after each death."""
            for passed, wait in zip(for_rows, for_waits, strict=True):
                if passed.passed and not wait.passed:
                    wait.stop()

        with Job(url, InPlace, progress=Telling(tell)).start(arrange) as child:
            for at_row, at_wait in zip(for_rows, for_waits, strict=True):
                child.wait_for(at_row)
                server.kill()
                at_row.open()
                child.wait_for(at_wait)  # it has met the silence, and waits
                server.start()
                at_wait.open()
            ending = child.wait()
        assert ending.error is None, ending.message
        check_completed(items, expected)
        items.close()
