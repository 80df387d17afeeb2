"""May an account's reversible password be deleted? Only when its hash is proven to be that password's. Pure.

It is the last chance: once the ciphertext is gone, nothing can be compared any more. So every row is proven, one
bcrypt each, and no sample stands for the others.
"""

from __future__ import annotations

from collections.abc import Sequence

from ante_backend.faults import RowFault
from ante_backend.legacy_cipher import parse_ciphertext, parse_iv
from ante_backend.passwords import MAX_BYTES, Over72Policy, check_password, is_recognised_hash
from ante_backend.plausibility import KeyRing, meaning


class Release:
    """Compares hashes with the passwords that the keys of a ring give back."""

    def __init__(self, keys: Sequence[tuple[str, bytes]], over_72: Over72Policy) -> None:
        self._ring = KeyRing(keys)
        self._over_72 = over_72

    def prove(self, password: object, key: object, stored: object) -> None:
        """Return if the stored hash opens with the encrypted password under one of the keys.

        Raises RowFault where that is not so: `no_hash`, `unrecognised_hash`, the fault of a ciphertext or IV that
        cannot be read, that of a password no key gives back, or `stale_hash` for another password than the hash's.
        """
        if not is_recognised_hash(stored):
            raise RowFault("unrecognised_hash" if stored else "no_hash")
        plains = self._ring.decrypted(parse_ciphertext(password), parse_iv(key))
        # The likely ones first, as each try costs a bcrypt; but the typed password, not its look, made the hash.
        if not any(check_password(plain, stored, self._over_72) for plain in sorted(plains, key=_is_unlikely)):
            raise _fault(plains)

    def could_be_hashed(self, password: object, key: object) -> bool:
        """Whether 001-password-bcrypt would make a hash of it."""
        try:
            opened = self._ring.open(parse_ciphertext(password), parse_iv(key))
        except RowFault:
            return False
        return len(opened.text.encode()) <= MAX_BYTES or self._over_72 != "hold"


def _is_unlikely(plain: bytes) -> bool:
    return _why_unlikely(plain) is not None


def _why_unlikely(plain: bytes) -> RowFault | None:
    try:
        meaning(plain)
    except RowFault as fault:
        return fault
    return None


def _fault(plains: Sequence[bytes]) -> RowFault:
    """Why no key proves the hash: the main key's reason, unless some key gives back a password."""
    reasons = [_why_unlikely(plain) for plain in plains]
    return reasons[0] if all(reasons) and reasons[0] else RowFault("stale_hash")
