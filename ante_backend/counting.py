"""Three ways to count failures, all in bounded memory: of too many keys, the one counted longest ago is forgotten.

Not safe in threads: `Attempts` has the lock.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

FIRST_WAIT: Final = 60.0
LONGEST_WAIT: Final = 3_600.0
#: After so long without a failure, a count in a row starts anew.
FORGOTTEN_AFTER: Final = 24 * 3_600.0


@dataclass(slots=True)
class _Count:
    failures: int
    last: float


@dataclass(frozen=True, slots=True)
class Failure:
    """One that was counted, and when the one before it was."""

    count: InARow
    key: bytes
    at: float
    before: float

    def take_back(self) -> None:
        """It was none: the count is what it would be without, and so is the wait."""
        self.count._take_back(self)

    def end(self) -> None:
        """It was none, and the failures before it are over."""
        self.count._end(self.key)


class InARow:
    """Failures in a row. From `limit` on each makes wait, twice as long as the one before, up to an hour."""

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

    def failed(self, key: bytes, now: float) -> Failure:
        """Count one."""
        count = self._counts.pop(key, None)
        if count is None or now - count.last > FORGOTTEN_AFTER:
            count = _Count(0, now)
        self._counts[key] = _Count(count.failures + 1, now)
        if len(self._counts) > self._capacity:
            self._counts.popitem(last=False)
        return Failure(self, key, now, count.last)

    def __len__(self) -> int:
        return len(self._counts)

    def _take_back(self, failure: Failure) -> None:
        count = self._counts.get(failure.key)
        if count is None:
            return
        count.failures = max(0, count.failures - 1)
        if count.last == failure.at:  # and not a later one's
            count.last = failure.before

    def _end(self, key: bytes) -> None:
        self._counts.pop(key, None)


class Leaking:
    """Failures that are forgotten one by one, each after `seconds`. While `limit` are remembered, the next waits."""

    def __init__(self, limit: int, seconds: float, capacity: int) -> None:
        self._limit, self._seconds, self._capacity = limit, seconds, capacity
        self._empty_at: OrderedDict[bytes, float] = OrderedDict()  # when the last of them is forgotten

    def wait(self, key: bytes, now: float) -> float:
        """Seconds until the next attempt may be made."""
        return max(0.0, self._empty_at.get(key, now) - (self._limit - 1) * self._seconds - now)

    def failed(self, key: bytes, now: float) -> None:
        """Count one."""
        self._empty_at[key] = max(self._empty_at.pop(key, now), now) + self._seconds
        if len(self._empty_at) > self._capacity:
            self._empty_at.popitem(last=False)

    def take_back(self, key: bytes) -> None:
        """One that was counted was none: the count is what it would be without."""
        if key in self._empty_at:
            self._empty_at[key] -= self._seconds

    def __len__(self) -> int:
        return len(self._empty_at)


class Known:
    """Whoever has succeeded once, and has failed fewer than `limit` times since."""

    def __init__(self, limit: int, capacity: int) -> None:
        self._limit, self._capacity = limit, capacity
        self._failures: OrderedDict[bytes, int] = OrderedDict()

    def __contains__(self, key: bytes) -> bool:
        return self._failures.get(key, self._limit) < self._limit

    def succeeded(self, key: bytes) -> None:
        """Known from now on, with no failure."""
        self._failures.pop(key, None)
        self._failures[key] = 0
        if len(self._failures) > self._capacity:
            self._failures.popitem(last=False)

    def failed(self, key: bytes) -> None:
        """Count one, of somebody known."""
        self._failures[key] += 1

    def take_back(self, key: bytes) -> None:
        """One that was counted was none."""
        if key in self._failures:
            self._failures[key] = max(0, self._failures[key] - 1)

    def __len__(self) -> int:
        return len(self._failures)
