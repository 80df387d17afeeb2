"""Checks of stored hashes that share no code with their making: by SQL for all rows, with bcrypt for a sample."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from ante_backend.passwords import Over72Policy

# [$] and no \$: databases differ in how they treat a backslash within a string.
_COST: Final = "(0[4-9]|[12][0-9]|3[01])"
_PATTERN: Final = f"^[$]2[aby][$]{_COST}[$][./A-Za-z0-9]{{53}}$"
_PREHASH_PATTERN: Final = (
    "^[$]bcrypt-sha256[$]v=2,t=2b,r=([4-9]|[12][0-9]|3[01])[$][./A-Za-z0-9]{22}[$][./A-Za-z0-9]{31}$"
)
_PREFIXES: Final = ("$2a$", "$2b$", "$2y$", "$bcrypt-sha256$v=2,t=2b,r=")

_IV_BYTES: Final = 16

T = TypeVar("T")


def is_well_formed(column: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """In SQL: the column is a bcrypt hash or a prehashed one, from the first to the last character."""
    column = sa.type_coerce(column, sa.String)  # a column that is no text is refused later, in words
    # MariaDB matches a pattern without regard to case where the column's collation has none; its REPLACE does not.
    starts = sa.or_(
        *(
            sa.func.char_length(sa.func.replace(column, prefix, "")) < sa.func.char_length(column)
            for prefix in _PREFIXES
        )
    )
    # "$" lets one line break follow, but not on every database.
    return (column.regexp_match(_PATTERN) | column.regexp_match(_PREHASH_PATTERN)) & starts & column.not_like("%\n%")


def random_sample(rows: Iterable[T], size: int) -> list[T]:
    """So many of the rows, or all, each as likely as any other; in memory are never more."""
    random = Random()
    chosen: list[T] = []
    for count, row in enumerate(rows, start=1):
        if len(chosen) < size:
            chosen.append(row)
        elif (place := random.randrange(count)) < size:
            chosen[place] = row
    return chosen


class HashAudit:
    """Decrypts with the given keys, derived here by another library than the migration's, and compares with bcrypt."""

    def __init__(self, key_texts: Sequence[str], over_72: Over72Policy) -> None:
        self._keys = [_derived(text) for text in dict.fromkeys(key_texts)]
        self._over_72 = over_72

    def opens(self, ciphertext: str | bytes, iv: str | bytes, stored: str) -> bool | None:
        """Whether the password behind the ciphertext, under one of the keys, is the stored hash's.

        None for a damaged ciphertext or IV: nothing was hashed from it, so there is nothing to compare.
        """
        try:
            raw_iv = binascii.unhexlify(iv) if isinstance(iv, str) else bytes(iv)
            raw = binascii.unhexlify(ciphertext)
        except ValueError:
            return None
        if len(raw_iv) != _IV_BYTES:
            return None
        return any(self._is_hash_of(_decrypted(key, raw, raw_iv), stored) for key in self._keys)

    def _is_hash_of(self, plain: bytes, stored: str) -> bool:
        import bcrypt

        if stored.startswith("$bcrypt-sha256$"):
            _, _, options, salt, digest = stored.split("$")
            cost = int(options.rpartition("r=")[2])
            plain = base64.b64encode(hmac.new(salt.encode(), plain, hashlib.sha256).digest())
            stored = f"$2b${cost:02}${salt}{digest}"
        elif self._over_72 == "truncate":
            plain = plain[:72]
        try:
            return bcrypt.checkpw(plain, stored.encode())
        except ValueError:  # over 72 bytes: no login would accept it
            return False


def _derived(key_text: str) -> bytes:
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    return Scrypt(salt=b"salt", length=32, n=2**14, r=8, p=1).derive(key_text.encode())


def _decrypted(key: bytes, ciphertext: bytes, iv: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES256
    from cryptography.hazmat.primitives.ciphers.modes import CTR

    decryptor = Cipher(AES256(key), CTR(iv)).decryptor()
    return decryptor.update(ciphertext) + decryptor.finalize()
