"""What the host answers when something is wrong with it, or with what it was asked."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ante_backend.app import create_app
from ante_backend.login import Judge
from ante_backend.passwords import hash_password
from tests.support.backend import COST, Backend, Counted, account_database, configuration

RIGHT = "the right password"


@pytest.fixture(scope="module")
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    with account_database("sqlite", tmp_path_factory.mktemp("answers"), request) as url:
        with Backend(configuration(url, environment="production")) as backend:
            yield backend


def test_an_unexpected_error_is_answered_and_logged_without_its_words(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(judge: Judge, accounts: object, password: str) -> None:
        raise KeyError(password)

    monkeypatch.setattr(Judge, "judge", broken)
    with Backend(backend.config) as another:  # which has said all it says when it has ended
        answer = another.log_in("somebody", RIGHT)
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert "Traceback" not in answer.text
    assert RIGHT not in answer.text + caplog.text
    assert f"KeyError at {__file__}:" in caplog.text


def test_a_database_that_is_away_is_a_503(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "away.sqlite"
    path.touch()
    with Backend(configuration(f"sqlite:///{path}")) as backend:  # no table in it
        for _ in range(2):
            answer = backend.log_in("somebody", RIGHT)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert answer.headers["content-type"] == "application/problem+json"
        counts = backend.app.state.authentication.attempts._names._counts
        assert [count.failures for count in counts.values()] == [0]  # nobody was judged, so nobody failed
    assert RIGHT not in caplog.text


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/nothing", "/auth/login/"])
def test_in_production_no_page_tells_about_the_application(backend: Backend, path: str) -> None:
    answer = backend.client.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_in_development_the_document_is_there(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    with account_database("sqlite", tmp_path, request) as url:
        app = create_app(configuration(url, environment="development"))
    paths = app.openapi()["paths"]
    assert {"/auth/login", "/auth/me", "/auth/password"} <= paths.keys()
    unreadable = paths["/auth/login"]["post"]["responses"]["400"]["description"]
    assert all(why in unreadable for why in ("UTF-8", "nested", "digits"))
    assert app.openapi_url == "/openapi.json"


def test_no_other_origin_is_invited(backend: Backend) -> None:
    asked = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
    for answer in (
        backend.client.options("/auth/login", headers=asked),
        backend.client.post("/auth/login", headers=asked, json={"username": "x", "password": "y"}),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control")]
    assert backend.client.options("/auth/login", headers=asked).status_code == 405


def spoken(backend: Backend, said: bytes) -> str:
    """The one JSON document that the server says to a client that says this much and then listens."""
    url = backend.client.base_url
    with socket.create_connection((url.host, url.port or 80), timeout=30) as connection:
        connection.sendall(said)
        heard = b""
        while not heard.endswith(b"}"):
            part = connection.recv(4096)
            assert part, heard
            heard += part
    return heard.decode()


def assert_too_long(heard: str) -> None:
    """The one answer there is to a long body."""
    head, _, body = heard.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 413 ")
    assert "content-type: application/problem+json" in head
    assert "cache-control: no-store" in head
    problem = json.loads(body)
    assert (problem["type"], problem["status"]) == ("about:blank", 413)
    assert problem["detail"] == "The request is longer than 16384 bytes."


@pytest.mark.parametrize("path", ["/auth/login", "/auth/password", "/nothing"])
def test_a_long_body_is_refused_before_any_of_it_has_come(backend: Backend, path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 16385\r\n\r\n"
    assert_too_long(spoken(backend, head.encode()))


def test_a_long_body_of_no_declared_length_is_refused_as_soon_as_it_is_too_long(backend: Backend) -> None:
    head = (
        b"POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    heard = spoken(backend, head + b"4001\r\n" + b"x" * 0x4001 + b"\r\n")  # and no last chunk
    assert_too_long(heard)


def test_without_a_key_hashes_open_and_legacy_passwords_do_not(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with account_database("sqlite", tmp_path, request) as url:
        with Backend(configuration(url, encryption_key=None)) as backend:
            assert "ENCRYPTION_KEY is not set" in caplog.text
            legacy, stored = backend.add(), hash_password(RIGHT.encode(), COST, "hold")
            both = backend.add(passwordHash=stored)
            counted = Counted(monkeypatch)
            assert (backend.log_in(legacy, RIGHT).status_code, counted.take()) == (401, 1)
            assert (backend.log_in(both, RIGHT).status_code, counted.take()) == (200, 1)


@pytest.mark.parametrize("policy", ["truncate", "prehash"])
def test_a_long_password_is_upgraded_where_the_policy_says_how(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    password = "eighty bytes " * 7
    with account_database("sqlite", tmp_path, request) as url:
        with Backend(configuration(url, over_72_bytes=policy)) as backend:
            username = backend.add(password)
            counted = Counted(monkeypatch)
            token = backend.token(username, password)
            assert counted.take() == 1
            assert backend.row(username)["passwordHash"]
            assert (backend.log_in(username, password).status_code, counted.take()) == (200, 1)
            status = backend.log_in(username, password[:72]).status_code
            assert (status, counted.take()) == (200 if policy == "truncate" else 401, 1)
            assert backend.me(token).status_code == 200


@pytest.mark.parametrize(("policy", "status"), [("hold", 422), ("truncate", 422), ("prehash", 200)])
def test_a_password_that_is_chosen_now_is_never_cut(
    request: pytest.FixtureRequest, tmp_path: Path, policy: str, status: int
) -> None:
    chosen = "x" * 73
    with account_database("sqlite", tmp_path, request) as url:
        with Backend(configuration(url, over_72_bytes=policy)) as backend:
            username = backend.add()
            assert backend.change_password(backend.token(username), RIGHT, chosen).status_code == status
            assert backend.log_in(username, chosen[:72]).status_code == 401
            assert backend.log_in(username, chosen).status_code == (200 if status == 200 else 401)
