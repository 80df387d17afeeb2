"""How often may somebody guess? Failures are counted for each name, each account and each source, in this process.

A name's count is of failures in a row, and a name that no account has is counted alike. At the limit the next attempt
has to wait, and after each further failure twice as long, up to an hour: guessing ends, and whoever is shut out by a
stranger's guesses is let in again. A right password clears the name's count. So it is with an account's, which has two
names, and a third door where its password is changed.

A source's count forgets a failure every 90 seconds: an office behind one address mistypes every day for ever, and is
not shut out for it. A right password does not clear it: an account of one's own must not pay for guesses at others.

Who has succeeded with a name from a source needs to wait neither for the name nor for the source, until ten failures of
their own: otherwise a stranger who takes every attempt there is keeps an account's owner out. What they do there is
counted apart. A stranger at that very source learns thereby that somebody has logged in from it.

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
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

from ante_backend.counting import Failure, InARow, Known, Leaking

NAME_LIMIT: Final = 100
SOURCE_LIMIT: Final = 1_000
#: Once in so many seconds a source may fail for ever.
SOURCE_SECONDS: Final = 90.0
#: So often somebody may fail who has succeeded before, and needs not wait.
KNOWN_LIMIT: Final = 10
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
        self._known = Known(KNOWN_LIMIT, capacity)
        self._clock = clock
        self._lock = Lock()
        self._pepper = secrets.token_bytes(16)  # so that nobody can choose names that are counted as one

    def begin(self, name: str, source: str) -> Attempt:
        """Count an attempt as failed before it is judged, so that many at once cannot all pass below the limit.

        `source` is the address it comes from. Raises `TooManyAttempts`, and counts nothing, when it must not be judged
        yet.
        """
        source = network(source)
        key, pair = self._digest(name), self._pair(name, source)
        attempt = Attempt(self, source, self._digest(source), [pair])
        with self._lock:
            now = self._clock()
            if pair in self._known:
                self._known.failed(pair)
                attempt.is_known = True
            else:
                _check(max(self._names.wait(key, now), self._sources.wait(attempt.source_key, now)))
                attempt.failures.append(self._names.failed(key, now))
            self._sources.failed(attempt.source_key, now)
        return attempt

    def __len__(self) -> int:
        """How much is remembered: names, accounts, sources, and who is known."""
        return len(self._names) + len(self._accounts) + len(self._sources) + len(self._known)

    def _digest(self, text: str) -> bytes:
        raw = text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(raw, key=self._pepper, digest_size=16).digest()

    def _pair(self, name: str, source: str) -> bytes:
        return self._digest(f"{source}\0{name}")

    def _on(self, attempt: Attempt, identity: str) -> None:
        key = self._digest(identity)
        with self._lock:
            now = self._clock()
            if not attempt.is_known:
                _check(self._accounts.wait(key, now))
                attempt.failures.append(self._accounts.failed(key, now))
            attempt.pairs.append(self._pair(identity, attempt.source))

    def _succeeded(self, attempt: Attempt) -> None:
        with self._lock:
            for failure in attempt.failures:
                failure.end()
            for pair in attempt.pairs:
                self._known.succeeded(pair)
            self._sources.take_back(attempt.source_key)

    def _take_back(self, attempt: Attempt) -> None:
        with self._lock:
            for failure in attempt.failures:
                failure.take_back()
            if attempt.is_known:
                self._known.take_back(attempt.pairs[0])
            self._sources.take_back(attempt.source_key)


@dataclass(slots=True)
class Attempt:
    """One attempt, counted as a failure unless it is told otherwise."""

    attempts: Attempts
    source: str
    source_key: bytes
    pairs: list[bytes]
    """Of the source and what was tried, the name first: known if this succeeds."""
    failures: list[Failure] = field(default_factory=list)
    is_known: bool = False

    def on(self, identity: str) -> None:
        """Count it on the account that the name was found to be of, or on the name again if it is nobody's.

        Raises `TooManyAttempts`, and counts nothing more, when the account must not be tried yet.
        """
        self.attempts._on(self, identity)

    def succeeded(self) -> None:
        """The password was right: whoever it was is known, and the failures in a row of name and account are over.

        Not if they were known already: strangers' failures are not theirs to end, and go on being counted.
        """
        self.attempts._succeeded(self)

    def not_judged(self) -> None:
        """It came to no judgement, for want of a place or of the database: nobody failed."""
        self.attempts._take_back(self)


def _check(wait: float) -> None:
    if wait > 0:
        raise TooManyAttempts(math.ceil(wait))


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
