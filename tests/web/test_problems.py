"""Whatever goes wrong is answered in one form, and without a word of what was sent or what the error says."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict

from system_migration import errors
from system_migration.web import install_problem_handlers
from system_migration.web.problems import KINDS, answer_to, kind_of
from tests.unit.cli.test_exit_codes import CLASSES, make
from tests.web.serving import listening

SECRET = "swordfish-and-chips"
STATUS = {
    "UnknownMigration": 404,
    "UnknownRun": 404,
    "InvalidKey": 422,
    "UnreadableKey": 422,
    "Interrupted": 503,
    **dict.fromkeys(["Refused", "HeldElsewhere", "LeaseLost", "Paused", "Cancelled", "MigrationFailed"], 409),
    **dict.fromkeys(
        [
            *("VerificationFailed", "Withdrawn", "NotHeld", "ChangedMeanwhile", "NotApproved", "WaitsForSchema"),
            "AuditKeyError",
        ],
        409,
    ),
    **dict.fromkeys(["MigrationSystemError", "ConfigurationError", "LoadError"], 500),
}


class Login(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    password: str


async def breaking() -> Iterator[bytes]:
    yield b"begun"
    raise ValueError(SECRET)


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    """A host's application whose own routes fail in every way."""
    app = FastAPI()
    install_problem_handlers(app)

    @app.get("/unexpected")
    def unexpected() -> None:
        raise ValueError(SECRET)

    @app.get("/database")
    def database() -> None:
        raise sa.exc.OperationalError(SECRET, {"password": SECRET}, Exception(SECRET))

    @app.get("/ours")
    def ours() -> None:
        raise errors.Refused("Not now.")

    @app.get("/misconfigured")
    def misconfigured() -> None:
        try:
            raise errors.LoadError("001_a.py does not load.")
        except errors.LoadError as error:
            raise errors.ConfigurationError("No migrations.") from error

    @app.get("/closed")
    def closed() -> None:
        raise HTTPException(503, "Closed.")

    @app.get("/teapot")
    def teapot() -> None:
        raise HTTPException(418, "I am one.", {"X-Kind": "brown"})

    @app.get("/broken")
    def broken() -> StreamingResponse:
        return StreamingResponse(breaking())

    @app.post("/login")
    def login(login: Login) -> None: ...

    with listening(app) as url, httpx.Client(base_url=url) as client:
        yield client


@pytest.mark.parametrize("kind", sorted(CLASSES, key=lambda kind: kind.__name__))
def test_each_of_our_errors_has_its_status(kind: type[BaseException]) -> None:
    assert kind_of(make(kind)).status == STATUS[kind.__name__]


def test_each_kind_has_one_status_and_one_title() -> None:
    assert len({kind.slug for kind in KINDS.values()} - {"failed"}) == len(set(KINDS.values())) - 2


@pytest.mark.parametrize(
    ("path", "status", "kind"),
    [
        ("/unexpected", 500, "urn:system-migration:unexpected"),
        ("/database", 503, "urn:system-migration:database"),
        ("/ours", 409, "urn:system-migration:refused"),
        ("/teapot", 418, "about:blank"),
        ("/nowhere", 404, "about:blank"),
    ],
)
def test_a_host_s_own_routes_fail_in_the_same_form(
    client: httpx.Client, caplog: pytest.LogCaptureFixture, path: str, status: int, kind: str
) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.headers["cache-control"] == "no-store"
    document = answer.json()
    assert (document["type"], document["status"]) == (kind, status)
    assert document["title"]
    assert document["detail"]
    assert SECRET not in answer.text + caplog.text
    assert "Traceback" not in caplog.text


def test_headers_of_a_refusal_stay(client: httpx.Client) -> None:
    assert client.get("/teapot").headers["x-kind"] == "brown"
    assert client.get("/database").headers["retry-after"] == "5"


def test_what_nobody_expected_is_logged_with_its_place_alone(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        client.get("/unexpected")
    (record,) = caplog.records
    assert record.getMessage().startswith("ValueError at ")
    assert record.getMessage().partition(" at ")[2].partition(":")[0] == __file__


def test_what_is_the_server_s_own_fault_is_logged_in_its_own_words(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    assert client.get("/misconfigured").status_code == 500
    (record,) = caplog.records
    assert (record.getMessage(), record.levelname) == ("No migrations. (001_a.py does not load.)", "ERROR")


@pytest.mark.parametrize("path", ["/ours", "/closed", "/nowhere"])
def test_what_is_answered_on_purpose_is_not_logged(
    client: httpx.Client, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    client.get(path)
    assert caplog.records == []


def test_an_answer_that_breaks_off_tells_nothing(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        client.get("/broken")
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "body",
    [
        {"name": 5, "password": SECRET},
        {"password": SECRET},
        {"name": "ada", "password": [SECRET]},
        {"name": "ada", "password": "x", SECRET: True},
        SECRET,
    ],
)
def test_what_was_sent_is_never_repeated(client: httpx.Client, body: object) -> None:
    answer = client.post("/login", json=body)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:system-migration:invalid-request")
    assert answer.json()["errors"]
    assert SECRET not in answer.text


def test_a_body_that_is_no_json_is_refused(client: httpx.Client) -> None:
    answer = client.post("/login", content=b'{"name": "\\ud800', headers={"content-type": "application/json"})
    assert answer.status_code == 422


def test_an_unknown_name_is_not_quoted() -> None:
    answer = answer_to(errors.UnknownMigration(SECRET, ("001-a",)))
    assert SECRET.encode() not in bytes(answer.body)
