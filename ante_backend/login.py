"""Is this the account's password? Judged so that time tells an outsider nothing (passwords.md 1.4). Pure.

Every judgement is exactly one bcrypt operation, whatever the outcome: the check against the stored hash, the new hash
of a legacy password that was right, or else a check against a dummy. Only a success that raises the cost does a second.

- A row with a hash is judged by it alone, malformed or not: a ciphertext beside it is never a second password.
- A legacy password is right when the bytes behind the ciphertext, under any key of the ring, equal the bytes typed.
- One that bcrypt cannot take (over 72 bytes under `hold`, a NUL) is accepted and stays, as the batch leaves it.
- Without ENCRYPTION_KEY there is no ring, and every legacy password is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from ante_backend import passwords
from ante_backend.accounts import Account
from ante_backend.faults import RowFault
from ante_backend.legacy_cipher import parse_ciphertext, parse_iv
from ante_backend.passwords import Over72Policy
from ante_backend.plausibility import KeyRing
from ante_backend.texts import is_text

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The password is right; `new_hash`, if any, is to be stored in the row that was judged, as long as it is that."""

    account: Account
    new_hash: str | None = field(default=None, repr=False)


class Judge:
    """Judges passwords with the given keys at the given cost. Making one takes the time of one hash."""

    def __init__(self, ring: KeyRing | None, cost: int, over_72: Over72Policy) -> None:
        self._ring, self._cost, self._over_72 = ring, cost, over_72
        self._dummy = passwords.dummy_hash(cost)

    def judge(self, accounts: Sequence[Account], password: str) -> Accepted | None:
        """What becomes of an attempt on the accounts that the name fits; None is a refusal, for whatever reason.

        The reasons that an operator can do something about are logged, with the account's id.
        """
        if len(accounts) > 1:
            _log.warning("A login name fits several accounts: %s. Refused.", ", ".join(repr(a.id) for a in accounts))
        plain = _utf8(password)
        if plain is None or len(accounts) != 1 or not accounts[0].is_active:
            return self._refuse()
        (account,) = accounts
        if account.stored_hash:
            return self._by_hash(account, account.stored_hash, plain)
        return self._by_ciphertext(account, plain)

    def new_hash(self, password: str) -> str:
        """The hash of a password that somebody chose. Raises RowFault for what bcrypt cannot take.

        Cutting is for passwords that are older than the policy. Whoever chooses one now can choose another.
        """
        over_72 = "hold" if self._over_72 == "truncate" else self._over_72
        return passwords.hash_password(password.encode(), self._cost, over_72)

    def _by_hash(self, account: Account, stored: str, plain: bytes) -> Accepted | None:
        right = passwords.try_password(plain, stored, self._over_72)
        if right is None:
            if not passwords.is_recognised_hash(stored):
                _log.warning("Account %r: the stored hash is of no known form. Refused.", account.id)
            return self._refuse()
        if not right:
            return None
        if passwords.cost_of(stored) >= self._cost:  # never down
            return Accepted(account)
        try:
            return Accepted(account, passwords.rehash(plain, stored, self._cost, self._over_72))
        except RowFault:  # made under another policy for what is over 72 bytes
            return Accepted(account)

    def _by_ciphertext(self, account: Account, plain: bytes) -> Accepted | None:
        if not self._opens(account, plain):
            return self._refuse()
        if account.can_store_hash:
            try:
                return Accepted(account, passwords.hash_password(plain, self._cost, self._over_72))
            except RowFault:  # raised before any hashing
                pass
        passwords.check_nothing(self._dummy)
        return Accepted(account)

    def _opens(self, account: Account, plain: bytes) -> bool:
        if account.ciphertext is None or not plain:
            return False
        try:
            ciphertext, iv = parse_ciphertext(account.ciphertext), parse_iv(account.iv)
        except RowFault as fault:
            _log.warning("Account %r: the legacy password cannot be read (%s). Refused.", account.id, fault.code)
            return False
        return self._ring is not None and self._ring.hides(ciphertext, iv, plain)

    def _refuse(self) -> Accepted | None:
        """A refusal that nothing was hashed for yet."""
        passwords.check_nothing(self._dummy)
        return None


def _utf8(password: str) -> bytes | None:
    # Handled by value: a UnicodeEncodeError carries the password into whatever reports it.
    return password.encode() if is_text(password) else None
