"""Sessions of the page: a token for another audience than the API's, which the browser keeps in a cookie.

What a session is stands in the cookie, so that restarts and replicas do not end it. It ends at the next request when
the account has another password, is inactive or gone; when nobody has asked for half an hour; and half a day after the
password was typed, whatever happens. Until then it is renewed as it is used. One that was signed out of is over for
this process even if a copy of the cookie is left, or an answer that renewed it came late.
"""

from __future__ import annotations

import hmac
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Final

from ante_backend.accounts import Account
from ante_backend.tokens import Bearer, InvalidToken, Tokens

PAGE_AUDIENCE: Final = "migration-page"
#: The claim that says when the password was typed; OpenID Connect has it under the same name.
SIGNED_IN: Final = "auth_time"

#: Longer by far than an event stream lives, which is all that an open page asks for while nothing happens.
IDLE_SECONDS: Final = 30 * 60
#: A cookie is renewed when it is older. With the 15 minutes of a stream it is still less than what a cookie lasts.
RENEW_SECONDS: Final = 5 * 60
LIMIT_SECONDS: Final = 12 * 3600
#: So many that were signed out of are remembered at once.
MAX_ENDED: Final = 10_000


class PageSessions:
    """Begins, reads and renews sessions under the application's secrets. `clock` gives seconds since 1970."""

    def __init__(self, secrets: Sequence[bytes], clock: Callable[[], float] = time.time) -> None:
        self._tokens = Tokens(secrets, IDLE_SECONDS, PAGE_AUDIENCE, (SIGNED_IN,), clock)
        self._clock = clock
        self._ended: OrderedDict[str, int] = OrderedDict()  # ids, and when each would be over anyhow
        self._lock = Lock()

    def begin(self, account: Account) -> str:
        """A session for whoever has just typed the account's password."""
        return self._issue(account, int(self._clock()))

    def read(self, value: str) -> Bearer:
        """Whose session it is. Raises InvalidToken; before it is believed, the account must still fit."""
        session = self._tokens.read(value)
        if session.token_id in self._ended:
            raise InvalidToken
        return session

    def end(self, value: str) -> None:
        """End the session, if it is one."""
        try:
            session = self._tokens.read(value)
        except InvalidToken:
            return
        with self._lock:
            self._ended[session.token_id] = session.numbers[SIGNED_IN] + LIMIT_SECONDS
            while len(self._ended) > MAX_ENDED or next(iter(self._ended.values())) < self._clock():
                self._ended.popitem(last=False)

    def renewed(self, session: Bearer, account: Account) -> str | None:
        """The same session for longer; None while it is young enough."""
        if self._clock() - session.numbers["iat"] < RENEW_SECONDS:
            return None
        return self._issue(account, session.numbers[SIGNED_IN], session.token_id)

    def _issue(self, account: Account, signed_in: int, token_id: str | None = None) -> str:
        until = signed_in + LIMIT_SECONDS
        return self._tokens.issue(account, token_id=token_id, until=until, **{SIGNED_IN: signed_in})


def form_secret(secret: bytes) -> bytes:
    """The key of the page's form tokens: from the application's secret, so that replicas agree on it."""
    return hmac.digest(secret, b"form tokens of the page", "sha256")
