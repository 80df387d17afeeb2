"""What an outsider could learn from a refusal: how long it took (passwords.md 1.2 and 1.4)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median

import pytest

from ante_backend.passwords import hash_password
from tests.support.accounts import make
from tests.support.backend import Backend, Counted, account_database, configuration

COST = 8
"""At which a hash takes longer than everything around it."""
ROUNDS = 9
TRIES = 3


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    with account_database(request.param, tmp_path_factory.mktemp("cost"), request) as url:
        with Backend(configuration(url, bcrypt_cost=COST)) as backend:
            yield backend


def failures(backend: Backend) -> dict[str, tuple[str, str]]:
    """Ten kinds of failure: a name and a password each."""
    add, right = backend.add, "the right password"
    stored = hash_password(right.encode(), COST, "hold")
    first = add()
    add(email=first)
    return {
        "unknown user": ("nobody of that name", right),
        "wrong, bcrypt": (add(None, passwordHash=stored), "wrong"),
        "wrong, legacy": (add(), "wrong"),
        "ciphertext malformed": (add(password="zz" + make(1, right)["password"][2:]), right),
        "hash malformed": (add(passwordHash=stored[:59]), right),
        "inactive": (add(None, passwordHash=stored, status="INACTIVE"), right),
        "ambiguous": (first, right),
        "over 72 bytes": (add(None, passwordHash=stored), "x" * 73),
        "NUL": (add(None, passwordHash=stored), f"{right}\0{right}"),
        "empty": (add(), ""),
    }


def spent(backend: Backend, attempt: tuple[str, str]) -> float:
    """CPU time of this process, which is the server's too: the clock on the wall measures the machine's other work."""
    before = time.process_time()
    assert backend.log_in(*attempt).status_code == 401
    return time.process_time() - before


def medians(backend: Backend, attempts: dict[str, tuple[str, str]]) -> dict[str, float]:
    taken: dict[str, list[float]] = {kind: [] for kind in attempts}
    for _ in range(ROUNDS):
        for kind, attempt in attempts.items():
            taken[kind].append(spent(backend, attempt))
    return {kind: median(times) for kind, times in taken.items()}


def test_ten_kinds_of_failure_take_one_operation_and_the_same_time(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = failures(backend)
    counted = Counted(monkeypatch)
    for kind, attempt in attempts.items():
        assert backend.log_in(*attempt).status_code == 401
        assert counted.take() == 1, kind
    for left in reversed(range(TRIES)):
        found = medians(backend, attempts)
        if max(found.values()) <= 1.1 * min(found.values()):
            return
        assert left, {kind: f"{seconds * 1000:.1f} ms" for kind, seconds in found.items()}


def test_only_a_success_that_raises_the_cost_takes_a_second(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = hash_password(b"the right password", COST - 2, "hold")
    username = backend.add(None, passwordHash=stored)
    counted = Counted(monkeypatch)
    assert (backend.log_in(username, "wrong").status_code, counted.take()) == (401, 1)
    token = backend.token(username)
    assert counted.take() == 2
    raised = backend.row(username)["passwordHash"]
    assert raised.startswith(f"$2b${COST:02}$")
    assert backend.me(token).status_code == 200
    assert (backend.log_in(username, "the right password").status_code, counted.take()) == (200, 1)
    assert backend.row(username)["passwordHash"] == raised
