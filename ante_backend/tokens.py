"""Bearer tokens: who somebody is, and under which password they logged in; nothing else (passwords.md 5.2).

A token is for one audience, the API or the page, and for no other: what a browser keeps in a cookie is of no use as a
bearer token, nor the other way round. Whether the account is active, a developer, and still has that password is read
from the database with every request.
"""

from __future__ import annotations

import hmac
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
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
    token_id: str = ""
    numbers: Mapping[str, int] = field(default_factory=dict, repr=False)
    """Its claims that are whole numbers: when it was issued, until when it is good, and what its issuer added."""

    def fits(self, account: Account) -> bool:
        """Whether the account still has the password that the token was issued for."""
        return any(hmac.compare_digest(self.mark, _sealed(self.secret, account, mark)) for mark in account.marks)


class Tokens:
    """Issues tokens under the first secret and reads those under any. Raises ValueError for a short secret.

    `more` names whole numbers that each token of this kind has beside the claims of all; `clock` gives seconds since
    1970.
    """

    def __init__(
        self,
        secrets: Sequence[bytes],
        lifetime_seconds: int,
        audience: str = AUDIENCE,
        more: Sequence[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not secrets or min(map(len, secrets)) < MIN_SECRET_BYTES:
            raise ValueError(f"a token secret has at least {MIN_SECRET_BYTES} bytes")
        self._secrets, self.lifetime_seconds = tuple(secrets), lifetime_seconds
        self._audience, self._numbers, self._clock = audience, ("iat", "exp", *more), clock

    def issue(self, account: Account, *, token_id: str | None = None, until: int | None = None, **more: int) -> str:
        """A token for the account under the password it has in this row; not good beyond `until`.

        `token_id` is that of the token which this one renews.
        """
        now = int(self._clock())
        expires = now + self.lifetime_seconds
        claims = {
            "sub": account.id,
            "iat": now,
            "exp": expires if until is None else min(expires, until),
            "jti": token_id or uuid.uuid4().hex,
            "iss": ISSUER,
            "aud": self._audience,
            MARK: _sealed(self._secrets[0], account, account.marks[0]),
            **more,
        }
        return _codec.encode(claims, self._secrets[0], algorithm=ALGORITHM)

    def read(self, token: str) -> Bearer:
        """Whom the token names. Raises InvalidToken for a forged, expired, unsigned or incomplete one."""
        for secret in self._secrets:
            claims = self._claims(token, secret)
            if claims is not None:
                numbers = {name: claims[name] for name in self._numbers}
                return Bearer(claims["sub"], claims[MARK], secret, claims["jti"], numbers)
        raise InvalidToken

    def _claims(self, token: str, secret: bytes) -> dict[str, Any] | None:
        # The times are judged below, by our clock and as whole numbers: the library takes "1700000000" as well.
        options: jwt.types.Options = {"verify_exp": False, "verify_iat": False, "strict_aud": True}
        options["require"] = [*_REQUIRED, *self._numbers, MARK]
        try:
            claims: dict[str, Any] = _codec.decode(
                token,
                secret,
                algorithms=[ALGORITHM],
                audience=self._audience,
                issuer=ISSUER,
                options=options,
            )
        except (jwt.InvalidTokenError, ValueError):
            return None
        whole = all(type(claims[name]) is int for name in self._numbers)
        texts = all(isinstance(claims[name], str) and claims[name] for name in ("sub", "jti", MARK))
        good = whole and texts and claims[MARK].isascii() and claims["iat"] <= self._clock() < claims["exp"]
        return claims if good else None


def _sealed(secret: bytes, account: Account, mark: bytes) -> str:
    """The mark as a token may show it: without the secret it says nothing about salt or ciphertext."""
    message = account.id.encode("utf-8", "surrogatepass") + b"\0" + mark
    return hmac.digest(secret, b"password mark\0" + message, "sha256")[:16].hex()
