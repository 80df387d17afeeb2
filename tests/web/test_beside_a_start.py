"""The API beside a start that runs what is pending: one process, one worker."""

from __future__ import annotations

import asyncio

import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from system_migration import Migrator, Registry, Settings
from system_migration.background import Background
from system_migration.startup import Startup
from system_migration.startup_plan import Stage
from system_migration.web import create_health_router, create_router, install_problem_handlers
from tests.support.host import wait_for
from tests.web.serving import ONCE, PATIENCE, Increment, changes, gated


def developer() -> str:
    return "ada"


def ask(app: FastAPI, method: str, path: str) -> httpx.Response:
    async def answer() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.request(method, path)

    return asyncio.run(answer())


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
        assert ask(app, "GET", "/health/ready").json()["state"] == "running"
        gate.opened.set()
        wait_for(lambda: startup.state().stage is Stage.DONE, PATIENCE, "the end of the run")
        startup.stop()
        assert [run.executed_by.split("@")[0] for run in migrator.history()] == ["startup"]
    assert changes(items) == ONCE
