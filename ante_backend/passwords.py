"""bcrypt hashes: making, recognising and checking them. Pure (passwords.md 1.4 and 2)."""

from __future__ import annotations

import re
from typing import Final, Literal, TypeGuard

from ante_backend.faults import RowFault

#: What to do with a password over 72 bytes: leave it on legacy, cut it as Node does, or hash it twice.
Over72Policy = Literal["hold", "truncate", "prehash"]

MAX_BYTES: Final = 72
MIN_COST: Final = 4
MAX_COST: Final = 31

#: A stored bcrypt hash, to be used with `fullmatch`: the library itself parses leniently (passwords.md 2.1).
HASH_PATTERN: Final = re.compile(r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")

#: passlib's bcrypt-sha256, version 2: the form of the `prehash` policy.
PREHASH_PATTERN: Final = re.compile(
    r"\$bcrypt-sha256\$v=2,t=2b,r=(?P<cost>[4-9]|[12][0-9]|3[01])"
    r"\$(?P<salt>[./A-Za-z0-9]{22})\$(?P<digest>[./A-Za-z0-9]{31})"
)


def hash_password(plain: bytes, cost: int, over_72: Over72Policy) -> str:
    """A new hash of exactly these bytes, at most 255 characters, never the same twice.

    Raises RowFault for an empty password, one with a NUL, and one over 72 bytes if the policy is `hold`;
    ValueError for a cost outside 4 to 31.
    """
    import bcrypt

    return _hash(plain, bcrypt.gensalt(cost), cost, over_72)


def rehash(plain: bytes, stored: str, cost: int, over_72: Over72Policy) -> str:
    """The hash at another cost of the password that `stored` is known to be of, under the same salt.

    The salt stays because it stands for the password's identity: a new one means a new password (see `salt_of`).
    A hash of the `prehash` form keeps it. Raises RowFault as `hash_password` does.
    """
    salt = f"$2b${cost:02}${salt_of(stored)}".encode("ascii")
    return _hash(plain, salt, cost, "prehash" if PREHASH_PATTERN.fullmatch(stored) else over_72)


def _hash(plain: bytes, salt: bytes, cost: int, over_72: Over72Policy) -> str:
    import bcrypt

    if not plain:
        raise RowFault("empty_plaintext")
    if b"\0" in plain:  # bcrypt would give it second valid passwords (passwords.md 2.1)
        raise RowFault("nul_byte")
    if len(plain) <= MAX_BYTES:
        return bcrypt.hashpw(plain, salt).decode()
    if over_72 == "hold":
        raise RowFault("over_72_bytes")
    if over_72 == "truncate":
        return bcrypt.hashpw(plain[:MAX_BYTES], salt).decode()
    salt_text = salt.decode()[7:]
    digest = bcrypt.hashpw(_prehashed(plain, salt_text), salt).decode()[29:]
    return f"$bcrypt-sha256$v=2,t=2b,r={cost}${salt_text}${digest}"


def check_password(plain: bytes, stored: str, over_72: Over72Policy) -> bool:
    """Whether the password is the stored hash's. False, never an error, for what cannot be checked."""
    return bool(try_password(plain, stored, over_72))


def try_password(plain: bytes, stored: str, over_72: Over72Policy) -> bool | None:
    """Whether the password is the stored hash's; None when it cannot be checked, which takes no time at all.

    That is: a hash of unknown form, an empty password, a NUL, and more than 72 bytes against plain bcrypt
    unless the policy is `truncate`.
    """
    import bcrypt

    if not plain or b"\0" in plain or not is_recognised_hash(stored):
        return None
    if prehash := PREHASH_PATTERN.fullmatch(stored):
        cost, salt, digest = prehash.groups()
        plain, stored = _prehashed(plain, salt), f"$2b${int(cost):02}${salt}{digest}"
    elif over_72 == "truncate":
        plain = plain[:MAX_BYTES]
    try:
        return bcrypt.checkpw(plain, stored.encode("ascii"))
    except ValueError:  # over 72 bytes, or spare bits in the salt, which the pattern lets through
        return None


def dummy_hash(cost: int) -> str:
    """A hash of nobody's password, made with bcrypt itself, so that it can be neither malformed nor of another cost."""
    import os

    import bcrypt

    return bcrypt.hashpw(os.urandom(16).hex().encode(), bcrypt.gensalt(cost)).decode()


def check_nothing(dummy: str) -> None:
    """Take the time of a check against a `dummy_hash`."""
    import bcrypt

    bcrypt.checkpw(b"nobody's password", dummy.encode("ascii"))


def cost_of(stored: str) -> int:
    """The cost of a recognised hash."""
    prehash = PREHASH_PATTERN.fullmatch(stored)
    return int(prehash["cost"]) if prehash else int(stored[4:6])


def salt_of(stored: str) -> str:
    """The salt of a recognised hash: 128 random bits, which `rehash` keeps, and only a new password changes."""
    prehash = PREHASH_PATTERN.fullmatch(stored)
    return prehash["salt"] if prehash else stored[7:29]


def is_recognised_hash(stored: object) -> TypeGuard[str]:
    """Whether the whole value is a hash that `check_password` can judge; `$2x$` or a padded one is not."""
    if not isinstance(stored, str):
        return False
    return bool(HASH_PATTERN.fullmatch(stored) or PREHASH_PATTERN.fullmatch(stored))


def _prehashed(plain: bytes, salt: str) -> bytes:
    # Keyed by the salt, so that a leaked plain SHA-256 list cannot be tried against it ("shucking").
    import base64
    import hmac

    return base64.b64encode(hmac.digest(salt.encode("ascii"), plain, "sha256"))
