"""Judging without a server: what only the inside can show."""

from __future__ import annotations

import bcrypt
import pytest

from ante_backend.accounts import Account
from ante_backend.login import Judge
from ante_backend.passwords import hash_password

ACCOUNT = Account(
    id="account-1",
    username="person",
    email="person@example.test",
    is_developer=False,
    is_active=True,
    ciphertext=None,
    iv=None,
    stored_hash=hash_password(b"the right password", 4, "hold"),
)


@pytest.fixture
def judge() -> Judge:
    return Judge(None, 4, "hold")


def test_half_a_surrogate_pair_is_refused_at_the_same_cost(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[object] = []
    monkeypatch.setattr(bcrypt, "checkpw", lambda *args: checked.append(args))
    assert judge.judge([ACCOUNT], "the right\ud800 password") is None
    assert len(checked) == 1


def test_no_password_hash_or_address_is_in_a_repr(judge: Judge) -> None:
    accepted = judge.judge([ACCOUNT], "the right password")
    assert accepted is not None
    for told in (repr(accepted), repr(ACCOUNT), repr(Judge(None, 5, "hold").judge([ACCOUNT], "the right password"))):
        assert "$2b$" not in told
        assert "person" not in told
