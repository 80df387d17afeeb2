"""The application that `migration serve` serves, where it differs from a host's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from system_migration import Migrator, Registry, Settings, connect
from system_migration.web.dashboard.pages import HEADERS
from system_migration.web.server import create_app
from system_migration.web.tokens import TokenFile, make_token


def nobody() -> str:
    raise AssertionError("no route was reached")


@pytest.fixture
def app(tmp_path: Path) -> Iterator[FastAPI]:
    (tmp_path / "database").touch()
    with Migrator(connect(f"sqlite:///{tmp_path}/database"), Registry([]), Settings(environment="test")) as migrator:
        yield create_app(migrator, nobody)


def get(app: FastAPI, path: str, host: str = "test") -> httpx.Response:
    return ask(app, "GET", path, {"Host": host})


def ask(
    app: FastAPI, method: str, path: str, headers: dict[str, str], form: dict[str, str] | None = None
) -> httpx.Response:
    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.request(method, path, headers=headers, data=form)

    return asyncio.run(send())


@pytest.mark.parametrize("path", ["/migration/status/", "/health/live/", "/migration/"])
def test_nobody_is_sent_to_a_host_that_the_request_names(app: FastAPI, path: str) -> None:
    answer = get(app, path, host="elsewhere.example")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert "elsewhere" not in str(answer.headers) + answer.text


@pytest.mark.parametrize("host", ["elsewhere.example", "x//elsewhere.example", "x/..//elsewhere.example", "x?"])
@pytest.mark.parametrize("path", ["/auth/sign-in", "/auth/sign-out"])
def test_signing_in_and_out_leads_to_a_path_whatever_host_is_named(tmp_path: Path, host: str, path: str) -> None:
    (tmp_path / "database").touch()
    token, line = make_token("ada")
    file = tmp_path / "tokens"
    file.touch(0o600)
    file.write_text(line, encoding="utf-8")
    tokens = TokenFile(file)
    with Migrator(connect(f"sqlite:///{tmp_path}/database"), Registry([]), Settings(environment="test")) as migrator:
        app = create_app(migrator, tokens.require, tokens)
        answer = ask(app, "POST", path, {"Host": host}, {"token": token})
    assert answer.status_code == 303
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    assert answer.headers["location"] in ("/migrations", "/auth/sign-in?signed-out=yes")


def test_it_lives_for_whoever_asks(app: FastAPI) -> None:
    assert get(app, "/health/live").json() == {"status": "alive"}


@pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/redoc"])
def test_its_description_is_closed(app: FastAPI, path: str) -> None:
    assert get(app, path).status_code == 404
