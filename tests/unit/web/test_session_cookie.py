"""How a session's cookie is written and read, over TLS and without; and whose forms count."""

from __future__ import annotations

import pytest
from fastapi import Request

from system_migration.web.same_origin import comes_from_elsewhere, is_same_origin
from system_migration.web.session_cookie import SessionCookie

PLAIN = "migrations=value; Path=/; HttpOnly; SameSite=Strict"
SECURE = "__Host-migrations=value; Path=/; HttpOnly; SameSite=Strict; Secure"


def request(scheme: str = "http", **headers: str) -> Request:
    """A request to `here.example:8000`."""
    given = {"host": "here.example:8000"} | {name.replace("_", "-"): value for name, value in headers.items()}
    raw = [(name.encode(), value.encode()) for name, value in given.items() if value]
    server = ("here.example", 8000)
    return Request({"type": "http", "method": "POST", "scheme": scheme, "path": "/", "server": server, "headers": raw})


@pytest.mark.parametrize(
    ("always", "asked", "written"),
    [
        (False, request(), PLAIN),
        (False, request(origin="http://here.example:8000"), PLAIN),
        (False, request("https"), SECURE),
        (False, request(origin="https://here.example"), SECURE),  # by a proxy whom the server does not believe
        (False, request(cookie="__Host-migrations=before"), SECURE),  # nor when the cookie is renewed
        (True, request(), SECURE),
        (True, request("https"), SECURE),
    ],
)
def test_over_tls_and_where_it_is_demanded_it_is_secure(always: bool, asked: Request, written: str) -> None:
    assert SessionCookie("migrations", always_secure=always).header(asked, "value") == written


BOTH = "migrations=plain; __Host-migrations=secure"


@pytest.mark.parametrize(
    ("always", "asked", "value"),
    [
        (False, request(), None),
        (False, request(cookie="migrations="), None),
        (False, request(cookie="migrations=plain"), "plain"),
        (False, request(cookie=BOTH), "secure"),
        (False, request("https", cookie="migrations=plain"), None),  # put there by whoever speaks plain HTTP
        (True, request(cookie="migrations=plain"), None),
        (True, request("https", cookie=BOTH), "secure"),
    ],
)
def test_one_that_is_not_secure_counts_only_where_it_may_be(always: bool, asked: Request, value: str | None) -> None:
    assert SessionCookie("migrations", always_secure=always).read(asked) == value


def test_each_form_of_it_that_the_browser_has_is_cleared() -> None:
    cookie = SessionCookie("migrations")
    assert cookie.headers_that_clear(request(cookie="other=1")) == []
    plain, secure = cookie.headers_that_clear(request(cookie=BOTH))
    assert plain == "migrations=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"
    assert secure == "__Host-migrations=; Path=/; HttpOnly; SameSite=Strict; Secure; Max-Age=0"


@pytest.mark.parametrize(
    ("origin", "kept"),
    [
        ("", True),
        ("https://here.example", True),
        ("http://here.example:8000", False),
        ("http://192.0.2.7", False),
        ("http://localhost:8000", True),
        ("http://page.localhost", True),
        ("http://127.0.0.1:8000", True),
        ("http://[::1]:8000", True),
        ("http://localhost.evil.example", False),
    ],
)
def test_a_secure_one_over_plain_http_is_kept_on_the_own_machine_alone(origin: str, kept: bool) -> None:
    asked = request(origin=origin)
    assert SessionCookie("migrations", always_secure=True).is_kept(asked) is kept
    assert SessionCookie("migrations").is_kept(asked)


@pytest.mark.parametrize("text", ["", "a b", "a;b", "a=b", "a,b", "é", "a\r\nb", '"a"'])
def test_what_could_be_read_as_more_than_a_cookie_is_not_written(text: str) -> None:
    with pytest.raises(ValueError, match="letters"):
        SessionCookie(text)
    with pytest.raises(ValueError, match="letters"):
        SessionCookie("migrations").header(request(), text)


@pytest.mark.parametrize(
    ("headers", "ours"),
    [
        ({}, True),  # no browser
        ({"sec_fetch_site": "same-origin"}, True),
        ({"sec_fetch_site": "none"}, True),
        ({"sec_fetch_site": "same-origin", "origin": "https://as-a-proxy-sees-it.example"}, True),
        ({"sec_fetch_site": "same-site"}, False),
        ({"sec_fetch_site": "cross-site"}, False),
        ({"sec_fetch_site": "cross-site", "origin": "http://here.example:8000"}, False),
        ({"sec_fetch_site": "anything"}, False),
        ({"origin": "http://here.example:8000"}, True),
        ({"origin": "https://HERE.example:8000"}, True),
        ({"origin": "http://here.example"}, False),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "http://here.example:8000.evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": "null", "host": ""}, False),
        ({"origin": "http://["}, False),  # which cannot be taken apart
        ({"origin": "http://[", "host": ""}, False),
    ],
)
def test_a_form_counts_when_a_page_of_ours_or_no_page_sent_it(headers: dict[str, str], ours: bool) -> None:
    assert is_same_origin(request(**headers)) is ours


def test_a_link_elsewhere_is_told_from_one_of_ours() -> None:
    sites = ["cross-site", "same-site", "same-origin", "none", ""]
    assert [comes_from_elsewhere(request(sec_fetch_site=site)) for site in sites] == [True, True, False, False, False]
