"""What goes wrong on the page: a sentence with the next step, or the way to the sign-in and back."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI, HTTPException

from system_migration import Migrator, Registry, Settings, connect
from system_migration.web import create_dashboard
from tests.web.serving import Increment, Served, listening

PAGES = ("", "/history", "/history/audit", "/m/002-increment/held", "/m/002-increment/held.csv", "/events")


def way_back(answer: httpx.Response) -> str:
    """Where the sign-in goes on."""
    assert answer.status_code == 303
    address = urlsplit(answer.headers["location"])
    assert (address.scheme, address.netloc, address.path) == ("", "", "/sign-in")
    (there,) = parse_qs(address.query)["next"]
    return there


@pytest.fixture
def stranger(api: Served) -> Iterator[httpx.Client]:
    with api.browser(None) as client:
        yield client


@pytest.mark.parametrize("page", PAGES)
def test_who_is_not_signed_in_is_led_to_the_sign_in_and_back(stranger: httpx.Client, page: str) -> None:
    answer = stranger.get(stranger.base_url.join(f"/migrations{page}"))
    assert way_back(answer) == f"/migrations{page}"
    assert answer.headers["cache-control"] == "no-store"
    assert way_back(stranger.get("/history", params={"migration": "a b&c"})) == "/migrations/history?migration=a+b%26c"


@pytest.mark.parametrize("page", PAGES)
def test_an_account_that_is_no_developers_is_told_so(api: Served, page: str) -> None:
    with api.browser("bob-token") as client:
        answer = client.get(client.base_url.join(f"/migrations{page}"))
    assert answer.status_code == 403
    assert "This account is not a developer" in answer.text
    assert "002-increment" not in answer.text
    assert '<form method="post" action="/sign-out">' in answer.text  # else they had no way to another account
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/m/no-such/held", 404),
        ("/m/no-such/held.csv", 404),
        ("/history?migration=no-such", 404),
        ("/history/audit?migration=no-such", 404),
        ("/runs/no-such/events", 404),
        ("/history?before=1", 422),
        ("/history/audit?before=x", 422),
        ("/m/002-increment/held?after=x", 422),
        ("/m/002-increment/held?code=" + "c" * 65, 422),
        ("/m/002-increment/held?key=%00", 422),
        ("/m/002-increment/held?code=%00", 422),
        ("/history?migration=%00", 422),
    ],
)
def test_what_is_not_there_or_not_readable_is_a_page_that_repeats_nothing(
    api: Served, address: str, status: int
) -> None:
    with api.browser() as client:
        answer = client.get(address)
    assert answer.status_code == status
    assert "<h1>" in answer.text
    assert 'href="/migrations"' in answer.text
    for word in ("no-such", "GET ", "Traceback", "c" * 65):
        assert word not in answer.text


@pytest.fixture
def nowhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page over a database that does not answer, and whose address has a password."""
    url = "postgresql+psycopg://migrator:p4ssw0rd@127.0.0.1:1/nothing"
    app = FastAPI()
    with Migrator(connect(url), Registry([Increment]), Settings()) as migrator:
        app.include_router(create_dashboard(migrator, require_developer=lambda: "ada"), prefix="/migrations")
        with listening(app) as address:
            yield f"{address}/migrations"


@pytest.mark.parametrize("page", ["", "/history", "/m/002-increment/held", "/m/002-increment/held.csv"])
def test_where_the_database_is_away_the_page_says_so_and_no_more(
    nowhere: str, page: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = httpx.get(f"{nowhere}{page}")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert "The database could not be reached" in answer.text
    for text in (answer.text, caplog.text):
        assert "p4ssw0rd" not in text
        assert "127.0.0.1:1" not in text
        assert "Traceback" not in text
    assert "OperationalError" in caplog.text


def test_without_a_sign_in_the_page_says_who_may_look(tmp_path_factory: pytest.TempPathFactory) -> None:
    def nobody() -> str:
        raise HTTPException(401, "Who are you?", {"WWW-Authenticate": "Basic"})

    app, file = FastAPI(), tmp_path_factory.mktemp("closed") / "closed.sqlite"
    engine = sa.create_engine(f"sqlite:///{file}")
    with Migrator(engine, Registry([Increment]), Settings(environment="staging")) as migrator:
        app.include_router(create_dashboard(migrator, require_developer=nobody), prefix="/x")
        with listening(app) as address:
            answer = httpx.get(f"{address}/x")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Basic")
    assert "Who are you?" in answer.text
