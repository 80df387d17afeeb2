"""What anybody may ask of a process, and what is held back until it may serve."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from system_migration import Migration, MigrationContext, MigrationResult, Migrator, Registry, Settings, connect
from system_migration.startup import Startup
from system_migration.startup_plan import MEANING, Plan, Stage
from system_migration.web import HoldUntilReady, create_health_router


class Blocking(Migration):
    name = "001-blocking"
    blocks_startup = True

    def up(self, context: MigrationContext) -> MigrationResult:
        return MigrationResult()


@pytest.fixture
def startup(tmp_path: Path) -> Iterator[Startup]:
    """One that has not begun: something may block it, so it is not ready."""
    (tmp_path / "database").touch()
    settings = Settings(environment="test", run_on_startup=True)
    with Migrator(connect(f"sqlite:///{tmp_path}/database"), Registry([Blocking]), settings) as migrator:
        yield Startup(migrator)


@pytest.fixture
def app(startup: Startup) -> FastAPI:
    app = FastAPI()
    app.include_router(create_health_router(startup))
    app.add_middleware(HoldUntilReady, startup=startup)
    for path in ("/", "/healthy", "/migration/status"):
        app.add_api_route(path, lambda: "served")
    return app


def get(app: FastAPI, path: str, root_path: str = "") -> httpx.Response:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app, root_path=root_path), base_url="http://test"
        ) as client:
            return await client.get(path)

    return asyncio.run(ask())


def test_the_process_lives_whatever_becomes_of_migrations(app: FastAPI) -> None:
    answer = get(app, "/health/live")
    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})


def test_readiness_tells_how_far_it_is_and_nothing_that_names_anybody(app: FastAPI, startup: Startup) -> None:
    sentence = "001-blocking is being run by ada on web-1."
    startup._publish(Plan(Stage.FOLLOWING, sentence, ready=False, migration="001-blocking", rows_done=7))
    answer = get(app, "/health/ready")
    assert answer.status_code == 503
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json() == {
        "ready": False,
        "state": "following",
        "migration": "001-blocking",
        "rowsDone": 7,
        "rowsTotal": None,
        "reason": MEANING[Stage.FOLLOWING],
    }


def test_once_ready_it_stays_so(app: FastAPI, startup: Startup) -> None:
    startup._publish(Plan(Stage.DONE, "", ready=True))
    startup._publish(Plan(Stage.ATTENTION, "A person resets it.", ready=False))
    assert get(app, "/health/ready").status_code == 200
    assert get(app, "/").json() == "served"


def test_until_then_all_is_held_back_but_what_tells_and_steers(app: FastAPI) -> None:
    held = get(app, "/")
    assert (held.status_code, held.headers["Retry-After"]) == (503, "5")
    assert held.headers["Content-Type"] == "application/problem+json"
    assert held.headers["Cache-Control"] == "no-store"
    assert held.json()["detail"] == f"The application waits for a migration. {MEANING[Stage.LOOKING]}"
    assert get(app, "/healthy").status_code == 503  # another path that only begins like ours
    assert get(app, "/migration/status").json() == "served"


def test_what_tells_and_steers_stays_open_behind_a_root_path(app: FastAPI) -> None:
    def status(path: str) -> int:
        return get(app, path, root_path="/ante").status_code

    assert status("/ante/health/live") == 200
    assert status("/health/live") == 200  # from a server that leaves the path as it is
    assert [status(path) for path in ("/ante", "/ante/healthy", "/antehealth/live")] == [503] * 3


def test_a_websocket_is_told_to_try_again_later(app: FastAPI) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app({"type": "websocket", "path": "/", "headers": [], "query_string": b""}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1013}]


def test_both_answers_of_readiness_are_declared(app: FastAPI) -> None:
    declared = app.openapi()["paths"]["/health/ready"]["get"]["responses"]
    assert set(declared) == {"200", "503"}
