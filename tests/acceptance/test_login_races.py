"""Logins beside other writers: other logins, the batch, a person who changes a password, a database that refuses."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from random import Random

import pytest
import sqlalchemy as sa

from ante_backend import passwords
from ante_backend.passwords import check_password, hash_password
from ante_backend.settings import HostSettings
from tests.support.accounts import KEY, QuickPasswordBcrypt, make, migrator
from tests.support.backend import ACCOUNT, COST, Backend, account_database, configuration

RIGHT = "the right password"
NEW = "another password"

Meanwhile = Callable[[str, Callable[[], object]], None]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with account_database(request.param, tmp_path_factory.mktemp("races"), request) as url:
        yield url


@pytest.fixture(scope="module")
def backend(url: str) -> Iterator[Backend]:
    with Backend(configuration(url)) as backend:
        yield backend


def hashed(password: str = RIGHT) -> str:
    return hash_password(password.encode(), COST, "hold")


def opens(backend: Backend, username: str, password: str) -> bool:
    return check_password(password.encode(), backend.row(username)["passwordHash"] or "", "hold")


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """Let somebody act once, between the moment a password is judged and the moment its hash is written."""

    def arrange(password: str, act: Callable[[], object]) -> None:
        acts = [act]

        def hash_and_act(plain: bytes, cost: int, over_72: passwords.Over72Policy) -> str:
            stored = hash_password(plain, cost, over_72)
            if plain == password.encode() and acts:
                acts.pop()()
            return stored

        monkeypatch.setattr(passwords, "hash_password", hash_and_act)

    return arrange


# Other logins


def test_twenty_first_logins_at_once_all_succeed_and_leave_one_hash(backend: Backend, url: str) -> None:
    username = backend.add()
    before = backend.row(username)
    stored: set[str] = set()

    def log_in(_: int) -> int:
        status = backend.log_in(username, RIGHT).status_code
        stored.add(backend.row(username)["passwordHash"])
        return status

    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(log_in, range(20))) == [200] * 20
    assert len(stored) == 1
    (stored_hash,) = stored
    assert check_password(RIGHT.encode(), stored_hash, "hold")
    assert backend.row(username) == before | {"passwordHash": stored_hash}


def test_more_than_can_wait_are_turned_away_before_judging(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    username, other = backend.add(None, passwordHash=hashed()), "nobody of that name"
    hashing = backend.app.state.authentication.hashing
    monkeypatch.setattr(hashing, "_places", 0)
    for name in (username, other):
        answer = backend.log_in(name, RIGHT)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    monkeypatch.undo()
    assert backend.log_in(username, RIGHT).status_code == 200


# A password changed between the judgement and the write


def test_a_password_changed_meanwhile_survives_the_upgrade(backend: Backend, meanwhile: Meanwhile) -> None:
    username = backend.add()
    values = {"passwordHash": hashed(NEW), "password": None, "key": None}
    meanwhile(RIGHT, lambda: backend.change(username, **values))
    answer = backend.log_in(username, RIGHT)
    assert answer.status_code == 200  # it was right when it was judged
    assert {name: backend.row(username)[name] for name in values} == values
    assert backend.me(answer.json()["accessToken"]).status_code == 401  # and its token is of the old password


def test_a_password_changed_in_the_legacy_application_survives_the_upgrade(
    backend: Backend, meanwhile: Meanwhile
) -> None:
    username = backend.add()
    changed = make(99_998, NEW)
    values = {"password": changed["password"], "key": changed["key"]}
    meanwhile(RIGHT, lambda: backend.change(username, **values))
    assert backend.log_in(username, RIGHT).status_code == 200
    assert backend.row(username)["passwordHash"] is None
    assert backend.log_in(username, RIGHT).status_code == 401
    assert backend.log_in(username, NEW).status_code == 200


def test_a_hash_that_the_batch_wrote_meanwhile_is_kept(backend: Backend, meanwhile: Meanwhile) -> None:
    username = backend.add()
    stored = hashed()
    meanwhile(RIGHT, lambda: backend.change(username, passwordHash=stored))
    token = backend.token(username)
    assert backend.row(username)["passwordHash"] == stored
    assert backend.me(token).status_code == 200


def test_a_change_of_password_gets_over_an_upgrade_meanwhile(backend: Backend, meanwhile: Meanwhile) -> None:
    username = backend.add("held for its length " * 4)  # so that it is legacy still
    token = backend.token(username, "held for its length " * 4)
    meanwhile(NEW, lambda: backend.change(username, passwordHash=hashed("what the batch makes of it")))
    assert backend.change_password(token, "held for its length " * 4, NEW).status_code == 200
    row = backend.row(username)
    assert (opens(backend, username, NEW), row["password"], row["key"]) == (True, None, None)


def test_of_two_changes_of_a_password_the_second_is_told(backend: Backend, meanwhile: Meanwhile) -> None:
    username = backend.add()
    token = backend.token(username)
    values = {"passwordHash": hashed("the first change"), "password": None, "key": None}
    meanwhile(NEW, lambda: backend.change(username, **values))
    answer = backend.change_password(token, RIGHT, NEW)
    assert answer.status_code == 409
    assert {name: backend.row(username)[name] for name in values} == values


# A database that refuses the write


@contextmanager
def locked(backend: Backend, username: str) -> Iterator[None]:
    """Somebody holds the row, or on SQLite the file, for as long as it takes."""
    with backend.engine.connect() as connection:
        if backend.engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(sa.select(ACCOUNT.c.id).where(ACCOUNT.c.username == username).with_for_update())
        yield


def test_a_locked_row_keeps_nobody_from_logging_in(url: str, caplog: pytest.LogCaptureFixture) -> None:
    impatient = f"{url}?timeout=0.1" if url.startswith("sqlite") else url
    with Backend(configuration(impatient)) as backend:
        username = backend.add()
        with locked(backend, username):
            started = time.monotonic()
            token = backend.token(username)
            assert time.monotonic() - started < 5  # PostgreSQL would wait without end
            assert backend.row(username)["passwordHash"] is None
            assert backend.me(token).status_code == 200
        if url.startswith("sqlite"):
            expected = "the hash could not be stored (OperationalError). The next login tries again."
            assert f"Account {backend.row(username)['id']!r}: {expected}" in caplog.text
        assert backend.log_in(username, RIGHT).status_code == 200
        assert opens(backend, username, RIGHT)
        assert backend.me(token).status_code == 200


def test_a_read_only_database_keeps_nobody_from_logging_in(
    backend: Backend, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    username = backend.add()
    if url.startswith("sqlite"):
        read_only = url.replace("sqlite:///", "sqlite:///file:") + "?mode=ro&uri=true"
    else:
        read_only = url + "?options=-c%20default_transaction_read_only%3Don"
    with Backend(configuration(read_only)) as other:
        assert other.log_in(username, RIGHT).status_code == 200
        assert other.change_password(other.token(username), RIGHT, NEW).status_code == 503
    assert backend.row(username)["passwordHash"] is None
    assert "The next login tries again." in caplog.text
    assert RIGHT not in caplog.text


# The batch


class BrieflyVerified(QuickPasswordBcrypt):  # type: ignore[misc]
    """The migration; what it would verify of a large sample is looked at here row by row."""

    def settings(self) -> HostSettings:
        settings: HostSettings = super().settings()
        return replace(settings, verify_sample=50)


class People:
    """Accounts whose owners log in and change passwords, and what the newest and the older ones are."""

    def __init__(self, backend: Backend, accounts: int) -> None:
        self.backend = backend
        numbers = range(100_000, 100_000 + accounts)
        self.newest = {f"person{number}": f"password {number}" for number in numbers}
        self.older: list[tuple[str, str]] = []
        self.failures: list[str] = []
        rows = [make(number, f"password {number}") for number in numbers]
        with backend.engine.begin() as connection:
            connection.execute(sa.delete(ACCOUNT))
            connection.execute(sa.insert(ACCOUNT), rows)

    def act(self, names: list[str], stop: threading.Event) -> None:
        """Log in and change the password, one person after the other, until told to stop."""
        for name in names:
            if stop.is_set():
                return
            old, new = self.newest[name], f"new password of {name}"
            answer = self.backend.log_in(name, old)
            if answer.status_code != 200:
                self.failures.append(f"login of {name}: {answer.text}")
                continue
            changed = self.backend.change_password(answer.json()["accessToken"], old, new)
            if changed.status_code == 200:
                self.newest[name] = new
                self.older.append((name, old))
            elif changed.status_code != 503:  # SQLite's one writer kept it waiting: nothing was changed
                self.failures.append(f"change of {name}: {changed.text}")


def test_after_the_batch_every_newest_password_works_and_no_old_one(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENCRYPTION_KEY", KEY)
    people = People(backend, 1_000)
    names = list(people.newest)
    Random(1).shuffle(names)
    stop = threading.Event()
    with migrator(backend.engine, BrieflyVerified) as m, ThreadPoolExecutor(3) as pool:
        acting = [pool.submit(people.act, names[part::3], stop) for part in range(3)]
        try:
            (report,) = m.run()
        finally:
            stop.set()
        for each in acting:
            each.result()
    assert not people.failures
    assert report.verified
    assert len(people.older) > 10
    with backend.engine.connect() as connection:
        rows = connection.execute(sa.select(ACCOUNT.c.username, ACCOUNT.c.passwordHash))
        stored = {row.username: row.passwordHash for row in rows}

    def is_right(claim: tuple[str, str]) -> bool:
        return check_password(claim[1].encode(), stored[claim[0]], "hold")

    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(is_right, people.newest.items()))
        assert not any(pool.map(is_right, people.older))
    for name, old in people.older[:20]:
        assert backend.log_in(name, old).status_code == 401
        assert backend.log_in(name, people.newest[name]).status_code == 200
