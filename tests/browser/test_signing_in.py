"""Signing in by a browser: with what it does about cookies, forms of other sites and links by itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from ante_backend.passwords import hash_password
from tests.browser.axe import violations
from tests.browser.conftest import NewVisitor, Visitor
from tests.browser.keyboard import walk
from tests.browser.measuring import sticking_out
from tests.browser.watching import Watch
from tests.support.backend import COST, Backend, account_database, configuration

RIGHT = "the right password"
WANTED = "/migrations?typed=%22%3E%C3%A9"


@pytest.fixture(scope="module")
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    with account_database("sqlite", tmp_path_factory.mktemp("signing-in"), request) as url:
        with Backend(configuration(url)) as backend:  # no development: the cookie is Secure, also on this machine
            yield backend


@pytest.fixture(scope="module")
def address(backend: Backend) -> str:
    return str(backend.client.base_url).rstrip("/")


@pytest.fixture(scope="module")
def developer(backend: Backend) -> str:
    return backend.add(None, isDeveloper=True, passwordHash=hash_password(RIGHT.encode(), COST, "hold"))


def sign_in(page: Page, username: str, password: str = RIGHT) -> None:
    page.get_by_label("Username or e-mail").fill(username)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def test_a_developer_signs_in_and_out(page: Page, watch: Watch, address: str, developer: str) -> None:
    page.goto(address + WANTED)
    watch.expect("status of 401")
    sign_in(page, developer, "a wrong password")
    expect(page.get_by_role("alert")).to_have_text("The name or the password is wrong.")
    expect(page.get_by_label("Username or e-mail")).to_have_value(developer)
    expect(page.get_by_label("Password")).to_have_value("")
    sign_in(page, developer)
    page.wait_for_url(address + WANTED)
    assert page.evaluate("document.cookie") == ""
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("status")).to_have_text("You are signed out.")
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


def test_whoever_is_no_developer_is_told_so(page: Page, watch: Watch, backend: Backend, address: str) -> None:
    page.goto(f"{address}/migrations")
    watch.expect("status of 403")
    sign_in(page, backend.add())
    expect(page.get_by_role("alert")).to_contain_text("This account is not a developer's")
    page.goto(f"{address}/migrations")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


def test_it_does_without_scripts(new_visitor: NewVisitor, address: str, developer: str) -> None:
    page = new_visitor(java_script_enabled=False).page
    page.goto(address + WANTED)
    sign_in(page, developer)
    page.wait_for_url(address + WANTED)


@contextmanager
def elsewhere(body: str) -> Iterator[str]:
    """The address of a page of another site that says this."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(f"<!doctype html><title>Elsewhere</title>{body}".encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://localhost:{server.server_address[1]}"  # to a browser another site than 127.0.0.1
        finally:
            server.shutdown()
            thread.join()


def test_a_link_on_another_site_leads_who_is_signed_in_to_the_page(page: Page, address: str, developer: str) -> None:
    with elsewhere(f'<a href="{address}{WANTED}">Look</a>') as url:
        page.goto(url)
        forms: list[str] = []  # the first one asks again at once, with the cookie that it may be shown: none
        with page.expect_event("framenavigated", lambda frame: forms.append(frame.url) or len(forms) == 2):
            page.get_by_role("link", name="Look").click()
        sign_in(page, developer)
        page.wait_for_url(address + WANTED)
        page.goto(url)
        page.get_by_role("link", name="Look").click()
        page.wait_for_url(address + WANTED)


@pytest.mark.parametrize("path", ["/auth/sign-in", "/auth/sign-out"])
def test_a_form_of_another_site_signs_nobody_in_or_out(
    visitor: Visitor, address: str, developer: str, path: str
) -> None:
    page, is_signed_in = visitor.page, path == "/auth/sign-out"
    if is_signed_in:
        page.goto(address + WANTED)
        sign_in(page, developer)
        page.wait_for_url(address + WANTED)
    visitor.watch.expect("status of 403")
    fields = f'<input name="username" value="{developer}"><input name="password" value="{RIGHT}">'
    with elsewhere(f'<form method="post" action="{address}{path}">{fields}<button>Win</button></form>') as url:
        page.goto(url)
        page.get_by_role("button", name="Win").click()
        expect(page.get_by_role("alert")).to_contain_text("the form was sent from another site's page")
    page.goto(f"{address}/migrations")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Migrations" if is_signed_in else "Sign in")


def test_nothing_in_the_form_keeps_anybody_out(page: Page, watch: Watch, address: str) -> None:
    page.goto(f"{address}/auth/sign-in?signed-out=yes&next={quote(WANTED, safe='')}")
    assert violations(page) == []
    watch.expect("status of 401")
    sign_in(page, "nobody")
    page.get_by_role("alert").wait_for()
    assert violations(page) == []
    assert sticking_out(page) == []
    page.goto(f"{address}/auth/sign-in")
    names = [stop.name for stop in walk(page)]
    assert names == ["Skip to the content", "System Migration", "Username or e-mail", "Password", "Sign in", "Show UTC"]
