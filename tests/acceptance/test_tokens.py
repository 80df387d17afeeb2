"""What a token is good for, and how soon it is good for nothing (passwords.md 5.2)."""

from __future__ import annotations

import base64
import json
import time
import warnings
from collections.abc import Iterator
from typing import Any

import jwt
import pytest

from ante_backend.attempts import KNOWN_LIMIT
from ante_backend.passwords import check_password, hash_password, rehash
from tests.support.accounts import KEY, make, migrator
from tests.support.backend import COST, SECRET, Backend, Counted, account_database, configuration

RIGHT = "the right password"
NEW = "another password"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    with account_database(request.param, tmp_path_factory.mktemp("tokens"), request) as url:
        with Backend(configuration(url)) as backend:
            yield backend


def hashed(password: str = RIGHT, cost: int = COST) -> str:
    return hash_password(password.encode(), cost, "hold")


def for_developers(backend: Backend, token: str) -> int:
    return backend.client.get("/migration/status", headers={"Authorization": f"Bearer {token}"}).status_code


# Genuine or not


def test_a_token_says_who_somebody_is_and_nothing_else(backend: Backend) -> None:
    username = backend.add()
    answer = backend.log_in(username, RIGHT).json()
    claims = jwt.decode(answer["accessToken"], SECRET, algorithms=["HS256"], audience="migration-admin")
    assert claims.keys() == {"sub", "iat", "exp", "jti", "iss", "aud", "pwv"}
    row = backend.row(username)
    assert (claims["sub"], claims["exp"] - claims["iat"]) == (row["id"], answer["expiresIn"])
    assert answer["expiresIn"] <= 15 * 60
    me = backend.me(answer["accessToken"])
    assert me.json() == {"id": row["id"], "username": username, "isDeveloper": False}
    assert me.headers["cache-control"] == "no-store"


def forgeries(token: str) -> Iterator[tuple[str, str]]:
    """Tokens that are almost like this one."""
    claims = jwt.decode(token, SECRET, algorithms=["HS256"], audience="migration-admin")

    def signed(change: dict[str, Any], key: str = SECRET, algorithm: str = "HS256") -> str:
        changed = {name: value for name, value in (claims | change).items() if value is not None}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # keys too short for their algorithm
            return jwt.encode(changed, key, algorithm=algorithm)

    now = int(time.time())
    header, payload, signature = token.split(".")
    yield "hardly anything", "-"
    yield "no token", "not.a.token"
    yield "the signature cut", f"{header}.{payload}."
    yield "expired", signed({"iat": now - 900, "exp": now - 1})
    yield "issued tomorrow", signed({"iat": now + 86_400, "exp": now + 87_000})
    yield "another secret", signed({}, key="another secret of more than 32 bytes")
    yield "HS512", signed({}, key=SECRET * 2, algorithm="HS512")
    yield "HS512 with the right secret", signed({}, algorithm="HS512")
    for algorithm in ("none", "None", "NONE"):
        unsigned = base64.urlsafe_b64encode(json.dumps({"alg": algorithm, "typ": "JWT"}).encode()).decode().rstrip("=")
        yield algorithm, f"{unsigned}.{payload}."
        yield f"{algorithm}, signed", f"{unsigned}.{payload}.{signature}"
    for name in claims:
        yield f"without {name}", signed({name: None})
    for name, value in [("aud", "other"), ("aud", ["migration-admin"]), ("iss", "other"), ("sub", 1), ("sub", ""),
                        ("sub", "nobody"), ("sub", "a\0b"), ("pwv", "0" * 32), ("pwv", "é"), ("pwv", 1), ("jti", 1),
                        ("exp", str(now + 600)), ("exp", now + 600.5), ("exp", True), ("exp", 1e300),
                        ("exp", float("inf")), ("iat", str(now))]:  # fmt: skip
        yield f"{name} {value!r}", signed({name: value})


def test_only_a_genuine_token_passes(backend: Backend) -> None:
    token = backend.token(backend.add(isDeveloper=True))
    for why, forged in forgeries(token):
        answer = backend.client.get("/migration/status", headers={"Authorization": f"Bearer {forged}"})
        assert answer.status_code == 401, (why, answer.text)
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["content-type"] == "application/problem+json"
    for headers in ({}, {"Authorization": token}, {"Authorization": f"Basic {token}"}, {"X-Token": token}):
        assert backend.client.get("/auth/me", headers=headers).status_code == 401
    assert backend.client.get("/auth/me", params={"token": token, "access_token": token}).status_code == 401
    assert backend.me(token).status_code == 200


# The database decides


def test_developers_are_who_the_database_says_now(backend: Backend) -> None:
    username = backend.add(isDeveloper=True)
    token, other = backend.token(username), backend.token(backend.add())
    assert for_developers(backend, token) == 200
    assert for_developers(backend, other) == 403
    backend.change(username, isDeveloper=False)
    assert for_developers(backend, token) == 403
    assert backend.me(token).status_code == 200
    backend.change(username, isDeveloper=True)
    assert for_developers(backend, token) == 200


def test_a_claim_to_be_a_developer_grants_nothing(backend: Backend) -> None:
    claims = jwt.decode(backend.token(backend.add()), SECRET, algorithms=["HS256"], audience="migration-admin")
    assert for_developers(backend, jwt.encode(claims | {"isDeveloper": True}, SECRET)) == 403


@pytest.mark.parametrize("gone", [{"isDeleted": True}, {"status": "INACTIVE"}], ids=["deleted", "inactive"])
def test_an_account_that_is_gone_has_no_tokens(backend: Backend, gone: dict[str, Any]) -> None:
    username = backend.add()
    token = backend.token(username)
    backend.change(username, **gone)
    assert backend.me(token).status_code == 401


# A new password ends them, an upgraded one does not


@pytest.mark.parametrize("stored", ["legacy", "bcrypt", "both"])
def test_a_password_change_ends_every_token_and_the_reversible_password(backend: Backend, stored: str) -> None:
    username = backend.add(RIGHT if stored != "bcrypt" else None, passwordHash=None if stored == "legacy" else hashed())
    tokens = [backend.token(username) for _ in range(2)]
    answer = backend.change_password(tokens[0], RIGHT, NEW)
    assert answer.status_code == 200, answer.text
    row = backend.row(username)
    assert (row["password"], row["key"]) == (None, None)
    assert check_password(NEW.encode(), row["passwordHash"], "hold")
    assert [backend.me(token).status_code for token in (*tokens, answer.json()["accessToken"])] == [401, 401, 200]
    assert backend.log_in(username, RIGHT).status_code == 401
    assert backend.log_in(username, NEW).status_code == 200


def test_the_same_password_again_ends_tokens_too(backend: Backend) -> None:
    username = backend.add(None, passwordHash=hashed())
    token = backend.token(username)
    assert backend.change_password(token, RIGHT, RIGHT).status_code == 200
    assert backend.me(token).status_code == 401


def test_a_token_survives_the_upgrade_by_another_login(backend: Backend) -> None:
    username = backend.add()
    token = backend.token(username)
    backend.change(username, passwordHash=None)  # as if that login had not been able to write
    legacy = backend.token(username)
    assert backend.row(username)["passwordHash"]
    assert backend.me(legacy).status_code == 200
    assert backend.me(token).status_code == 401  # of a hash that is there no more: nobody knows why it is gone


def test_a_token_survives_a_higher_cost(backend: Backend) -> None:
    username = backend.add(None, passwordHash=hashed(cost=COST))
    token = backend.token(username)
    higher = rehash(RIGHT.encode(), backend.row(username)["passwordHash"], COST + 1, "hold")
    backend.change(username, passwordHash=higher)
    assert check_password(RIGHT.encode(), higher, "hold")
    assert backend.me(token).status_code == 200


def test_a_password_changed_in_the_legacy_application_ends_tokens(backend: Backend) -> None:
    long = "held for its length " * 4
    username = backend.add(long)
    token = backend.token(username, long)
    changed = make(99_999, NEW)
    backend.change(username, password=changed["password"], key=changed["key"])
    assert backend.me(token).status_code == 401


# Changing a password


def test_the_current_password_is_needed(backend: Backend) -> None:
    username = backend.add()
    token = backend.token(username)
    before = backend.row(username)
    for wrong in ("wrong", "", NEW):
        assert backend.change_password(token, wrong, NEW).status_code == 403
    assert backend.change_password("no token", RIGHT, NEW).status_code == 401
    assert backend.row(username) == before


@pytest.mark.parametrize("new", ["", "seven77", "x" * 73, "é" * 37, "with a\0NUL", "x" * 1025])
def test_a_new_password_must_be_one_that_bcrypt_takes_whole(backend: Backend, new: str) -> None:
    username = backend.add()
    token = backend.token(username)
    before = backend.row(username)
    answer = backend.change_password(token, RIGHT, new)
    assert answer.status_code == 422
    assert not new or new not in answer.text
    assert backend.row(username) == before


def test_guesses_at_the_current_password_are_counted(backend: Backend) -> None:
    token = backend.token(backend.add())
    answers = [backend.change_password(token, "wrong", NEW).status_code for _ in range(3)]
    assert answers == [403, 403, 403]
    attempts = backend.app.state.authentication.attempts
    account_id = backend.me(token).json()["id"]
    for _ in range(KNOWN_LIMIT + 97):
        attempts.begin(f"account {account_id}", "127.0.0.1")
    assert backend.change_password(token, RIGHT, NEW).status_code == 429


# Before migration 001


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_before_the_migration_legacy_passwords_are_accepted_and_tokens_outlive_it(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("ENCRYPTION_KEY", KEY)
    with account_database(kind, tmp_path, request, hash_column=False) as url:
        with Backend(configuration(url)) as backend:
            usernames = [backend.add(f"password {number}") for number in range(20)]
            counted = Counted(monkeypatch)
            token = backend.token(usernames[0], "password 0")
            assert counted.take() == 1
            assert backend.log_in(usernames[0], "wrong").status_code == 401
            assert counted.take() == 1
            refused = backend.change_password(token, "password 0", NEW)
            assert (refused.status_code, counted.take()) == (503, 0)
            with migrator(backend.engine) as m:
                (report,) = m.run()
            assert report.verified
            assert backend.me(token).status_code == 200
            assert backend.log_in(usernames[0], "password 0").status_code == 200
            assert backend.change_password(token, "password 0", NEW).status_code == 200
            assert backend.me(token).status_code == 401
