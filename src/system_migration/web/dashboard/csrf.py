"""The token in every form: only a page that we rendered for this very developer has one."""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections.abc import Callable

from system_migration.web.refusals import ExpiredForm, ForgedForm

LIFETIME_SECONDS = 12 * 3600
_STEP_SECONDS = 3600
_SECRET_BYTES = 32


class FormTokens:
    """Issues and checks them. Whoever has the secret accepts the tokens of the others who have it.

    Raises `ValueError` for a secret that is short enough to be guessed; none at all is not the same as an empty one.
    """

    def __init__(self, secret: bytes | None = None, clock: Callable[[], float] = time.time) -> None:
        self._secret = secrets.token_bytes(_SECRET_BYTES) if secret is None else secret
        if len(self._secret) < _SECRET_BYTES:
            raise ValueError(f"the secret of the page's forms has at least {_SECRET_BYTES} bytes")
        self._clock = clock

    def issue(self, developer: str) -> str:
        """A token that this developer may send for twelve hours; the same for all forms of an hour."""
        until = int(self._clock()) // _STEP_SECONDS * _STEP_SECONDS + LIFETIME_SECONDS
        return f"{until}.{self._seal(developer, until)}"

    def check(self, developer: str, token: str | None) -> None:
        """Raise `ForgedForm` unless it was issued to this developer, and `ExpiredForm` if that was too long ago."""
        found = re.fullmatch(r"(\d{1,12})\.([0-9a-f]{64})", token or "", re.ASCII)
        genuine = found is not None and hmac.compare_digest(found[2], self._seal(developer, int(found[1])))
        if found is not None and genuine and int(found[1]) < self._clock():
            raise ExpiredForm("The form was open for too long. What you typed is still here: press the button again.")
        if not genuine:
            raise ForgedForm(
                "Nothing was done: the form did not come from a page that this server made for you today. "
                "Open the page again and press the button there."
            )

    def _seal(self, developer: str, until: int) -> str:
        message = f"form\0{until}\0{developer}".encode("utf-8", "surrogatepass")
        return hmac.digest(self._secret, message, "sha256").hex()
