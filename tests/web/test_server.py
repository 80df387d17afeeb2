"""The application that `migration serve` serves, where it differs from a host's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from system_migration import Migrator, Registry, Settings, connect
from system_migration.web.server import create_app


def nobody() -> str:
    raise AssertionError("no route was reached")


@pytest.fixture
def app(tmp_path: Path) -> Iterator[FastAPI]:
    (tmp_path / "database").touch()
    with Migrator(connect(f"sqlite:///{tmp_path}/database"), Registry([]), Settings(environment="test")) as migrator:
        yield create_app(migrator, nobody)


def get(app: FastAPI, path: str, host: str = "test") -> httpx.Response:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.get(path, headers={"Host": host})

    return asyncio.run(ask())


@pytest.mark.parametrize("path", ["/migration/status/", "/health/live/", "/migration/", "/migrations/"])
def test_nobody_is_sent_to_a_host_that_the_request_names(app: FastAPI, path: str) -> None:
    answer = get(app, path, host="elsewhere.example")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert "elsewhere" not in str(answer.headers) + answer.text


def test_it_lives_for_whoever_asks(app: FastAPI) -> None:
    assert get(app, "/health/live").json() == {"status": "alive"}


@pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/redoc"])
def test_its_description_is_closed(app: FastAPI, path: str) -> None:
    assert get(app, path).status_code == 404
