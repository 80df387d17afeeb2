"""The page of `migration serve`: signing in with a token of the file, over HTTP."""

from __future__ import annotations

import html
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import Header, HTTPException

from system_migration import Migrator, Registry, Settings
from system_migration.web.server import create_app
from system_migration.web.tokens import TokenFile, make_token
from tests.support.databases import application_engine
from tests.web.serving import PATIENCE, listening, make_items

ADA, ADA_LINE = make_token("ada")
EVE, EVE_LINE = make_token("eve")


def write(file: Path, *lines: str) -> None:
    fresh = file.with_suffix(".new")
    fresh.touch(0o600)
    fresh.write_text("\n".join(lines) + "\n", encoding="utf-8")
    os.replace(fresh, file)


@pytest.fixture(scope="module")
def migrator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Migrator]:
    engine = application_engine(f"sqlite:///{tmp_path_factory.mktemp('page') / 'page.sqlite'}")
    make_items(engine)
    with Migrator(engine, Registry([]), Settings(environment="staging"), executed_by="server") as migrator:
        yield migrator
    engine.dispose()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("tokens") / "tokens"
    write(file, ADA_LINE, EVE_LINE)
    return file


@pytest.fixture(scope="module")
def url(migrator: Migrator, file: Path) -> Iterator[str]:
    tokens = TokenFile(file)
    with listening(create_app(migrator, tokens.require, tokens)) as url:
        yield url


@contextmanager
def browser(url: str) -> Iterator[httpx.Client]:
    """A client that keeps its cookies, as a browser does."""
    with httpx.Client(base_url=url, timeout=PATIENCE, headers={"Origin": url}) as client:
        yield client


def sign_in(client: httpx.Client, token: str, **more: str) -> httpx.Response:
    return client.post("/auth/sign-in", data={"token": token} | more)


def test_a_developer_signs_in_with_a_token_and_out(url: str) -> None:
    with browser(url) as client:
        sent_away = client.get("/migrations?x=1")
        assert (sent_away.status_code, sent_away.headers["location"]) == (
            303,
            "/auth/sign-in?next=%2Fmigrations%3Fx%3D1",
        )
        form = client.get(sent_away.headers["location"])
        assert form.status_code == 200
        assert 'type="password" value="" autocomplete="current-password"' in form.text
        assert 'name="next" value="/migrations?x=1"' in form.text

        signed_in = sign_in(client, f" {ADA}\n", next="/migrations?x=1")
        assert (signed_in.status_code, signed_in.headers["location"]) == (303, "/migrations?x=1")
        (stored,) = signed_in.headers.get_list("set-cookie")
        name, _, rest = stored.partition("=")
        value, _, attributes = rest.partition("; ")
        assert attributes == "Path=/; HttpOnly; SameSite=Strict"
        assert value not in (ADA, ADA_LINE.partition(":")[2])
        seen = client.get("/migrations")
        assert seen.status_code == 200
        assert "ada" in seen.text
        assert ADA not in seen.text

        signed_out = client.post("/auth/sign-out")
        assert signed_out.headers.get_list("set-cookie") == [f"{name}=; {attributes}; Max-Age=0"]
        assert "You are signed out." in client.get(signed_out.headers["location"]).text
        copy = client.get("/migrations", headers={"Cookie": f"{name}={value}"})
        assert copy.status_code == 303


def test_the_address_without_a_path_leads_to_the_page(url: str) -> None:
    answer = httpx.get(f"{url}/", headers={"Host": "elsewhere.example"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/migrations")
    assert httpx.get(f"{url}/nothing").status_code == 404


def test_behind_a_prefix_every_way_leads_to_behind_the_prefix(migrator: Migrator, file: Path) -> None:
    tokens = TokenFile(file)
    with listening(create_app(migrator, tokens.require, tokens), root_path="/x") as url, browser(url) as client:
        assert client.get("/").headers["location"] == "/x/migrations"
        sent_away = client.get("/migrations").headers["location"]
        assert sent_away == "/x/auth/sign-in?next=%2Fx%2Fmigrations"
        assert 'action="/x/auth/sign-in"' in client.get(sent_away.removeprefix("/x")).text
        assert sign_in(client, ADA, next="/x/migrations").headers["location"] == "/x/migrations"
        assert '<form method="post" action="/x/auth/sign-out">' in client.get("/migrations").text
        assert client.post("/auth/sign-out").headers["location"] == "/x/auth/sign-in?signed-out=yes"


def test_what_is_code_in_a_sentence_is_code_on_the_form(url: str) -> None:
    form = httpx.get(f"{url}/auth/sign-in").text
    assert "<code>migration serve --make-token</code>" in form
    assert "`" not in form


def test_by_tls_the_cookie_is_secure(url: str) -> None:
    with browser(url) as client:
        behind_proxy = client.post(
            "/auth/sign-in", data={"token": ADA}, headers={"X-Forwarded-Proto": "https", "Origin": url}
        )
        (stored,) = behind_proxy.headers.get_list("set-cookie")
    assert stored.startswith("__Host-")
    assert stored.endswith("; Path=/; HttpOnly; SameSite=Strict; Secure")


@pytest.mark.parametrize("typed", ["", "wrong", ADA_LINE, ADA_LINE.partition(":")[2], "é" * 40])
def test_another_token_is_refused_and_not_shown_again(url: str, typed: str) -> None:
    with browser(url) as client:
        answer = sign_in(client, typed)
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
        assert "This token is not one of the token file's." in html.unescape(answer.text)
        assert not typed or typed not in html.unescape(answer.text)


def test_neither_a_session_nor_a_token_is_good_at_the_other_door(url: str) -> None:
    with browser(url) as client:
        sign_in(client, ADA)
        ((name, value),) = client.cookies.items()
        bearer = {"Authorization": f"Bearer {value}"}
        assert client.get("/migration/status", headers=bearer).status_code == 401
        assert client.get("/migration/status").status_code == 401  # with the cookie
        client.cookies.clear()
        assert client.get("/migrations", headers={"Authorization": f"Bearer {ADA}"}).status_code == 303
        assert client.get("/migrations", headers={"Cookie": f"{name}={ADA}"}).status_code == 303


def test_a_session_ends_when_its_line_leaves_the_file(url: str, file: Path) -> None:
    with browser(url) as ada, browser(url) as eve:
        assert [sign_in(ada, ADA).status_code, sign_in(eve, EVE).status_code] == [303, 303]
        write(file, ADA_LINE)
        try:
            assert [client.get("/migrations").status_code for client in (ada, eve)] == [200, 303]
        finally:
            write(file, ADA_LINE, EVE_LINE)


def test_while_the_file_cannot_be_used_nobody_gets_in_and_only_the_log_says_why(
    url: str, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with browser(url) as client:
        sign_in(client, ADA)
        file.chmod(0o644)
        try:
            for answer in (sign_in(client, ADA), client.get("/migrations")):
                assert answer.status_code == 500
                assert "The tokens cannot be checked just now; the server's log says why." in html.unescape(answer.text)
                assert str(file) not in answer.text
        finally:
            write(file, ADA_LINE, EVE_LINE)
    assert "is open to others" in caplog.text
    assert ADA not in caplog.text


def test_another_sites_form_signs_nobody_in_or_out(url: str) -> None:
    with browser(url) as client:
        sign_in(client, ADA)
        for path in ("/auth/sign-in", "/auth/sign-out"):
            answer = client.post(path, data={"token": EVE}, headers={"Origin": "http://evil.example"})
            assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)
        assert client.get("/migrations").status_code == 200


def test_each_environment_has_a_cookie_of_its_own(url: str, file: Path, migrator: Migrator, tmp_path: Path) -> None:
    """To a browser all ports of a machine are one place: signing in at one must not sign out at another."""
    tokens = TokenFile(file)
    (tmp_path / "other.sqlite").touch()
    engine = application_engine(f"sqlite:///{tmp_path}/other.sqlite")
    with Migrator(engine, Registry([]), Settings(environment="production")) as other:
        with listening(create_app(other, tokens.require, tokens)) as production, browser(url) as client:
            sign_in(client, ADA)
            at_production = client.post(
                f"{production}/auth/sign-in", data={"token": ADA}, headers={"Origin": production}
            )
            assert at_production.status_code == 303
            assert len(client.cookies) == 2
            assert [client.get(f"{each}/migrations").status_code for each in (url, production)] == [200, 200]
    engine.dispose()


def test_the_hosts_own_dependency_decides_for_the_page_as_well(migrator: Migrator) -> None:
    def developer(x_account: str | None = Header(None)) -> str:
        if x_account is None:
            raise HTTPException(401, "Who are you?")
        return f"account {x_account}"

    with listening(create_app(migrator, developer)) as url, browser(url) as client:
        stranger = client.get("/migrations")
        assert (stranger.status_code, "Who are you?" in stranger.text) == (401, True)
        assert client.get("/migrations", headers={"X-Account": "7"}).status_code == 200
        assert client.get("/auth/sign-in").status_code == 404
        assert client.post("/auth/sign-in", data={"token": ADA}).status_code == 404
