"""The token file: private, strict, and read again when it changes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials

from system_migration import ConfigurationError, Migrator, Registry, Settings, connect
from system_migration.web.server import create_app
from system_migration.web.tokens import TokenFile, make_token


def write(path: Path, *lines: str, mode: int = 0o600) -> Path:
    fresh = path.with_suffix(".new")
    fresh.write_text("\n".join(lines) + "\n", encoding="utf-8")
    fresh.chmod(mode)
    os.replace(fresh, path)
    return path


def may(file: TokenFile, token: str | None) -> str:
    return file.require(None if token is None else HTTPAuthorizationCredentials(scheme="Bearer", credentials=token))


def get(app: FastAPI, path: str, token: str | None) -> httpx.Response:
    async def ask() -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(ask())


def test_a_token_lets_its_owner_in_and_no_other(tmp_path: Path) -> None:
    (ada, ada_line), (eve, eve_line) = make_token("ada"), make_token("eve@example.test")
    file = TokenFile(write(tmp_path / "tokens", "# developers", "", ada_line, f"  {eve_line}"))
    assert (may(file, ada), may(file, eve)) == ("ada", "eve@example.test")
    for wrong in (None, "", ada[:-1], ada + "x", ada_line.partition(":")[2], "ö"):
        with pytest.raises(HTTPException) as refused:
            may(file, wrong)
        assert refused.value.status_code == 401
        assert refused.value.headers == {"WWW-Authenticate": "Bearer"}


@pytest.mark.parametrize("name", ["", "a:b", " ada", "#ada"])
def test_nobody_gets_a_token_whose_line_would_be_no_line(name: str) -> None:
    with pytest.raises(ConfigurationError, match="The name must be"):
        make_token(name)


def test_a_line_taken_out_acts_at_once(tmp_path: Path) -> None:
    (ada, ada_line), (eve, eve_line) = make_token("ada"), make_token("eve")
    file = TokenFile(write(tmp_path / "tokens", ada_line, eve_line))
    assert may(file, eve) == "eve"
    write(tmp_path / "tokens", ada_line)
    assert may(file, ada) == "ada"
    with pytest.raises(HTTPException):
        may(file, eve)


@pytest.mark.parametrize("mode", [0o604, 0o666, 0o620, 0o602])
def test_a_file_that_others_may_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    _, line = make_token("ada")
    with pytest.raises(ConfigurationError, match="is open to others"):
        TokenFile(write(tmp_path / "tokens", line, mode=mode))


def test_a_file_that_goes_bad_lets_nobody_in_and_tells_only_the_log_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tokens"
    ada, line = make_token("ada")
    file = TokenFile(write(path, line, mode=0o640))
    (tmp_path / "database").touch()
    with Migrator(connect(f"sqlite:///{tmp_path}/database"), Registry([]), Settings(environment="test")) as migrator:
        app = create_app(migrator, file.require)
        assert get(app, "/migration/list", ada).status_code == 200
        for spoil, reason in ((lambda: path.chmod(0o644), "is open to others"), (path.unlink, "cannot be read")):
            spoil()
            for token in (None, ada):
                answer = get(app, "/migration/list", token)
                assert (answer.status_code, answer.json()["type"]) == (500, "urn:system-migration:configuration")
                assert answer.json()["detail"] == "The tokens cannot be checked just now; the server's log says why."
            assert reason in caplog.text
            assert str(path) in caplog.text
            caplog.clear()


@pytest.mark.parametrize("line", ["ada", "ada:secret", "ada:" + "A" * 64, ":" + "0" * 64, "a b:c:" + "0" * 64, "é" * 3])
def test_a_line_that_is_none_is_named_by_its_number_alone(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigurationError, match="Line 2 of the token file") as refused:
        TokenFile(write(tmp_path / "tokens", "# developers", line))
    assert line not in str(refused.value)


def test_a_file_without_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="names nobody"):
        TokenFile(write(tmp_path / "tokens", "# nobody yet"))
