"""The API beside a start that runs what is pending: one process, one worker."""

from __future__ import annotations

import asyncio
import threading

import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from system_migration import Migration, MigrationContext, MigrationResult, Migrator, Registry, Settings
from system_migration.background import Background
from system_migration.startup import Startup
from system_migration.startup_plan import Stage
from system_migration.web import create_health_router, create_router, install_problem_handlers
from system_migration.web.refusals import RunGoing
from system_migration.web.starts import Starts, Wanted
from tests.support.host import wait_for
from tests.web.serving import ONCE, PATIENCE, Increment, Mark, changes, gated


def developer() -> str:
    return "ada"


def ask(app: FastAPI, method: str, path: str) -> httpx.Response:
    async def answer() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.request(method, path)

    return asyncio.run(answer())


class Waiting(Migration):
    """Has its preflight wait until the test lets it go on."""

    name = "002-waiting"
    reached, opened = threading.Event(), threading.Event()

    def preflight(self, context: MigrationContext) -> None:
        Waiting.reached.set()
        assert Waiting.opened.wait(PATIENCE)

    def up(self, context: MigrationContext) -> MigrationResult:
        return MigrationResult()


@pytest.mark.databases("sqlite")
def test_a_start_is_refused_at_once_while_no_run_has_begun(items: sa.Engine) -> None:
    settings = Settings(environment="staging", run_on_startup=True, auto_migrate=True)
    with Migrator(items, Registry([Mark, Waiting]), settings) as migrator:
        background = Background(migrator)
        starts = Starts(migrator, background)
        assert starts.begin(Wanted("run", Mark.name), "ada").done.result(PATIENCE)
        wait_for(lambda: not background.busy, PATIENCE, "the worker")
        startup = Startup(migrator, background)
        startup.begin()
        assert Waiting.reached.wait(PATIENCE)
        with pytest.raises(RunGoing) as refused:
            starts.begin(Wanted("run", Mark.name), "ada")
        assert refused.value.run is None  # and not the one that was started over HTTP before, which has ended
        Waiting.opened.set()
        wait_for(lambda: startup.state().stage is Stage.DONE, PATIENCE, "the end of the run")
        startup.stop()


@pytest.mark.databases("sqlite", "postgresql")
def test_a_start_over_http_is_refused_while_the_start_of_the_application_runs(items: sa.Engine) -> None:
    settings = Settings(environment="staging", run_on_startup=True, auto_migrate=True)
    with Migrator(items, Registry([Increment]), settings) as migrator, gated() as gate:
        background = Background(migrator)
        startup = Startup(migrator, background)
        app = FastAPI()
        app.include_router(create_router(migrator, require_developer=developer, background=background), prefix="/m")
        app.include_router(create_health_router(startup))
        install_problem_handlers(app)
        startup.begin()
        assert gate.reached.wait(PATIENCE)
        refused = ask(app, "POST", "/m/run/002-increment")
        assert (refused.status_code, refused.json()["title"]) == (409, "A run is going")
        assert refused.json()["run"]["executedBy"].startswith("startup@")
        assert ask(app, "GET", "/health/ready").json()["state"] == "running"
        gate.opened.set()
        wait_for(lambda: startup.state().stage is Stage.DONE, PATIENCE, "the end of the run")
        startup.stop()
        assert [run.executed_by.split("@")[0] for run in migrator.history()] == ["startup"]
    assert changes(items) == ONCE
