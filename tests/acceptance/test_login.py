"""Logging in over HTTP, one kind of account and one kind of input after the other (passwords.md, section 6)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from ante_backend.attempts import KNOWN_LIMIT
from ante_backend.passwords import check_password, hash_password
from tests.support.accounts import OLD_KEY, make
from tests.support.backend import COST, Backend, Counted, account_database, configuration

RIGHT = "the right password"
NEW = "another password"
LONG = "eighty bytes " * 7


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    with account_database(request.param, tmp_path_factory.mktemp("login"), request) as url:
        with Backend(configuration(url)) as backend:
            yield backend


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


def hashed(password: str = RIGHT, cost: int = COST) -> str:
    return hash_password(password.encode(), cost, "hold")


def assert_refused(answer: httpx.Response) -> None:
    """The one refusal there is."""
    assert answer.status_code == 401
    assert answer.json() == {
        "type": "about:blank",
        "title": "Unauthorized",
        "status": 401,
        "detail": "The name or the password is wrong.",
    }
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["www-authenticate"] == "Bearer"


# Right


def test_a_legacy_password_is_accepted_and_upgraded_by_one_operation(backend: Backend, counted: Counted) -> None:
    username = backend.add()
    before = backend.row(username)
    answer = backend.log_in(username, RIGHT)
    assert (answer.status_code, counted.take()) == (200, 1)
    assert answer.json().keys() == {"accessToken", "tokenType", "expiresIn"}
    assert answer.headers["cache-control"] == "no-store"
    after = backend.row(username)
    assert check_password(RIGHT.encode(), after["passwordHash"], "hold")
    assert after == before | {"passwordHash": after["passwordHash"]}
    again = backend.log_in(before["email"], RIGHT)
    assert (again.status_code, counted.take(), backend.row(username)) == (200, 1, after)


def test_the_empty_hash_is_none(backend: Backend) -> None:
    username = backend.add(passwordHash="")
    assert backend.log_in(username, RIGHT).status_code == 200
    assert check_password(RIGHT.encode(), backend.row(username)["passwordHash"], "hold")


def test_a_password_under_an_old_key_is_accepted(backend: Backend) -> None:
    former = make(1, RIGHT, OLD_KEY)
    username = backend.add(password=former["password"], key=former["key"])
    assert backend.log_in(username, RIGHT).status_code == 200
    assert check_password(RIGHT.encode(), backend.row(username)["passwordHash"], "hold")


@pytest.mark.parametrize("letter", ["a", "b", "y"])
def test_a_hash_needs_no_legacy_columns_and_may_be_any_of_three_forms(
    backend: Backend, counted: Counted, letter: str
) -> None:
    stored = hashed().replace("$2b$", f"$2{letter}$")
    username = backend.add(None, passwordHash=stored)
    counted.take()
    assert backend.log_in(username, RIGHT).status_code == 200
    assert (counted.take(), backend.row(username)["passwordHash"]) == (1, stored)


def test_a_higher_cost_is_kept(backend: Backend, counted: Counted) -> None:
    stored = hashed(cost=COST + 2)
    username = backend.add(None, passwordHash=stored)
    counted.take()
    assert backend.log_in(username, RIGHT).status_code == 200
    assert (counted.take(), backend.row(username)["passwordHash"]) == (1, stored)


@pytest.mark.parametrize(
    "password",
    ["x", " ", "  two  spaces ", "tab\there", "o'brien", '"; DROP TABLE "Account"; --', "100%", "back\\slash",
     "密码安全", "cafe\u0301", "\ufeffmark", "👨‍👩‍👧‍👦", "é" * 36, "x" * 72],
)  # fmt: skip
def test_every_character_counts(backend: Backend, password: str) -> None:
    username = backend.add(password)
    for wrong in (password + " ", password[:-1]):
        assert_refused(backend.log_in(username, wrong))
    for _ in range(2):  # from the ciphertext, then from the hash
        assert backend.log_in(username, password).status_code == 200
    assert check_password(password.encode(), backend.row(username)["passwordHash"], "hold")
    for wrong in (password + "\n", password[:-1]):
        assert_refused(backend.log_in(username, wrong))


@pytest.mark.parametrize("password", [LONG, "ab\0cd"], ids=["long", "NUL"])
def test_a_held_legacy_password_is_accepted_and_stays(backend: Backend, counted: Counted, password: str) -> None:
    username = backend.add(password)
    assert backend.log_in(username, password).status_code == 200
    assert (counted.take(), backend.row(username)["passwordHash"]) == (1, None)


# Wrong, always at the price of one operation


def refusals(backend: Backend) -> Iterator[tuple[str, str, str]]:
    """What is refused: the reason, a name and a password."""
    add, legacy, right = backend.add, make(7, RIGHT), hashed()
    yield "unknown user", "nobody of that name", RIGHT
    yield "a name that no database takes", "nobody\0", RIGHT
    yield "wrong, bcrypt", add(None, passwordHash=right), "wrong"
    yield "wrong, legacy", add(), "wrong"
    yield "right for a stale ciphertext only", add(passwordHash=hashed("another")), RIGHT
    yield "no password at all", add(None), RIGHT
    yield "no password at all, and none typed", add(None), ""
    yield "ciphertext malformed", add(password="zz" + legacy["password"][2:]), RIGHT
    yield "ciphertext empty", add(password=""), ""
    yield "a ciphertext without IV", add(key=None), RIGHT
    yield "IV malformed", add(key=b"short"), RIGHT
    for junk in ("junk", right[:59], right + " ", right.replace("$2b$", "$2x$"), "$argon2id$v=19$m=1$c2FsdA$aGFzaA"):
        yield f"hash malformed: {junk!r}", add(passwordHash=junk), RIGHT
    yield "a salt with spare bits", add(passwordHash=_with_spare_bits(right)), RIGHT
    yield "empty, bcrypt", add(None, passwordHash=right), ""
    yield "empty, legacy", add(), ""
    yield "over 72 bytes, bcrypt", add(None, passwordHash=hashed("x" * 72)), "x" * 73
    yield "over 72 bytes, legacy", add(), LONG
    yield "NUL, of which bcrypt makes a second password", add(None, passwordHash=hashed("ab")), "ab\0ab"
    yield "NUL alone", add(None, passwordHash=_hash_of_nothing()), "\0"
    yield "composed for decomposed", add(None, passwordHash=hashed("cafe\u0301")), "caf\u00e9"
    yield "composed for decomposed, legacy", add("cafe\u0301"), "caf\u00e9"
    yield "another case", add(), RIGHT.upper()
    yield "trailing line break", add(None, passwordHash=right), RIGHT + "\n"
    yield "deleted", add(isDeleted=True), RIGHT
    yield "inactive", add(status="INACTIVE"), RIGHT
    yield "inactive, bcrypt", add(None, passwordHash=right, status="BLOCKED"), RIGHT


def _with_spare_bits(stored: str) -> str:
    alphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    return stored[:28] + alphabet[alphabet.index(stored[28]) + 1] + stored[29:]


def _hash_of_nothing() -> str:
    import bcrypt

    return bcrypt.hashpw(b"", bcrypt.gensalt(COST)).decode()


def test_every_refusal_is_the_same_and_costs_one_operation(backend: Backend, counted: Counted) -> None:
    for why, username, password in refusals(backend):
        before = None if "nobody" in username else backend.row(username)
        counted.take()
        answer = backend.log_in(username, password)
        assert_refused(answer)
        assert counted.take() == 1, why
        assert before is None or backend.row(username) == before, why
    assert all(name.startswith("bcrypt") for name in counted.threads)  # the event loop never waits for one


def test_what_an_operator_can_repair_is_logged_by_id(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    damaged = backend.add(password="zz")
    junk = backend.add(passwordHash="junk")
    for username in (damaged, junk):
        assert_refused(backend.log_in(username, RIGHT))
    assert [record.getMessage() for record in caplog.records if record.name == "ante_backend.login"] == [
        f"Account {backend.row(damaged)['id']!r}: the legacy password cannot be read (ciphertext_not_hex). Refused.",
        f"Account {backend.row(junk)['id']!r}: the stored hash is of no known form. Refused.",
    ]


def test_a_name_that_fits_two_accounts_is_refused_for_both(
    backend: Backend, counted: Counted, caplog: pytest.LogCaptureFixture
) -> None:
    first = backend.add()
    second = backend.add("the other's password", email=first)
    for password in (RIGHT, "the other's password", "neither"):
        assert_refused(backend.log_in(first, password))
        assert counted.take() == 1
    ids = sorted(backend.row(username)["id"] for username in (first, second))
    assert all(repr(identity) in caplog.text for identity in ids)
    assert backend.log_in(second, "the other's password").status_code == 200


@pytest.mark.parametrize(
    "spelt", [str.upper, lambda name: f" {name}", lambda name: f"{name} ", lambda name: name.replace("p", "ｐ")]
)
def test_a_name_is_what_it_is_character_by_character(backend: Backend, spelt: Any) -> None:
    username = backend.add()
    assert_refused(backend.log_in(spelt(username), RIGHT))


# Refused before judging: no operation, and the same for a name that nobody has


def bodies(username: str) -> Iterator[tuple[str, bytes, int]]:
    def text(**body: Any) -> bytes:
        return json.dumps(body).encode()

    yield "1 MiB", text(username=username, password="p" * 1024 * 1024), 413
    yield "just over the limit", text(username=username, password="p" * 16 * 1024), 413
    yield "1,025 characters", text(username=username, password="p" * 1025), 422
    yield "a long name", text(username=username + "n" * 320, password=RIGHT), 422
    for value in (12345678, None, [RIGHT], {"a": RIGHT}, True):
        yield f"password {value!r}", text(username=username, password=value), 422
    yield "no name", text(password=RIGHT), 422
    yield "no password", text(username=username), 422
    yield "an extra field", text(username=username, password=RIGHT, isDeveloper=True), 422
    yield "the password as a field's name", text(username=username, password=RIGHT, **{RIGHT: 1}), 422
    yield "a lone surrogate", b'{"username": "%s", "password": "the right\\ud800 password"}' % username.encode(), 422
    yield "a lone surrogate in the name", b'{"username": "a\\ud800b", "password": "the right password"}', 422
    yield "not JSON", b'{"username": "the right password', 422
    yield "not UTF-8", b'{"username": "the right password\xff"}', 400
    yield "nested deeply", b'{"username": "the right password", "password": ' + b"[" * 8000, 400
    yield "a number of 6,000 digits", b'{"username": "the right password", "password": ' + b"9" * 6000 + b"}", 400
    yield "a list", b'["the right password"]', 422
    yield "nothing", b"", 422


def test_what_cannot_be_judged_costs_nothing_and_is_not_echoed(
    backend: Backend, counted: Counted, caplog: pytest.LogCaptureFixture
) -> None:
    known, unknown = backend.add(), "nobody"
    headers = {"Content-Type": "application/json"}
    for (why, body, status), (_, other, _) in zip(bodies(known), bodies(unknown), strict=True):
        answer = backend.client.post("/auth/login", content=body, headers=headers)
        assert answer.status_code == status, (why, answer.text)
        assert answer.headers["content-type"] == "application/problem+json", why
        assert answer.headers["cache-control"] == "no-store", why
        assert not any(text in answer.text for text in (RIGHT, "12345678", "ppp", known, "right")), answer.text
        same = backend.client.post("/auth/login", content=other, headers=headers)
        assert (same.status_code, same.text) == (answer.status_code, answer.text), why
    assert counted.take() == 0
    assert RIGHT not in caplog.text
    assert backend.row(known)["passwordHash"] is None


def test_of_a_field_given_twice_one_counts_and_grants_no_more(backend: Backend) -> None:
    username = backend.add()
    headers = {"Content-Type": "application/json"}
    twice = f'{{"username": "{username}", "password": "{RIGHT}", "password": "wrong"}}'
    assert_refused(backend.client.post("/auth/login", content=twice, headers=headers))


def attempts(backend: Backend, name: str, number: int) -> list[int]:
    """The answers to so many wrong passwords, several at a time."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda _: backend.log_in(name, "wrong").status_code, range(number)))


def test_the_hundred_and_first_failure_in_a_row_is_not_judged(backend: Backend, counted: Counted) -> None:
    for name in (backend.add(), "a name that nobody has"):
        assert set(attempts(backend, name, 100)) == {401}
        assert counted.take() == 100
        answer = backend.log_in(name, RIGHT)
        assert (answer.status_code, counted.take()) == (429, 0)
        assert answer.json()["detail"] == "Too many attempts. Wait, then try again."
        assert 55 <= int(answer.headers["retry-after"]) <= 60
    assert backend.log_in(backend.add(), RIGHT).status_code == 200  # nobody else waits


def test_an_account_has_one_limit_for_both_its_names_and_no_refusal_tells(
    backend: Backend, counted: Counted, caplog: pytest.LogCaptureFixture
) -> None:
    username = backend.add()
    before = backend.row(username)
    assert set(attempts(backend, before["email"], 60) + attempts(backend, username, 40)) == {401}
    counted.take()
    assert_refused(backend.log_in(username, RIGHT))  # as a name that nobody has would be
    assert (counted.take(), backend.row(username)) == (1, before)
    assert f"Account {before['id']!r}: too many attempts under its two names have failed. Refused." in caplog.text
    assert username not in caplog.text


def test_where_a_password_is_changed_the_account_has_no_limit_of_its_own(backend: Backend, counted: Counted) -> None:
    username = backend.add()
    token = backend.token(username)
    assert set(attempts(backend, username, KNOWN_LIMIT + 60)) == {401}
    with ThreadPoolExecutor(8) as pool:
        tries = range(KNOWN_LIMIT + 40)
        answers = list(pool.map(lambda _: backend.change_password(token, "wrong", NEW).status_code, tries))
    assert set(answers) == {403}
    counted.take()
    answer = backend.change_password(token, RIGHT, NEW)
    assert (answer.status_code, counted.take()) == (429, 0)
    assert 55 <= int(answer.headers["retry-after"]) <= 60


def test_a_stranger_keeps_nobody_out_who_has_logged_in_from_here(backend: Backend, counted: Counted) -> None:
    username, other = backend.add(), backend.add()
    token = backend.token(username)
    for name in (username, other):
        account = f"account {backend.row(name)['id']}"
        for _ in range(100):
            backend.app.state.authentication.attempts.begin(f"name {name}", "203.0.113.1").on(account)
    counted.take()
    assert (backend.log_in(username, "wrong").status_code, counted.take()) == (401, 1)
    assert (backend.log_in(username, RIGHT).status_code, counted.take()) == (200, 1)
    assert backend.change_password(token, RIGHT, NEW).status_code == 200
    assert backend.log_in(other, RIGHT).status_code == 429


def test_a_success_ends_the_row_of_failures(backend: Backend) -> None:
    username = backend.add()
    for _ in range(2):
        assert set(attempts(backend, username, 60)) == {401}
        assert backend.log_in(username, RIGHT).status_code == 200
