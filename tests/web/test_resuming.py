"""What was started over HTTP and has no end is gone on with by the next server, as it was asked for."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from system_migration import (
    BatchMigration,
    Migration,
    MigrationContext,
    MigrationResult,
    Migrator,
    Refused,
    Registry,
    Row,
    RunOptions,
    Settings,
)
from system_migration.background import Background
from system_migration.startup import Startup
from system_migration.startup_plan import Stage
from system_migration.web.resuming import Resuming
from system_migration.web.starts import Starts, Wanted
from tests.support.host import wait_for
from tests.web.serving import ONCE, PATIENCE, Increment, Mark, changes, gated, served, wait_until_ended

pytestmark = pytest.mark.databases("sqlite")
ONE_BY_ONE = {"batchSize": 1, "workers": 1}


class Last(Migration):
    """Comes after the increment."""

    name = "003-last"

    def up(self, context: MigrationContext) -> MigrationResult:
        return MigrationResult()


ALL = (Mark, Increment, Last)


def interrupt(engine: sa.Engine, path: str) -> str:
    """Start something over HTTP, and end its server while it stands in row 8 of the increment. The run's id."""
    with served(engine, *ALL) as server, server.client() as client, gated() as gate:
        client.post(path, params=ONE_BY_ONE)
        assert gate.reached.wait(PATIENCE)
        server.migrator.request_stop(15)
        gate.opened.set()
        found: str = client.get("/runs").json()["runs"][0]["id"]
    return found


def statuses(engine: sa.Engine) -> list[str]:
    with Migrator(engine, Registry(list(ALL)), Settings(environment="staging")) as looking:
        return [each.status for each in looking.status().migrations]


@pytest.mark.parametrize(("path", "last"), [("/run", "COMPLETED"), ("/run/002-increment", "PENDING")])
def test_as_much_is_done_as_was_asked_for(items: sa.Engine, path: str, last: str) -> None:
    run_id = interrupt(items, path)
    assert statuses(items)[1:] == ["RUNNING", "PENDING"]
    with served(items, *ALL) as server, server.client() as client:
        assert wait_until_ended(client, run_id)["state"] == "succeeded"
        wait_for(lambda: statuses(items)[2] == last, PATIENCE, "the last migration")
    assert statuses(items)[1:] == ["COMPLETED", last]
    assert changes(items) == ONCE


def test_a_run_that_the_command_line_took_over_is_its_own(items: sa.Engine) -> None:
    run_id = interrupt(items, "/run/002-increment")
    with Migrator(items, Registry(list(ALL)), Settings(environment="staging"), executed_by="cli") as other:
        with gated(row=15) as gate:
            gate.opened.set()
            other.run("002-increment")
        assert other.unfinished_from("rest") == []
    with served(items, *ALL) as server, server.client() as client:
        assert client.get(f"/runs/{run_id}").json()["state"] == "succeeded"
    assert changes(items) == ONCE


class Note(BatchMigration):
    """A second one in batches, which waits until it is opened."""

    name = "004-note"
    table = "item"
    reads = ("note",)
    writes = ("note",)
    opened = threading.Event()

    def transform(self, row: Row) -> dict[str, str]:
        assert Note.opened.wait(PATIENCE)
        return {"note": "noted"}


@contextmanager
def process(engine: sa.Engine, *migrations: type[Migration], **settings: Any) -> Iterator[tuple[Migrator, Starts]]:
    """What one server process has, without its server."""
    told = Settings(environment="staging", **settings)
    with Migrator(engine, Registry(list(migrations or ALL)), told) as migrator:
        background = Background(migrator)
        yield migrator, Starts(migrator, background)
        assert background.stop(PATIENCE)


def resume(migrator: Migrator, starts: Starts) -> None:
    """Go on with what is unfinished until nothing is left to look after."""
    asyncio.run(asyncio.wait_for(Resuming(migrator, starts).resume(), PATIENCE))


def begin(starts: Starts, name: str) -> None:
    starts.begin(Wanted("run", name, RunOptions(batch_size=1, workers=1)), "ada").begun.result(PATIENCE)


@pytest.mark.parametrize("error", [Refused("Another key."), RuntimeError("hunter2")])
def test_a_run_that_cannot_be_gone_on_with_is_tried_once(
    items: sa.Engine, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = interrupt(items, "/run/002-increment")

    def preflight(self: Migration, context: MigrationContext) -> None:
        raise error

    monkeypatch.setattr(Increment, "preflight", preflight)
    with process(items) as (migrator, starts):
        caplog.clear()
        resume(migrator, starts)
        assert len([each for each in migrator.history() if each.id != run_id]) == 1
        assert [each.action for each in migrator.show("002-increment").events].count("takeover") == 1
        (said,) = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert said.endswith("This process does not start it again.")
    assert "hunter2" not in said


def test_a_run_that_goes_on_in_an_older_process_is_looked_after_until_it_has_ended(items: sa.Engine) -> None:
    lease = 0.5
    with process(items, lease_seconds=lease) as (old, old_starts), gated() as gate:
        begin(old_starts, "002-increment")
        assert gate.reached.wait(PATIENCE)
        with process(items, lease_seconds=lease) as (new, new_starts), ThreadPoolExecutor() as pool:
            resuming, began = pool.submit(resume, new, new_starts), time.monotonic()
            wait_for(lambda: time.monotonic() > began + 2 * lease, PATIENCE, "longer than a dead process is waited for")
            old.request_stop(15)
            gate.opened.set()
            resuming.result(PATIENCE)
            assert new.history()[0].outcome == "succeeded"
    assert changes(items) == ONCE


def test_a_run_that_waits_for_the_end_of_another_is_gone_on_with_too(items: sa.Engine) -> None:
    both, lease = (Increment, Note), 0.5
    with process(items, *both) as (one, first), process(items, *both) as (two, second), gated() as gate:
        begin(first, "002-increment")
        assert gate.reached.wait(PATIENCE)
        begin(second, "004-note")
        one.request_stop(15)
        two.request_stop(15)
        Note.opened.set()
    with process(items, *both, lease_seconds=lease) as (migrator, starts), gated(row=15) as gate:
        assert [each.stale for each in migrator.status().migrations] == [True, True]
        with ThreadPoolExecutor() as pool:
            resuming, began = pool.submit(resume, migrator, starts), time.monotonic()
            wait_for(lambda: time.monotonic() > began + 2 * lease, PATIENCE, "longer than a dead process is waited for")
            gate.opened.set()
            resuming.result(PATIENCE)
        assert {each.outcome for each in migrator.history()} == {"succeeded"}
    assert changes(items) == ONCE


def test_what_the_page_started_is_gone_on_with_as_the_pages(items: sa.Engine) -> None:
    wanted, request = Wanted("run", Increment.name, RunOptions(batch_size=1, workers=1)), str(uuid4())
    with process(items, Increment) as (migrator, starts), gated() as gate:
        starts.begin(wanted, "ada", request, door="page").begun.result(PATIENCE)
        assert gate.reached.wait(PATIENCE)
        migrator.request_stop(15)
    with process(items, Increment) as (migrator, starts):
        assert migrator.unfinished_from("rest") == []
        resume(migrator, starts)
        begun, taken = (each for each in reversed(migrator.audit()) if "door" in each.detail)
        assert [(each.action, each.actor, each.detail["door"]) for each in (begun, taken)] == [
            ("run_started", "ada", "page"),
            ("takeover", "ada", "page"),
        ]
        run = starts.run_of(request, wanted)  # as it is asked for through whichever door
        assert run is not None
        assert (run.id, run.outcome) == (request, "succeeded")
    assert changes(items) == ONCE


def test_a_start_of_the_application_goes_on_with_a_run_as_it_was_asked_for(items: sa.Engine) -> None:
    asked = RunOptions(batch_size=1, workers=1, max_rate=1000, max_issues=7)
    with process(items, Increment) as (migrator, starts), gated() as gate:
        starts.begin(Wanted("run", Increment.name, asked), "ada").begun.result(PATIENCE)
        assert gate.reached.wait(PATIENCE)
        migrator.request_stop(15)
    with process(items, Increment, run_on_startup=True, auto_migrate=True) as (migrator, _):
        startup = Startup(migrator)
        startup.begin()
        wait_for(lambda: startup.state().stage is Stage.DONE, PATIENCE, "the end of the run")
        startup.stop()
        events = {each.action: each for each in migrator.show(Increment.name).events}
        begun, taken = events["run_started"].detail, events["takeover"].detail
        assert events["takeover"].actor.startswith("startup@")
        assert taken["options"] == begun["options"] == asked.given()
        assert (taken["door"], taken["request"], taken["named"]) == ("rest", begun["request"], True)
        assert all(each.rows == each.batches for each in migrator.batches(Increment.name))
    assert changes(items) == ONCE
