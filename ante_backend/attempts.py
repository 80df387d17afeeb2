"""How often may somebody guess? Failures are counted for each name tried and each source, in this process.

A name's count is of failures in a row, and a name that no account has is counted alike. At the limit the next attempt
has to wait, and after each further failure twice as long, up to an hour: guessing ends, and whoever is shut out by a
stranger's guesses is let in again. A right password clears the name's count, but not the source's: an account of one's
own must not pay for guesses at others.

In memory, bounded: names are kept as digests, and of too many the one that failed longest ago is forgotten. Several
processes count apart, so the limit of a deployment is this one times its processes.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Final

NAME_LIMIT: Final = 100
SOURCE_LIMIT: Final = 1_000
FIRST_WAIT: Final = 60.0
LONGEST_WAIT: Final = 3_600.0
#: After so long without a failure, a count starts anew.
FORGOTTEN_AFTER: Final = 24 * 3_600.0
CAPACITY: Final = 50_000


class TooManyAttempts(Exception):
    """The attempt is not judged; `retry_after` whole seconds from now one will be."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


@dataclass(slots=True)
class _Count:
    failures: int
    last: float


class _Counter:
    """Failures of many keys, the last `capacity` of them."""

    def __init__(self, limit: int, capacity: int) -> None:
        self._limit, self._capacity = limit, capacity
        self._counts: OrderedDict[bytes, _Count] = OrderedDict()

    def wait(self, key: bytes, now: float) -> float:
        """Seconds until the next attempt may be made."""
        count = self._counts.get(key)
        if count is None or count.failures < self._limit or now - count.last > FORGOTTEN_AFTER:
            return 0.0
        doubled = min(count.failures - self._limit, 10)
        return max(0.0, count.last + min(FIRST_WAIT * 2.0**doubled, LONGEST_WAIT) - now)

    def failed(self, key: bytes, now: float) -> None:
        count = self._counts.pop(key, None)
        if count is None or now - count.last > FORGOTTEN_AFTER:
            count = _Count(0, now)
        self._counts[key] = _Count(count.failures + 1, now)
        if len(self._counts) > self._capacity:
            self._counts.popitem(last=False)

    def take_back(self, key: bytes) -> None:
        count = self._counts.get(key)
        if count is not None:
            count.failures = max(0, count.failures - 1)

    def clear(self, key: bytes) -> None:
        self._counts.pop(key, None)

    def __len__(self) -> int:
        return len(self._counts)


class Attempts:
    """Counts attempts on names, from sources. Safe in threads."""

    def __init__(
        self,
        name_limit: int = NAME_LIMIT,
        source_limit: int = SOURCE_LIMIT,
        capacity: int = CAPACITY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._names, self._sources = _Counter(name_limit, capacity), _Counter(source_limit, capacity)
        self._clock = clock
        self._lock = Lock()
        self._pepper = secrets.token_bytes(16)  # so that nobody can choose names that are counted as one

    def begin(self, name: str, source: str) -> Attempt:
        """Count an attempt as failed before it is judged, so that many at once cannot all pass below the limit.

        `source` is the address it comes from. Raises `TooManyAttempts`, and counts nothing, when it must not be judged
        yet.
        """
        attempt = Attempt(self, self._digest(name), self._digest(network(source)))
        with self._lock:
            now = self._clock()
            wait = max(self._names.wait(attempt.name, now), self._sources.wait(attempt.source, now))
            if wait > 0:
                raise TooManyAttempts(math.ceil(wait))
            self._names.failed(attempt.name, now)
            self._sources.failed(attempt.source, now)
        return attempt

    def __len__(self) -> int:
        """How many names and sources are remembered."""
        return len(self._names) + len(self._sources)

    def _digest(self, text: str) -> bytes:
        raw = text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(raw, key=self._pepper, digest_size=16).digest()

    def _settle(self, attempt: Attempt, *, succeeded: bool) -> None:
        with self._lock:
            if succeeded:
                self._names.clear(attempt.name)
            else:
                self._names.take_back(attempt.name)
            self._sources.take_back(attempt.source)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt, counted as a failure unless it is told otherwise."""

    attempts: Attempts
    name: bytes
    source: bytes

    def succeeded(self) -> None:
        """The password was right: the name's failures in a row are over."""
        self.attempts._settle(self, succeeded=True)

    def not_judged(self) -> None:
        """It came to no judgement, for want of a place or of the database: nobody failed."""
        self.attempts._settle(self, succeeded=False)


def network(source: str) -> str:
    """Whom an address belongs to: of IPv6 the /64, which one subscriber has."""
    try:
        address = ipaddress.ip_address(source.partition("%")[0])
    except ValueError:
        return source
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else str(address)
