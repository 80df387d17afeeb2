"""Sessions of a page whose developers a token file names: in this process's memory, and over when it ends.

A session stands for the line of the token that began it. When the line leaves the file, the session is over.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock

from fastapi import HTTPException, Request

from system_migration.web.session_cookie import SessionCookie
from system_migration.web.sign_in import SignInField
from system_migration.web.tokens import TokenFile

IDLE_SECONDS = 3_600.0
"""So long a session lasts without a request. The event stream of an open page comes back more often."""
LIMIT_SECONDS = 12 * 3_600.0
"""So long it lasts in any case."""
CAPACITY = 1_000
"""More developers' browsers than this are not signed in at once: the one that was idle longest is signed out."""

TOKEN_FIELDS = (
    SignInField(
        "token",
        "Token",
        "current-password",
        is_secret=True,
        hint="As `migration serve --make-token` printed it for you.",
    ),
)


@dataclass
class _Session:
    line: str
    began: float
    seen: float


class Sessions:
    """Who is signed in. Safe in threads; its memory is bounded. Of the ids it gives out it keeps only digests."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, capacity: int = CAPACITY) -> None:
        self._clock, self._capacity = clock, capacity
        self._sessions: OrderedDict[bytes, _Session] = OrderedDict()  # the one that was idle longest first
        self._lock = Lock()

    def begin(self, line: str) -> str:
        """The id of a new session that stands for this line."""
        identity, now = secrets.token_urlsafe(32), self._clock()
        with self._lock:
            self._sessions[_digest(identity)] = _Session(line, now, now)
            if len(self._sessions) > self._capacity:
                self._sessions.popitem(last=False)
        return identity

    def line(self, identity: str) -> str | None:
        """The line that the session stands for, which was active now; None when there is no such session any more."""
        key, now = _digest(identity), self._clock()
        with self._lock:
            session = self._sessions.get(key)
            if session is None:
                return None
            if now - session.seen >= IDLE_SECONDS or now - session.began >= LIMIT_SECONDS:
                del self._sessions[key]
                return None
            session.seen = now
            self._sessions.move_to_end(key)
            return session.line

    def end(self, identity: str) -> None:
        """Whether or not there was such a session, there is none now."""
        with self._lock:
            self._sessions.pop(_digest(identity), None)

    def __len__(self) -> int:
        return len(self._sessions)


class TokenDoor:
    """Signing in with a token of the file, and who is signed in. Its `require` is the `require_developer` of a page."""

    def __init__(self, tokens: TokenFile, cookie: SessionCookie, sessions: Sessions | None = None) -> None:
        self.cookie = cookie
        self._tokens, self._sessions = tokens, Sessions() if sessions is None else sessions

    async def enter(self, request: Request, given: Mapping[str, str]) -> str:
        """The id of a session for the token that was typed. Raises `HTTPException` 401 for none of the file's.

        Guesses are not counted: a token has 256 random bits.
        """
        line = self._tokens.line_of(given["token"].strip())  # pasted, perhaps with the end of its line
        if line is None:
            raise HTTPException(401, "This token is not one of the token file's.")
        return self._sessions.begin(line)

    def leave(self, identity: str) -> None:
        """End the session."""
        self._sessions.end(identity)

    def require(self, request: Request) -> str:
        """The developer's name. Raises `HTTPException` 401 without a session, or when its token is no longer good."""
        identity = self.cookie.read(request) or ""
        line = self._sessions.line(identity)
        name = None if line is None else self._tokens.name_on(line)
        if name is None:
            self._sessions.end(identity)
            raise HTTPException(401, "Sign in to go on.")
        return name


def _digest(identity: str) -> bytes:
    return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).digest()
