"""Tokens without a server: rotation of secrets, and which row a token fits."""

from __future__ import annotations

from dataclasses import replace

import jwt
import pytest

from ante_backend.accounts import Account
from ante_backend.passwords import hash_password, rehash
from ante_backend.tokens import InvalidToken, Tokens

OLD, NEW = b"o" * 32, b"n" * 32

LEGACY = Account(
    id="account-1",
    username="person",
    email="person@example.test",
    is_developer=False,
    is_active=True,
    ciphertext="00ff",
    iv=b"i" * 16,
    stored_hash=None,
)
BOTH = replace(LEGACY, stored_hash=hash_password(b"the password", 4, "hold"))
HASHED = replace(BOTH, ciphertext=None, iv=None)
CHANGED = replace(HASHED, stored_hash=hash_password(b"the password", 4, "hold"))


def test_during_a_rotation_tokens_under_either_secret_are_read() -> None:
    before, during, after = Tokens([OLD], 60), Tokens([NEW, OLD], 60), Tokens([NEW], 60)
    old, new = before.issue(HASHED), during.issue(HASHED)
    assert during.read(old).fits(HASHED)
    assert during.read(new).fits(HASHED)
    assert after.read(new).fits(HASHED)
    with pytest.raises(InvalidToken):
        after.read(old)
    with pytest.raises(InvalidToken):
        before.read(new)


@pytest.mark.parametrize(("issued", "now", "fits"), [
    (LEGACY, LEGACY, True),
    (LEGACY, BOTH, True),  # upgraded, by a login or the batch
    (BOTH, BOTH, True),
    (BOTH, HASHED, True),  # the reversible columns removed
    (BOTH, replace(BOTH, stored_hash=rehash(b"the password", BOTH.stored_hash or "", 5, "hold")), True),
    (LEGACY, replace(LEGACY, ciphertext="00fe"), False),
    (LEGACY, replace(LEGACY, iv=b"j" * 16), False),
    (LEGACY, CHANGED, False),
    (BOTH, CHANGED, False),
    (BOTH, replace(BOTH, stored_hash=CHANGED.stored_hash), False),  # a new hash beside the old ciphertext
    (HASHED, CHANGED, False),
    (HASHED, replace(HASHED, stored_hash=None), False),
    (HASHED, replace(HASHED, id="account-2"), False),
    (LEGACY, replace(LEGACY, iv="i" * 16), True),  # bytes or text: a driver may give either
])  # fmt: skip
def test_a_token_fits_as_long_as_the_password_is_the_same(issued: Account, now: Account, fits: bool) -> None:
    tokens = Tokens([NEW], 60)
    assert tokens.read(tokens.issue(issued)).fits(now) is fits


def test_a_token_shows_neither_salt_nor_ciphertext() -> None:
    tokens = Tokens([NEW], 60)
    for account in (LEGACY, BOTH):
        claims = jwt.decode(tokens.issue(account), options={"verify_signature": False})
        assert len(claims["pwv"]) == 32
        other = jwt.decode(Tokens([OLD], 60).issue(account), options={"verify_signature": False})
        assert claims["pwv"] != other["pwv"]
    assert NEW.decode() not in repr(tokens.read(tokens.issue(LEGACY)))


@pytest.mark.parametrize("secrets", [[], [b"x" * 31], [NEW, b"x" * 31]])
def test_a_short_secret_is_refused(secrets: list[bytes]) -> None:
    with pytest.raises(ValueError, match="at least 32 bytes"):
        Tokens(secrets, 60)
