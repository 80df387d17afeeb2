"""The legacy password format: scrypt-derived AES-256-CTR, hex ciphertext, an IV per row. Pure.

Verify-only scheme: `encrypt` exists for seeds and tests, no new password is ever stored this way.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from typing import Final

from ante_backend.faults import RowFault

KEY_BYTES: Final = 32
IV_BYTES: Final = 16

#: A login takes at most 1,024 characters (passwords.md 5.3, API4), so no usable password has more bytes.
MAX_PLAINTEXT_BYTES: Final = 4 * 1024

# Not bytes.fromhex(): it skips white space, where Node stops and keeps a prefix (passwords.md 3.5).
_HEX: Final = re.compile(r"[0-9a-fA-F]+", re.ASCII)
_HASH_PREFIX: Final = re.compile(r"\$(2|argon2)", re.ASCII)


def derive_key(encryption_key: str) -> bytes:
    """The 32-byte AES key, as Node's `scryptSync(key, 'salt', 32)` makes it; 30 ms, so once per process."""
    import hashlib

    return hashlib.scrypt(encryption_key.encode(), salt=b"salt", n=16384, r=8, p=1, dklen=KEY_BYTES)


def named_keys(main: str, old: Sequence[str]) -> list[tuple[str, bytes]]:
    """The derived keys with the names that messages give them, the main one first; 30 ms each."""
    names = ["ENCRYPTION_KEY", *(f"old key {number}" for number in range(1, len(old) + 1))]
    return [(name, derive_key(text)) for name, text in zip(names, [main, *old], strict=True)]


class LegacyCipher:
    """AES-256-CTR under one derived key. Raises ValueError if the key is not 32 bytes."""

    def __init__(self, derived_key: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        if len(derived_key) != KEY_BYTES:  # AES would silently become AES-128 or AES-192
            raise ValueError(f"the derived key must be {KEY_BYTES} bytes")
        self._aes = algorithms.AES(derived_key)
        self._cipher, self._ctr = Cipher, modes.CTR

    def decrypt(self, ciphertext: bytes, iv: bytes) -> bytes:
        """The bytes behind the ciphertext; a wrong key or IV gives garbage, never an error."""
        stream = self._cipher(self._aes, self._ctr(iv)).decryptor()
        return stream.update(ciphertext) + stream.finalize()

    def encrypt(self, plaintext: bytes, iv: bytes) -> str:
        """The ciphertext as lower-case hex digits, as the legacy application stores it."""
        stream = self._cipher(self._aes, self._ctr(iv)).encryptor()
        return (stream.update(plaintext) + stream.finalize()).hex()


def parse_ciphertext(value: object) -> bytes:
    """The ciphertext of a `password` column, text or ASCII bytes; raises RowFault for everything else."""
    text = _ascii_text(value)
    if not text:
        raise RowFault("empty_ciphertext")
    if len(text) > 2 * MAX_PLAINTEXT_BYTES:
        raise RowFault("over_72_bytes")
    if _HASH_PREFIX.match(text):
        raise RowFault("already_hash")
    if not _HEX.fullmatch(text):
        raise RowFault("ciphertext_not_hex")
    if len(text) % 2:
        raise RowFault("odd_ciphertext")
    return binascii.unhexlify(text)


def parse_iv(value: object) -> bytes:
    """The 16 bytes of a `key` column, be they bytes or text of 32 hex digits; raises RowFault for all else.

    32 hex digits in a bytes column are a fault, not a guess (passwords.md, catalogue 42 and 43).
    """
    if value is None:
        raise RowFault("iv_missing")
    if isinstance(value, bytes | bytearray | memoryview):
        if memoryview(value).nbytes != IV_BYTES:
            raise RowFault("iv_length")
        return bytes(value)
    if not isinstance(value, str):
        raise RowFault("iv_not_hex")
    if len(value) != 2 * IV_BYTES:
        raise RowFault("iv_length")
    if not _HEX.fullmatch(value):
        raise RowFault("iv_not_hex")
    return binascii.unhexlify(value)


def _ascii_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        if memoryview(value).nbytes > 2 * MAX_PLAINTEXT_BYTES:  # before anything is copied
            raise RowFault("over_72_bytes")
        raw = bytes(value)
        if raw.isascii():
            return raw.decode("ascii")
    raise RowFault("ciphertext_not_hex")
