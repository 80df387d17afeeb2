"""Which hash is proven, and why the others are not."""

from __future__ import annotations

import pytest

from ante_backend import release
from ante_backend.faults import RowFault
from ante_backend.legacy_cipher import LegacyCipher
from ante_backend.passwords import Over72Policy, check_password, hash_password
from ante_backend.release import Release

MAIN, OLD, LOST = (bytes([number]) * 32 for number in range(3))
IV = bytes(range(16))
LONG = "x" * 73


def sealed(text: str, key: bytes = MAIN) -> str:
    return LegacyCipher(key).encrypt(text.encode(), IV)


def hashed(text: str, over_72: Over72Policy = "hold") -> str:
    return hash_password(text.encode(), 4, over_72)


def ring(over_72: Over72Policy = "hold") -> Release:
    return Release([("main", MAIN), ("old", OLD)], over_72)


@pytest.mark.parametrize("key", [MAIN, OLD], ids=["main", "old"])
@pytest.mark.parametrize("text", ["sesame", "a\tb", "ünï", " "])
def test_a_hash_is_proven_under_every_key_of_the_ring(text: str, key: bytes) -> None:
    ring().prove(sealed(text, key), IV, hashed(text))


@pytest.mark.parametrize("policy", ["truncate", "prehash"])
def test_a_long_password_is_proven_as_it_was_hashed(policy: Over72Policy) -> None:
    ring(policy).prove(sealed(LONG), IV, hashed(LONG, policy))


@pytest.mark.parametrize(
    ("password", "key", "stored", "code"),
    [
        (sealed("sesame"), IV, None, "no_hash"),
        (sealed("sesame"), IV, "", "no_hash"),
        (sealed("sesame"), IV, "$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA", "unrecognised_hash"),
        (sealed("sesame"), IV, hashed("sesame")[:-1], "unrecognised_hash"),
        (sealed("another"), IV, hashed("sesame"), "stale_hash"),
        (sealed("another", OLD), IV, hashed("sesame"), "stale_hash"),
        (sealed("sesame", LOST), IV, hashed("sesame"), "not_utf8"),
        (sealed("sesame"), None, hashed("sesame"), "iv_missing"),
        (sealed("sesame"), IV[:-1], hashed("sesame"), "iv_length"),
        (sealed("sesame")[:-1], IV, hashed("sesame"), "odd_ciphertext"),
        ("", IV, hashed("sesame"), "empty_ciphertext"),
        (sealed("a\0a"), IV, hashed("a"), "nul_byte"),  # bcrypt alone would take the one for the other
    ],
)
def test_what_is_not_proven_is_told_by_its_code(password: str, key: bytes, stored: str | None, code: str) -> None:
    with pytest.raises(RowFault) as fault:
        ring().prove(password, key, stored)
    assert fault.value.code == code


def test_the_likely_reading_is_tried_first(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def counting(plain: bytes, stored: str, over_72: Over72Policy) -> bool:
        tried.append(plain)
        return check_password(plain, stored, over_72)

    monkeypatch.setattr(release, "check_password", counting)
    ring().prove(sealed("sesame opens", OLD), IV, hashed("sesame opens"))
    assert tried == [b"sesame opens"]


@pytest.mark.parametrize(
    ("password", "policy", "could"),
    [
        (sealed("sesame"), "hold", True),
        (sealed("sesame", OLD), "hold", True),
        (sealed(LONG), "hold", False),
        (sealed(LONG), "truncate", True),
        (sealed("a\tb"), "hold", False),
        (sealed("sesame", LOST), "hold", False),
        ("zz", "hold", False),
    ],
)
def test_what_could_still_be_hashed(password: str, policy: Over72Policy, could: bool) -> None:
    assert ring(policy).could_be_hashed(password, IV) is could
