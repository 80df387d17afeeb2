"""Is this decrypted text a password, and is this the right key? Pure (passwords.md 3.2 to 3.4).

AES-CTR has no integrity check: a wrong key gives garbage of the right length and no error. What tells them
apart is that garbage is rarely UTF-8 without control characters, and how rarely is known exactly.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from operator import mul
from typing import Final, Literal

from ante_backend.faults import RowFault
from ante_backend.legacy_cipher import MAX_PLAINTEXT_BYTES, LegacyCipher

Verdict = Literal["right", "wrong", "undecided"]

#: The share of rows that is taken to be corrupt under the right key.
CORRUPT_SHARE: Final = 0.01
#: A longer password counts as one of this length: less evidence than it is, never more. The figures that
#: passwords.md 3.4.3 measured on the vectors come out only so.
MAX_EVIDENCE_BYTES: Final = 72
#: One chance in a billion of being wrong: the log-likelihood at which a key is judged.
DECISIVE: Final = math.log(1e9)

# Code points that are not Cc, of 1, 2, 3 and 4 bytes, as a share of all byte strings of that length.
_SHARES: Final = (95 / 256, 1888 / 256**2, 61440 / 256**3, 1048576 / 256**4)
# Category Cc without NUL. Not isprintable(): that refuses real passwords such as joined emoji.
_CONTROL: Final = re.compile("[\x01-\x1f\x7f-\x9f]")


def meaning(plain: bytes) -> str:
    """The password that the decrypted bytes spell; raises RowFault when they cannot be one."""
    if not plain:
        raise RowFault("empty_plaintext")
    text = _decoded(plain)
    if text is None:
        raise RowFault("not_utf8")
    if "\0" in text:
        raise RowFault("nul_byte")
    if _CONTROL.search(text):
        raise RowFault("control_character")
    return text


def _decoded(plain: bytes) -> str | None:
    # The fault is raised outside this handler: a UnicodeDecodeError as its context would carry the password.
    try:
        return plain.decode("utf-8")
    except UnicodeDecodeError:
        return None


def probability(n: int) -> float:
    """The chance that n random bytes have a meaning. Raises ValueError if n is less than 1."""
    return math.exp(_log_probability(n))


def _log_probability(n: int) -> float:
    if n < 1:
        raise ValueError("a password has at least one byte")
    # Nothing longer parses, and p is 0 as a float long before.
    return _log_probabilities()[min(n, MAX_PLAINTEXT_BYTES)]


@cache
def _log_probabilities() -> tuple[float, ...]:
    """ln p(n) by p(n) = sum of share_k * p(n - k). In logs: p itself is 0 as a float from about 930 bytes."""
    logs = [0.0]
    window = (1.0, 0.0, 0.0, 0.0)  # p(n-1) ... p(n-4), scaled so that the first is 1
    for _ in range(MAX_PLAINTEXT_BYTES):
        ratio = sum(map(mul, _SHARES, window))  # p(n) / p(n-1)
        logs.append(logs[-1] + math.log(ratio))
        window = (1.0, 1.0 / ratio, window[1] / ratio, window[2] / ratio)
    return tuple(logs)


class KeyEvidence:
    """What the rows say about one key, by log-likelihood ratio: right key against random bytes.

    Only rows of sound structure are evidence. A NUL or control character is a failure; a password over
    72 bytes is a pass. `corrupt_share` is the share of rows that the right key is expected not to open;
    whatever it is, a wrong key is called right once in a billion at most.
    """

    def __init__(self, corrupt_share: float = CORRUPT_SHARE) -> None:
        self._corrupt_share = corrupt_share
        self.log_likelihood = 0.0
        self.passed = 0
        self.failed = 0
        #: How many other rows of garbage have probably passed by luck, given those that failed.
        self.hidden = 0.0

    def add(self, passed: bool, length: int) -> None:
        """Count one row whose plaintext has `length` bytes. Raises ValueError if that is less than 1."""
        log_p = _log_probability(min(length, MAX_EVIDENCE_BYTES))
        if passed:
            self.passed += 1
            self.log_likelihood += math.log1p(-self._corrupt_share) - log_p
        else:
            p = math.exp(log_p)
            self.failed += 1
            self.log_likelihood += math.log(self._corrupt_share) - math.log1p(-p)
            self.hidden += p / (1 - p)

    @property
    def verdict(self) -> Verdict:
        """Right: it opens part of the table at least; whether all of it, `failed` and `hidden` tell."""
        if self.log_likelihood >= DECISIVE:
            return "right"
        return "wrong" if self.log_likelihood <= -DECISIVE else "undecided"


@dataclass(frozen=True, slots=True)
class Opened:
    """A row's password and the position in the ring of the key that opened it."""

    key: int
    name: str
    text: str = field(repr=False)


class KeyRing:
    """Keys as (name, derived key), the main one first. Raises ValueError if there is none."""

    def __init__(self, keys: Sequence[tuple[str, bytes]]) -> None:
        if not keys:
            raise ValueError("a key ring needs at least one key")
        # The same key twice would make every row ambiguous; its first place counts.
        first: dict[bytes, tuple[int, str]] = {}
        for index, (name, derived_key) in enumerate(keys):
            first.setdefault(derived_key, (index, name))
        self._keys = tuple((index, name, LegacyCipher(key)) for key, (index, name) in first.items())

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the different keys, the main one first."""
        return tuple(name for _, name, _ in self._keys)

    def readings(self, ciphertext: bytes, iv: bytes) -> tuple[str | RowFault, ...]:
        """What each of the different keys makes of the row: a text with a meaning, or the fault."""
        return tuple(_reading(cipher, ciphertext, iv) for _, _, cipher in self._keys)

    def decrypted(self, ciphertext: bytes, iv: bytes) -> tuple[bytes, ...]:
        """What each of the different keys makes of the row, with a meaning or without."""
        return tuple(cipher.decrypt(ciphertext, iv) for _, _, cipher in self._keys)

    def choose(self, readings: Sequence[str | RowFault]) -> Opened:
        """The one text with a meaning among a row's readings.

        Raises RowFault: the main key's fault if there is none, `ambiguous_key` if there are several.
        """
        opened = [(key, text) for key, text in zip(self._keys, readings, strict=True) if isinstance(text, str)]
        if len(opened) > 1:
            raise RowFault("ambiguous_key")
        if not opened:
            fault = readings[0]
            assert isinstance(fault, RowFault)
            raise fault
        ((index, name, _), text) = opened[0]
        return Opened(index, name, text)

    def open(self, ciphertext: bytes, iv: bytes) -> Opened:
        """Decrypt under the one key that gives a meaning; raises RowFault as `choose` does."""
        return self.choose(self.readings(ciphertext, iv))

    def hides(self, ciphertext: bytes, iv: bytes, plain: bytes) -> bool:
        """Whether exactly these bytes are behind the ciphertext under any of the keys.

        Being equal proves the key, so no meaning is asked for. Always as long, whichever key it is.
        """
        import hmac

        texts = [cipher.decrypt(ciphertext, iv) for _, _, cipher in self._keys]
        return True in [hmac.compare_digest(text, plain) for text in texts]  # all of them, whichever it is


def _reading(cipher: LegacyCipher, ciphertext: bytes, iv: bytes) -> str | RowFault:
    try:
        return meaning(cipher.decrypt(ciphertext, iv))
    except RowFault as fault:
        return fault


def single_fingerprint(derived_key: bytes, migration_name: str) -> str:
    """One key's fingerprint: 8 bytes of HMAC-SHA-256(derived key, migration name) as 16 hex digits."""
    import hmac

    return hmac.digest(derived_key, migration_name.encode(), "sha256")[:8].hex()
