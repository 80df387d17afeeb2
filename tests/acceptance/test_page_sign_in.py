"""Signing in to the page of the backend: who gets in, for how long, where to, and who is kept out."""

from __future__ import annotations

import html
import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import httpx
import jwt
import pytest

from ante_backend.app import create_app
from ante_backend.attempts import NAME_LIMIT
from ante_backend.page_sessions import IDLE_SECONDS, LIMIT_SECONDS, RENEW_SECONDS
from ante_backend.passwords import hash_password
from tests.support.backend import COST, SECRET, Backend, account_database, configuration
from tests.unit.web.test_local_paths import STRANGE

RIGHT = "the right password"
REFUSED = "The name or the password is wrong."
FORM = "application/x-www-form-urlencoded"
OVERVIEW = "/migrations?typed=%22%3E%C3%A9%0D%0A"
START = "/migrations/m/001-password-bcrypt/start?maxIssues=3&reason=%22%3E%C3%A9"


class Now:
    """The clock of sessions, which the tests set."""

    def __init__(self) -> None:
        self.ahead = 0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture(scope="module")
def clock() -> Now:
    return Now()


@pytest.fixture(scope="module")
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, clock: Now) -> Iterator[Backend]:
    with account_database("sqlite", tmp_path_factory.mktemp("page"), request) as url:
        config = configuration(url)
        with Backend(config, create_app(config, clock)) as backend:
            yield backend


@pytest.fixture
def developer(backend: Backend) -> str:
    return backend.add(None, isDeveloper=True, passwordHash=hash_password(RIGHT.encode(), COST, "hold"))


@pytest.fixture
def now(clock: Now) -> Iterator[Now]:
    yield clock
    clock.ahead = 0


def sign_in(backend: Backend, username: str, password: str = RIGHT, **more: str) -> httpx.Response:
    headers = {name.replace("_", "-"): value for name, value in more.items() if name != "next"}
    form = {"username": username, "password": password} | ({"next": more["next"]} if "next" in more else {})
    return backend.client.post("/auth/sign-in", data=form, headers=headers)


def cookie_of(answer: httpx.Response) -> str:
    """The cookie that an answer stores, as a browser sends it back."""
    (stored,) = answer.headers.get_list("set-cookie")
    return stored.partition(";")[0]


def page(backend: Backend, cookie: str | None, path: str = "/migrations") -> httpx.Response:
    return backend.client.get(path, headers={"Cookie": cookie.encode()} if cookie else {})


def assert_on_the_form(answer: httpx.Response, status: int, sentence: str) -> None:
    """The sign-in form with this sentence, and nobody signed in."""
    assert answer.status_code == status, answer.text
    assert "set-cookie" not in answer.headers
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert sentence in html.unescape(answer.text)
    assert '<form method="post" action="/auth/sign-in"' in answer.text
    assert RIGHT not in html.unescape(answer.text)
    assert "Traceback" not in answer.text


def value_of(name: str, answer: httpx.Response) -> str:
    """What a field of the form is filled with."""
    (tag,) = re.findall(rf'<input[^>]* name="{name}"[^>]*>', answer.text)
    found = re.search(r' value="([^"]*)"', tag)
    return html.unescape(found[1]) if found else ""


# In and out


def test_who_is_not_signed_in_comes_back_to_the_page_with_what_was_typed(backend: Backend, developer: str) -> None:
    sent_away = page(backend, None, OVERVIEW)
    assert sent_away.status_code == 303
    form = backend.client.get(sent_away.headers["location"])
    assert_on_the_form(form, 200, "Sign in")
    assert value_of("next", form) == OVERVIEW
    assert 'autocomplete="username"' in form.text
    assert 'type="password" value="" autocomplete="current-password"' in form.text
    signed_in = sign_in(backend, developer, next=value_of("next", form))
    assert (signed_in.status_code, signed_in.headers["location"]) == (303, OVERVIEW)
    assert signed_in.headers["cache-control"] == "no-store"
    assert page(backend, cookie_of(signed_in)).status_code == 200


def test_the_cookie_is_for_this_host_alone_and_no_script(backend: Backend, developer: str) -> None:
    answer = sign_in(backend, developer)
    assert answer.headers["location"] == "/migrations"
    (stored,) = answer.headers.get_list("set-cookie")
    name, _, rest = stored.partition("=")
    value, *attributes = rest.split("; ")
    assert name == "__Host-migrations"
    assert set(attributes) == {"Path=/", "HttpOnly", "SameSite=Strict", "Secure"}
    claims = jwt.decode(value, SECRET, algorithms=["HS256"], audience="migration-page")
    assert claims.keys() == {"sub", "iat", "exp", "jti", "iss", "aud", "pwv", "auth_time"}
    assert claims["sub"] == backend.row(developer)["id"]
    plain = page(backend, f"migrations={value}")
    assert plain.status_code == 303  # one that is not Secure is not looked at here


def test_in_development_the_cookie_does_without_tls(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    with account_database("sqlite", tmp_path, request) as url:
        with Backend(configuration(url, environment="development")) as backend:
            username = backend.add(isDeveloper=True)
            (stored,) = sign_in(backend, username).headers.get_list("set-cookie")
            assert stored.startswith("migrations=")
            assert stored.partition("; ")[2] == "Path=/; HttpOnly; SameSite=Strict"
            assert page(backend, stored.partition(";")[0]).status_code == 200
            (behind_proxy,) = sign_in(backend, username, X_Forwarded_Proto="https").headers.get_list("set-cookie")
            assert behind_proxy.startswith("__Host-migrations=")
            assert behind_proxy.endswith("; Secure")


def test_signing_out_clears_the_cookie_and_says_so(backend: Backend, developer: str) -> None:
    cookie = cookie_of(sign_in(backend, developer))
    assert backend.client.get("/auth/sign-out").status_code == 405
    forged = backend.client.post("/auth/sign-out", headers={"Cookie": cookie, "Origin": "https://evil.example"})
    assert_on_the_form(forged, 403, "the form was sent from another site's page")
    answer = backend.client.post("/auth/sign-out", headers={"Cookie": cookie}, data={"token": "of the page"})
    assert answer.status_code == 303
    assert answer.headers.get_list("set-cookie") == [
        "__Host-migrations=; Path=/; HttpOnly; SameSite=Strict; Secure; Max-Age=0"
    ]
    assert_on_the_form(backend.client.get(answer.headers["location"]), 200, "You are signed out.")


def test_a_copy_of_a_cookie_is_worth_nothing_after_signing_out(backend: Backend, developer: str, now: Now) -> None:
    cookie, other = cookie_of(sign_in(backend, developer)), cookie_of(sign_in(backend, developer))
    now.ahead += RENEW_SECONDS + 1
    late = renewed(backend, cookie)  # by an answer that comes when the person has left
    assert late is not None
    assert backend.client.post("/auth/sign-out", headers={"Cookie": cookie}).status_code == 303
    assert [page(backend, each).status_code for each in (cookie, late, other)] == [303, 303, 200]
    assert sign_in(backend, developer, Cookie=other).status_code == 303  # anew, in the same browser
    assert page(backend, other).status_code == 303


# Who gets in


def test_every_wrong_name_or_password_is_refused_in_the_same_words(backend: Backend, developer: str) -> None:
    inactive = backend.add(isDeveloper=True, status="INACTIVE")
    deleted = backend.add(isDeveloper=True, isDeleted=True)
    tried = [(developer, "wrong"), (developer, ""), (developer, "x" * 1024), ("nobody", RIGHT), ("", RIGHT)]
    for username, password in [*tried, (inactive, RIGHT), (deleted, RIGHT)]:
        answer = sign_in(backend, username, password, next=START)
        assert_on_the_form(answer, 401, REFUSED)
        assert (value_of("username", answer), value_of("password", answer)) == (username, "")
        assert value_of("next", answer) == START


def test_who_is_no_developer_is_told_so_and_not_signed_in(backend: Backend) -> None:
    username = backend.add()
    assert_on_the_form(sign_in(backend, username), 403, "This account is not a developer's")
    assert_on_the_form(sign_in(backend, username, "wrong"), 401, REFUSED)


def test_signing_in_counts_as_logging_in_and_is_throttled_alike(backend: Backend, developer: str) -> None:
    attempts = backend.app.state.authentication.attempts
    for _ in range(NAME_LIMIT - 1):
        attempts.begin(f"name {developer}", "192.0.2.1")
    assert_on_the_form(sign_in(backend, developer, "wrong"), 401, REFUSED)
    answer = sign_in(backend, developer, next=START)
    assert_on_the_form(answer, 429, "Too many attempts. Wait, then try again.")
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert value_of("next", answer) == START
    assert backend.log_in(developer, RIGHT).status_code == 429


def test_a_database_that_is_away_is_a_sentence_on_the_form(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "away.sqlite").touch()
    with Backend(configuration(f"sqlite:///{tmp_path}/away.sqlite")) as backend:  # no table in it
        answer = sign_in(backend, "somebody")
    assert_on_the_form(answer, 503, "The database could not be reached")
    assert answer.headers["retry-after"] == "5"
    assert RIGHT not in caplog.text


# What a session is worth


def test_a_session_is_no_bearer_token_and_a_bearer_token_no_session(backend: Backend, developer: str) -> None:
    cookie, token = cookie_of(sign_in(backend, developer)), backend.token(developer)
    value = cookie.partition("=")[2]
    assert backend.me(value).status_code == 401
    asked = backend.client.get("/migration/status", headers={"Authorization": f"Bearer {value}"})
    assert asked.status_code == 401
    assert backend.client.get("/migration/status", headers={"Cookie": cookie}).status_code == 401
    assert page(backend, f"__Host-migrations={token}").status_code == 303
    assert backend.client.get("/migrations", headers={"Authorization": f"Bearer {token}"}).status_code == 303
    assert page(backend, cookie).status_code == 200


def test_only_a_genuine_session_passes(backend: Backend, developer: str) -> None:
    value = cookie_of(sign_in(backend, developer)).partition("=")[2]
    claims = jwt.decode(value, SECRET, algorithms=["HS256"], audience="migration-page")
    seconds = int(time.time())
    changes = [{"aud": "migration-admin"}, {"aud": ["migration-page"]}, {"auth_time": str(seconds)},
               {"auth_time": None}, {"auth_time": True}, {"exp": seconds - 1}, {"iat": seconds + 60},
               {"sub": "nobody"}, {"pwv": "0" * 32}]  # fmt: skip
    forged = [jwt.encode({k: v for k, v in (claims | change).items() if v is not None}, SECRET) for change in changes]
    forged += [jwt.encode(claims, "another secret of more than 32 bytes"), value[:-2], "", "x", f'"{value}', "é"]
    for each in forged:
        assert page(backend, f"__Host-migrations={each}").status_code == 303, each
    assert page(backend, f"__Host-migrations={jwt.encode(claims, SECRET)}").status_code == 200


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"isDeveloper": False}, 403),
        ({"status": "INACTIVE"}, 303),
        ({"isDeleted": True}, 303),
        ({"passwordHash": hash_password(b"another password", COST, "hold")}, 303),
    ],
    ids=["no developer", "inactive", "deleted", "another password"],
)
def test_the_database_decides_at_every_request(
    backend: Backend, developer: str, change: dict[str, object], status: int
) -> None:
    cookie = cookie_of(sign_in(backend, developer))
    assert page(backend, cookie).status_code == 200
    backend.change(developer, **change)
    assert page(backend, cookie).status_code == status


def test_a_new_password_ends_the_sessions_of_all_browsers(backend: Backend, developer: str) -> None:
    cookies = [cookie_of(sign_in(backend, developer)) for _ in range(2)]
    assert backend.change_password(backend.token(developer), RIGHT, "another password").status_code == 200
    assert [page(backend, cookie).status_code for cookie in cookies] == [303, 303]


def renewed(backend: Backend, cookie: str, path: str = "/migrations") -> str | None:
    """The cookie that the answer puts in this one's place."""
    with backend.client.stream("GET", path, headers={"Cookie": cookie}) as answer:
        assert answer.status_code == 200, answer.headers
        return cookie_of(answer) if "set-cookie" in answer.headers else None


@pytest.mark.parametrize("path", ["/migrations", "/migrations/events"], ids=["a page", "an event stream"])
def test_a_session_is_renewed_as_it_is_used(backend: Backend, developer: str, now: Now, path: str) -> None:
    cookie = cookie_of(sign_in(backend, developer))
    now.ahead += RENEW_SECONDS - 5
    assert renewed(backend, cookie, path) is None
    now.ahead += 10
    fresh = renewed(backend, cookie, path)
    assert fresh is not None
    now.ahead += IDLE_SECONDS - 10
    assert page(backend, cookie).status_code == 303  # the old one lasts no longer than it did
    assert page(backend, fresh).status_code == 200
    now.ahead += 10
    assert page(backend, fresh).status_code == 303


def test_a_session_ends_twelve_hours_after_the_password_was_typed(backend: Backend, developer: str, now: Now) -> None:
    cookie = cookie_of(sign_in(backend, developer))
    began = time.time()
    while now() + IDLE_SECONDS < began + LIMIT_SECONDS:
        now.ahead += IDLE_SECONDS - 60
        cookie = renewed(backend, cookie) or cookie
    now.ahead = LIMIT_SECONDS - 30
    cookie = renewed(backend, cookie) or cookie
    assert page(backend, cookie).status_code == 200
    now.ahead = LIMIT_SECONDS + 1
    assert page(backend, cookie).status_code == 303


def test_an_open_page_does_not_lose_its_session_between_two_streams() -> None:
    from system_migration.web.following import STREAM_SECONDS

    assert RENEW_SECONDS + STREAM_SECONDS + 60 <= IDLE_SECONDS


# Forgeries


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_sites_form_signs_nobody_in(backend: Backend, developer: str, headers: dict[str, str]) -> None:
    answer = sign_in(backend, developer, **headers)
    assert_on_the_form(answer, 403, "the form was sent from another site's page")
    for ours in ({"Origin": str(backend.client.base_url)}, {"Sec-Fetch-Site": "same-origin"}):
        assert sign_in(backend, developer, **ours).status_code == 303


def test_over_plain_http_it_says_that_the_browser_would_forget(backend: Backend, developer: str) -> None:
    answer = sign_in(backend, developer, Host="here.example", Origin="http://here.example")
    assert_on_the_form(answer, 403, "here that needs HTTPS")


@pytest.mark.parametrize("strange", [path for path in STRANGE if path and len(path) < 1000])
def test_nobody_is_led_away(backend: Backend, strange: str) -> None:
    form = backend.client.get("/auth/sign-in", params={"next": strange})
    assert value_of("next", form) == "/migrations"


def test_a_form_that_leads_away_leads_to_the_overview(backend: Backend, developer: str) -> None:
    for strange in ("//evil.example", "/\\evil.example", "https://evil.example", "/migrations\r\nX: y", "/auth/me"):
        assert sign_in(backend, developer, next=strange).headers["location"] == "/migrations"


def test_a_link_on_another_site_finds_who_is_signed_in(backend: Backend) -> None:
    """A browser withholds the cookie from such a request; the form's page asks again, and does so once."""
    asked = {"next": START}
    from_elsewhere = backend.client.get("/auth/sign-in", params=asked, headers={"Sec-Fetch-Site": "cross-site"})
    assert from_elsewhere.headers["refresh"] == f"0; url={START}"
    from_here = backend.client.get("/auth/sign-in", params=asked, headers={"Sec-Fetch-Site": "same-origin"})
    assert "refresh" not in from_here.headers
    strange = {"next": "https://evil.example"}
    led = backend.client.get("/auth/sign-in", params=strange, headers={"Sec-Fetch-Site": "cross-site"})
    assert led.headers["refresh"] == "0; url=/migrations"


# Junk


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"username=a&username=b&password=c", FORM),
        (b"username=a&password=c&password=d", FORM),
        (b"username=a&password=c&next=%2Fmigrations&next=%2Fmigrations", FORM),
        (b"username=a&password=c&more=d", FORM),
        (b"username=a&password=%ff", FORM),
        (b"username=a&password=%00", FORM),
        (b"username=%ed%b3%bf&password=a", FORM),
        (b"username", FORM),
        (b"\xff\xfe", FORM),
        (b"&".join([b"a=b"] * 4000), FORM),
        (urlencode({"username": "a" * 321, "password": "c"}).encode(), FORM),
        (urlencode({"username": "a", "password": "c" * 1025}).encode(), FORM),
        (b'{"username": "a", "password": "c"}', "application/json"),
        (b"username=a&password=c", "text/plain"),
        (b"--x\r\n\r\n", "multipart/form-data; boundary=x"),
        (b"username=a&password=c", ""),
    ],
)
def test_what_is_not_the_form_is_one_sentence(backend: Backend, body: bytes, kind: str) -> None:
    answer = backend.client.post("/auth/sign-in", content=body, headers={"Content-Type": kind})
    assert_on_the_form(answer, 422, 'role="alert"')


def test_an_empty_form_is_a_wrong_password(backend: Backend) -> None:
    answer = backend.client.post("/auth/sign-in", content=b"", headers={"Content-Type": FORM})
    assert_on_the_form(answer, 401, REFUSED)


def test_a_long_form_is_refused(backend: Backend) -> None:
    declared = backend.client.post("/auth/sign-in", data={"username": "a", "password": "x" * 16_384})
    assert (declared.status_code, declared.json()["detail"]) == (413, "The request is longer than 16384 bytes.")

    def chunks() -> Iterator[bytes]:
        yield from [b"username=a&password="] + [b"x" * 1024] * 17

    undeclared = backend.client.post("/auth/sign-in", content=chunks(), headers={"Content-Type": FORM})
    assert_on_the_form(undeclared, 413, "The request is longer than 16384 bytes.")


def test_a_form_of_the_page_may_be_longer(backend: Backend, developer: str) -> None:
    """In it many rows may be chosen."""
    headers = {"Cookie": cookie_of(sign_in(backend, developer))}
    answer = backend.client.post("/migrations/m/nothing/run", data={"keys": "x" * 20_000}, headers=headers)
    assert answer.status_code not in (413, 500)


def test_markup_in_what_is_shown_again_is_text(backend: Backend) -> None:
    answer = sign_in(backend, '"><script>alert(1)</script>', "wrong")
    assert "<script>alert" not in answer.text
    assert value_of("username", answer) == '"><script>alert(1)</script>'


def test_the_log_has_neither_names_nor_passwords_nor_what_was_typed(
    backend: Backend, developer: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "httpx")  # the client's own
    caplog.set_level(logging.INFO)
    asked = page(backend, None, "/migrations?fromKey=jane.doe%40example.test").headers["location"]
    backend.client.get(asked)
    backend.client.get("/auth/sign-in?next=" + quote("/migrations?key=jane.doe", safe=""))
    cookie = cookie_of(sign_in(backend, developer, next="/migrations?key=jane.doe"))
    sign_in(backend, "jane.doe", "a guess at it")
    backend.client.post(
        "/auth/sign-in", content=b"username=jane.doe&password=a%20guess&x", headers={"Content-Type": FORM}
    )
    assert '"GET /auth/sign-in HTTP/1.1" 200' in caplog.text
    secrets = ["jane.doe", "fromKey", developer, RIGHT, "guess", cookie.partition("=")[2]]
    assert [each for each in secrets if each in caplog.text] == []


def test_while_the_application_waits_for_a_migration_developers_get_in(backend: Backend) -> None:
    """`HoldUntilReady` leaves the page open: it is what people look at then."""
    from system_migration.web import HoldUntilReady

    (held,) = [each for each in backend.app.user_middleware if each.cls is HoldUntilReady]
    assert {"/auth", "/migrations"} <= set(held.kwargs["open_paths"])
