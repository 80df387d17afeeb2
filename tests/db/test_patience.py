"""Short steps: tried again while others are in the way, waited out while the database is away, ended by a stop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine, event, make_url, text
from sqlalchemy.exc import DBAPIError

from system_migration.errors import Interrupted
from system_migration.lease import HeldLease, ensure_row
from system_migration.store import leases, tracking
from system_migration.store.database import Database
from system_migration.store.patience import BRIEF, Patience
from tests.crash.harness import Job
from tests.crash.subjects import InPlace, Items
from tests.db.test_lease import FakeClock
from tests.db.test_workbench import Increment, make_table, migrator, quick
from tests.support.databases import application_engine, fresh_database
from tests.support.host import free_port
from tests.support.servers import Server

COUNTER = sa.table("counter", sa.column("id"), sa.column("n"))
RAISE = COUNTER.update().values(n=COUNTER.c.n + 1)


@pytest.fixture
def database(engine: Engine) -> Iterator[Database]:
    """A database with a counter at 0."""
    columns = sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.Integer)
    make_table(engine, "counter", *columns, rows=[{"id": 1, "n": 0}])
    made = Database(engine)
    yield made
    made.close()


def raise_counter(connection: sa.Connection) -> None:
    connection.execute(RAISE)


@pytest.mark.databases("postgresql", "mariadb")
def test_a_row_that_another_holds_is_waited_for(database: Database, engine: Engine) -> None:
    """It is released when the wait has been told, and not before."""
    said: list[str] = []
    with engine.connect() as other:
        other.execute(RAISE)

        def tell(reason: str) -> None:
            said.append(reason)
            other.commit()

        database.transact(raise_counter, tell, lock_seconds=1)
        assert other.execute(sa.select(COUNTER.c.n)).scalar_one() == 2
    assert len(said) == 1
    assert "timeout" in said[0].lower()


@pytest.mark.databases("postgresql", "mariadb")
def test_a_row_that_is_never_released_is_given_up(database: Database, engine: Engine) -> None:
    with engine.connect() as other:
        other.execute(RAISE)
        with pytest.raises(DBAPIError):
            database.transact(raise_counter, patience=Patience(in_the_way=0.0, away=0.0), lock_seconds=1)


def test_an_error_that_stays_is_not_waited_for(database: Database) -> None:
    def fail(reason: str) -> None:
        raise AssertionError(reason)

    with pytest.raises(DBAPIError):
        database.transact(lambda connection: connection.execute(text("SELECT nothing FROM counter")), fail)


# Away


def nowhere(engine: Engine) -> Engine:
    """Where no server is."""
    return quick(application_engine(make_url(engine.url).set(port=free_port())))


@pytest.mark.databases("postgresql", "mariadb")
@pytest.mark.parametrize("way", ["transact", "ask"])
def test_a_stop_ends_the_wait_for_a_database_that_is_away(engine: Engine, way: str) -> None:
    """A moment's trouble is not cut short: the step may be the one that records the stop."""

    def heed() -> None:
        raise Interrupted(15)

    database, said = Database(nowhere(engine), heed), list[str]()
    began = time.monotonic()
    with pytest.raises(Interrupted):
        getattr(database, way)(raise_counter, said.append)
    assert time.monotonic() - began < 3
    assert len(said) > 2


@pytest.mark.databases("postgresql", "mariadb")
def test_what_only_helps_others_is_given_up_soon(engine: Engine) -> None:
    database, began = Database(nowhere(engine)), time.monotonic()
    with pytest.raises(DBAPIError):
        database.transact(raise_counter, patience=BRIEF)
    assert time.monotonic() - began < 5


@pytest.mark.databases("postgresql", "mariadb")
def test_who_only_looks_is_told_at_once(engine: Engine) -> None:
    looking, began = migrator(nowhere(engine), Increment), time.monotonic()
    for look in (looking.status, looking.pending, looking.run):
        with pytest.raises(DBAPIError):
            look()
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("kind", ["mortal_postgres", "mortal_mariadb"])
def test_a_lease_past_its_deadline_is_good_only_when_the_database_says_so(
    request: pytest.FixtureRequest, kind: str
) -> None:
    """The check returns when the server is back, which is after the wait has been told."""
    server: Server = request.getfixturevalue(kind)
    with fresh_database(server.url) as url:
        database, clock, said = Database(quick(application_engine(url))), FakeClock(), list[str]()
        tracking.ensure(database, "test")
        ensure_row(database, "test", "001-x")
        with database.write() as connection:
            claim = leases.acquire(connection, "test", "001-x", "us", "us", 30.0)
        assert claim is not None

        def tell(reason: str) -> None:
            if not said:
                server.start()
            said.append(reason)

        held = HeldLease(database, claim, clock, clock.monotonic(), tell)
        server.kill()
        held.check()
        assert said == []  # within the deadline nobody asks
        clock.sleep(25.0)
        held.check()
        assert said != []
        database.close()


# Names of sessions


@pytest.mark.databases("postgresql")
@pytest.mark.parametrize("pooled", [False, True])
def test_a_transaction_bears_the_name_of_its_run_and_leaves_none(request: pytest.FixtureRequest, pooled: bool) -> None:
    plain = request.getfixturevalue("postgres_url")
    engine = application_engine(request.getfixturevalue("pgbouncer_url") if pooled else plain)
    database = Database(engine).named("system_migration:12345678:7")
    name = text("SELECT current_setting('application_name')")
    with database.write() as connection:
        assert connection.execute(name).scalar_one() == "system_migration:12345678:7"
    for _ in range(3):  # as many as the pooler has connections
        with database.read() as connection:
            assert not connection.execute(name).scalar_one().startswith("system_migration")
    database.close()


@pytest.mark.databases("postgresql", "mariadb")
def test_batches_bear_the_run_and_its_fence(engine: Engine, database_url: str) -> None:
    items, names = Items(database_url), set[str]()

    def listen(_c: Any, _cursor: Any, sql: str, parameters: Any, _x: Any, _many: bool) -> None:
        if "set_config('application_name'" in sql:
            names.add(parameters["session"])
        elif sql.startswith("START TRANSACTION /* "):
            names.add(sql.split()[3])

    event.listen(Engine, "before_cursor_execute", listen)
    try:
        (report,) = Job(database_url, InPlace).run()
    finally:
        event.remove(Engine, "before_cursor_execute", listen)
    items.close()
    assert names == {"system_migration", f"system_migration:{report.run_id[:8]}:1"}
