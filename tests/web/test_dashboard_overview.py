"""The first screen over HTTP: where everything stands, why, and what comes next."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from system_migration import (
    BatchMigration,
    Migration,
    MigrationContext,
    MigrationFailed,
    MigrationResult,
    Migrator,
    Registry,
    Row,
    RunOptions,
    Settings,
)
from system_migration.web import create_dashboard
from tests.support.host import wait_for
from tests.web.screens import ODD, ODD_SHOWN, assert_harmless, questions, words
from tests.web.serving import PATIENCE, Increment, Mark, Served, gated, listening, served, wait_until_ended


class Odd(Migration):
    """Described oddly, and fails in odd words."""

    name = "003-odd"
    description = f"Descr {ODD}"

    def up(self, context: MigrationContext) -> MigrationResult:
        return MigrationResult(success=False, error=f"it broke {ODD}\nsecond line")


class Waiting(Migration):
    """Waits for one that nobody runs unless it is named."""

    name = "004-waiting"
    requires = ("005-by-hand",)

    def up(self, context: MigrationContext) -> MigrationResult:
        return MigrationResult()


class ByHand(Waiting):
    name = "005-by-hand"
    requires = ()
    manual = True


@pytest.fixture
def server(items: sa.Engine) -> Iterator[Served]:
    with served(items, Mark, Increment, Odd, Waiting, ByHand) as server:
        yield server


@pytest.fixture
def ada(server: Served) -> Iterator[httpx.Client]:
    with server.browser(follow_redirects=True) as client:
        yield client


def group(page: httpx.Response, key: str) -> str:
    """What a group says, in words."""
    found = re.search(rf'<section aria-labelledby="group-{key}">(.*?)</section>', page.text, re.DOTALL)
    assert found is not None
    return words(found[1])


def test_each_stands_in_its_group_with_its_reason(server: Served, ada: httpx.Client) -> None:
    server.migrator.run(Mark.name)
    server.migrator.acting_as(ODD).run(Increment.name)
    with pytest.raises(MigrationFailed):
        server.migrator.run(Odd.name)
    page = ada.get("")
    assert_harmless(page)
    assert f"003-odd Descr {ODD_SHOWN} FAILED it broke {ODD_SHOWN}" in group(page, "attention")
    assert "second line" not in page.text
    assert "Nothing is running." in group(page, "running")
    assert "004-waiting PENDING Waits for 005-by-hand, which no run would do by itself." in group(page, "pending")
    done = group(page, "done")
    assert re.search(rf"002-increment COMPLETED 19 1 rows held by 002-increment .* UTC by {re.escape(ODD_SHOWN)}", done)
    assert 'href="/migrations/m/002-increment/held"' in page.text
    assert "would try 003-odd again; 004-waiting waits for 005-by-hand." in words(page)
    assert re.search(r'href="/migrations/m/003-odd/start">Try 003-odd again<', page.text)


def test_one_that_goes_shows_how_far_it_is(server: Served, ada: httpx.Client) -> None:
    with gated(9) as gate, server.client() as api:
        started = api.post(f"/run/{Increment.name}", params={"batchSize": 4, "workers": 1})
        assert gate.reached.wait(PATIENCE)
        found = ""

        def told() -> bool:
            nonlocal found
            found = group(ada.get(""), "running")
            return "of 20" in found

        wait_for(told, PATIENCE, "the pulse of the run")
        page = ada.get("")
        gate.opened.set()
        wait_until_ended(api, started.headers["location"].rpartition("/")[2])
    assert re.search(r"002-increment RUNNING worked on by ada on \S+ .*8 of 20 .*rows/s, about .* left 0 ", found)
    assert '<progress value="8" max="20" aria-label="002-increment, rows"></progress>' in page.text


@pytest.mark.databases("sqlite")
def test_one_whose_runner_is_gone_says_when_it_was_last_heard_of(
    items: sa.Engine, server: Served, ada: httpx.Client
) -> None:
    server.migrator.run(Mark.name)
    with items.begin() as connection:  # as a killed runner leaves it
        connection.execute(sa.text("UPDATE system_migration_migration SET status = 'RUNNING'"))
        connection.execute(sa.text("UPDATE system_migration_run SET outcome = NULL, finished_at = NULL"))
        lease = 'released = 0, expires_at = renewed_at, pulse_at = renewed_at, pulse = \'{"phase": "migrating"}\''
        connection.execute(sa.text(f"UPDATE system_migration_lease SET {lease}"))
    page = ada.get("")
    assert "STALE Its runner is gone. Run it again: it goes on from there. Last heard of" in group(page, "attention")
    assert "Continue 001-mark" in words(page)


@pytest.mark.databases("sqlite")
def test_without_migrations_it_says_what_to_do(items: sa.Engine) -> None:
    app = FastAPI()
    with Migrator(items, Registry([Mark]), Settings(environment="staging")) as before:
        with Migrator(items, Registry([]), before.settings) as migrator:
            app.include_router(create_dashboard(migrator, require_developer=lambda: "ada"), prefix="/x")
            with listening(app) as address:
                assert "There are no migrations yet." in words(httpx.get(f"{address}/x"))
                before.run()
                page = httpx.get(f"{address}/x")
    assert "Next: nothing; migration run has no work." in words(page)
    assert "001-mark COMPLETED not verified file missing 20" in group(page, "done")
    assert "Nothing is pending. migration new TITLE writes the next." in words(page)


@pytest.mark.databases("sqlite")
def test_production_is_unmistakable(items: sa.Engine) -> None:
    with served(items, Mark, environment="production") as server, server.browser(follow_redirects=True) as client:
        page = client.get("")
    assert "<title>[PRODUCTION] Overview" in page.text
    assert '<html lang="en" class="production">' in page.text


def many(number: int) -> type[BatchMigration]:
    class One(BatchMigration):
        name = f"{number:03}-one-of-many"
        description = "One of very many migrations, with a description as long as people write them"
        table = "item"
        reads = ("y",)
        writes = ("y",)

        def transform(self, row: Row) -> dict[str, Any]:
            return {}

    return One


@pytest.mark.databases("sqlite")
def test_with_very_many_it_asks_little_and_answers_soon(items: sa.Engine) -> None:
    """500 migrations and 10,000 runs, all of whose groups are full."""
    first, *others = [many(number) for number in range(1, 501)]
    with served(items, first, *others) as server, server.browser(follow_redirects=True) as client:
        server.migrator.run(first.name, RunOptions(allow_scan=True))
        fill(items, [other.name for other in others[:400]], 25)
        client.get("")
        with questions() as asked:
            began = time.perf_counter()
            page = client.get("")
            seconds = time.perf_counter() - began
        everything = client.get("?all=true")
    assert len(asked) <= 5, asked
    assert seconds < 1, seconds  # a tenth of that on a machine with nothing else to do
    assert page.text.count("<tr data-key") < 250 < 500 <= everything.text.count("<tr data-key")


def fill(engine: sa.Engine, names: list[str], runs: int) -> None:
    """Records as the first migration has them, in each status, with so many runs each."""
    stands = ("COMPLETED", "FAILED", "PAUSED", "SKIPPED")
    metadata = sa.MetaData()
    migration = sa.Table("system_migration_migration", metadata, autoload_with=engine)
    run = sa.Table("system_migration_run", metadata, autoload_with=engine)
    with engine.begin() as connection:
        record = dict(connection.execute(sa.select(migration)).mappings().one())
        attempt = dict(connection.execute(sa.select(run)).mappings().one())
        ids = (f"{number:08x}-0000-4000-8000-000000000000" for number in range(len(names) * runs))
        attempts = [attempt | {"id": next(ids), "name": name} for name in names for _ in range(runs)]
        connection.execute(sa.insert(run), attempts)
        connection.execute(
            sa.insert(migration),
            [
                record
                | {"name": name, "status": stands[at % 4], "run_id": attempts[at * runs]["id"], "error": "it broke"}
                for at, name in enumerate(names)
            ],
        )
