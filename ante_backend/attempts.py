"""How often may somebody guess? Failures are counted for each name, each account and each source, in this process.

A name's count is of failures in a row, and a name that no account has is counted alike. At the limit the next attempt
has to wait, and after each further failure twice as long, up to an hour: guessing ends, and whoever is shut out by a
stranger's guesses is let in again. A right password clears the name's count. So it is with an account's, which has two
names, and a third door where its password is changed.

A source's count forgets a failure every 90 seconds: an office behind one address mistypes every day for ever, and is
not shut out for it. A right password does not clear it: an account of one's own must not pay for guesses at others.

In memory, bounded: names are kept as digests. Several processes count apart, so the limit of a deployment is this one
times its processes.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Final

from ante_backend.counting import Failure, InARow, Leaking

NAME_LIMIT: Final = 100
SOURCE_LIMIT: Final = 1_000
#: Once in so many seconds a source may fail for ever.
SOURCE_SECONDS: Final = 90.0
CAPACITY: Final = 50_000


class TooManyAttempts(Exception):
    """The attempt is not judged; `retry_after` whole seconds from now one will be."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


class Attempts:
    """Counts attempts on names, from sources. Safe in threads."""

    def __init__(
        self,
        name_limit: int = NAME_LIMIT,
        source_limit: int = SOURCE_LIMIT,
        capacity: int = CAPACITY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._names, self._accounts = InARow(name_limit, capacity), InARow(name_limit, capacity)
        self._sources = Leaking(source_limit, SOURCE_SECONDS, capacity)
        self._clock = clock
        self._lock = Lock()
        self._pepper = secrets.token_bytes(16)  # so that nobody can choose names that are counted as one

    def begin(self, name: str, source: str) -> Attempt:
        """Count an attempt as failed before it is judged, so that many at once cannot all pass below the limit.

        `source` is the address it comes from. Raises `TooManyAttempts`, and counts nothing, when it must not be judged
        yet.
        """
        name_key, source_key = self._digest(name), self._digest(network(source))
        with self._lock:
            now = self._clock()
            wait = max(self._names.wait(name_key, now), self._sources.wait(source_key, now))
            if wait > 0:
                raise TooManyAttempts(math.ceil(wait))
            self._sources.failed(source_key, now)
            return Attempt(self, source_key, [self._names.failed(name_key, now)])

    def __len__(self) -> int:
        """How many names, accounts and sources are remembered."""
        return len(self._names) + len(self._accounts) + len(self._sources)

    def _digest(self, text: str) -> bytes:
        raw = text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(raw, key=self._pepper, digest_size=16).digest()

    def _on(self, attempt: Attempt, identity: str) -> None:
        key = self._digest(identity)
        with self._lock:
            now = self._clock()
            wait = self._accounts.wait(key, now)
            if wait > 0:
                raise TooManyAttempts(math.ceil(wait))
            attempt.failures.append(self._accounts.failed(key, now))

    def _settle(self, attempt: Attempt, *, succeeded: bool) -> None:
        with self._lock:
            for failure in attempt.failures:
                if succeeded:
                    failure.end()
                else:
                    failure.take_back()
            self._sources.take_back(attempt.source)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt, counted as a failure unless it is told otherwise."""

    attempts: Attempts
    source: bytes
    failures: list[Failure]

    def on(self, identity: str) -> None:
        """Count it on the account that the name was found to be of, or on the name again if it is nobody's.

        Raises `TooManyAttempts`, and counts nothing more, when the account must not be tried yet.
        """
        self.attempts._on(self, identity)

    def succeeded(self) -> None:
        """The password was right: the failures in a row, of the name and of the account, are over."""
        self.attempts._settle(self, succeeded=True)

    def not_judged(self) -> None:
        """It came to no judgement, for want of a place or of the database: nobody failed."""
        self.attempts._settle(self, succeeded=False)


def network(source: str) -> str:
    """Whom an address belongs to: of IPv6 the /64, which one subscriber has.

    But a socket for both versions spells IPv4 as ::ffff:192.0.2.1: all of it would be one /64.
    """
    try:
        address = ipaddress.ip_address(source.partition("%")[0])
    except ValueError:
        return source
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))
