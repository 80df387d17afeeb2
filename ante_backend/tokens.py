"""Bearer tokens: who somebody is, and under which password they logged in; nothing else (passwords.md 5.2).

Whether the account is active, a developer, and still has that password is read from the database with every request.
"""

from __future__ import annotations

import hmac
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import jwt

from ante_backend.accounts import Account

ALGORITHM: Final = "HS256"
AUDIENCE: Final = "migration-admin"
ISSUER: Final = "ante-backend"
MIN_SECRET_BYTES: Final = 32
#: The claim that holds the password's mark.
MARK: Final = "pwv"

_REQUIRED: Final = ["exp", "iat", "sub", "aud", "iss", "jti"]
_codec = jwt.PyJWT({"enforce_minimum_key_length": True})


class InvalidToken(Exception):
    """Not a token of ours that is good now; why is nobody's business."""


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whom a genuine token names. Before it is believed, `fits` must hold for the account as it is now."""

    account_id: str
    mark: str = field(repr=False)
    secret: bytes = field(repr=False)

    def fits(self, account: Account) -> bool:
        """Whether the account still has the password that the token was issued for."""
        return any(hmac.compare_digest(self.mark, _sealed(self.secret, account, mark)) for mark in account.marks)


class Tokens:
    """Issues tokens under the first secret and reads those under any. Raises ValueError for a short secret."""

    def __init__(self, secrets: Sequence[bytes], lifetime_seconds: int) -> None:
        if not secrets or min(map(len, secrets)) < MIN_SECRET_BYTES:
            raise ValueError(f"a token secret has at least {MIN_SECRET_BYTES} bytes")
        self._secrets, self.lifetime_seconds = tuple(secrets), lifetime_seconds

    def issue(self, account: Account) -> str:
        """A token for the account under the password it has in this row."""
        now = int(time.time())
        claims = {
            "sub": account.id,
            "iat": now,
            "exp": now + self.lifetime_seconds,
            "jti": uuid.uuid4().hex,
            "iss": ISSUER,
            "aud": AUDIENCE,
            MARK: _sealed(self._secrets[0], account, account.marks[0]),
        }
        return _codec.encode(claims, self._secrets[0], algorithm=ALGORITHM)

    def read(self, token: str) -> Bearer:
        """Whom the token names. Raises InvalidToken for a forged, expired, unsigned or incomplete one."""
        for secret in self._secrets:
            claims = _claims(token, secret)
            if claims is not None:
                return Bearer(claims["sub"], claims[MARK], secret)
        raise InvalidToken


def _claims(token: str, secret: bytes) -> dict[str, Any] | None:
    try:
        claims: dict[str, Any] = _codec.decode(
            token,
            secret,
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            issuer=ISSUER,
            options={"require": [*_REQUIRED, MARK], "strict_aud": True},
        )
    except (jwt.InvalidTokenError, ValueError, OverflowError):  # an `exp` of 1e400 is infinite
        return None
    whole = all(type(claims[name]) is int for name in ("exp", "iat"))  # the library takes "1700000000" as well
    texts = all(isinstance(claims[name], str) and claims[name] for name in ("sub", "jti", MARK))
    return claims if whole and texts and claims[MARK].isascii() else None


def _sealed(secret: bytes, account: Account, mark: bytes) -> str:
    """The mark as a token may show it: without the secret it says nothing about salt or ciphertext."""
    message = account.id.encode("utf-8", "surrogatepass") + b"\0" + mark
    return hmac.digest(secret, b"password mark\0" + message, "sha256")[:16].hex()
