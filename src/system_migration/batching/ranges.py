"""Which ranges of the key are still to do, from the numbers in the ledger alone. Pure.

A planned range takes a wide span of numbers, so that it can be split as often as it must be and every part still has
a number of its own. What the ledger does not cover is missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from system_migration.batching.keys import Key

SPAN = 1 << 32
"""The numbers of one planned range: two thousand million such ranges fit, each of which can be halved 32 times."""
NAMED_ROWS = 1 << 62
"""Where the numbers of batches begin whose rows are named, not found by a walk: a walk never comes so far."""
_SHARE = 64


@dataclass(frozen=True)
class Numbers:
    """Consecutive numbers, both ends included: what one ledger row covers."""

    first: int
    last: int

    @property
    def count(self) -> int:
        """How many there are."""
        return self.last - self.first + 1

    def halves(self) -> tuple[Numbers, Numbers]:
        """Two parts that together are the whole. Only for more than one number."""
        middle = (self.first + self.last) // 2
        return Numbers(self.first, middle), Numbers(middle + 1, self.last)

    @property
    def can_split(self) -> bool:
        """Whether there is a number for each of two parts."""
        return self.count > 1


def ordinal(first: int) -> int:
    """The number of a range as people count them, from 1; batches of named rows are counted by themselves."""
    return (first - (NAMED_ROWS if first >= NAMED_ROWS else 1)) // SPAN + 1


@dataclass(frozen=True)
class Gap:
    """Consecutive range numbers that the ledger lacks, and the keys between which their rows lie.

    Rows above `lower` and up to `upper` belong to it; None leaves that side open. `last` is None for the open end
    of the walk, which takes as many numbers as it needs.
    """

    first: int
    last: int | None
    lower: Key | None
    upper: Key | None

    def next_share(self) -> Numbers:
        """Numbers for the next batch of this gap. In a closed gap a small part of them, so that many more follow."""
        if self.last is None:
            return Numbers(self.first, self.first + SPAN - 1)
        left = self.last - self.first + 1
        return Numbers(self.first, self.first + max(1, left // _SHARE) - 1)

    def all_numbers(self) -> Numbers:
        """The numbers of the batch that takes everything that is left."""
        return self.next_share() if self.last is None else Numbers(self.first, self.last)

    @property
    def must_close(self) -> bool:
        """Whether the next batch must take everything that is left, because there is no number for another one."""
        return self.first == self.last

    @property
    def is_closed(self) -> bool:
        """Whether it ends where a committed range begins."""
        return self.last is not None

    def after(self, numbers: Numbers, reached: Key | None) -> Gap:
        """What is left behind a batch that took these numbers and ended at the key `reached`."""
        return Gap(numbers.last + 1, self.last, reached, self.upper)

    def beyond(self, reached: Key | None) -> Gap:
        """What is left behind rows up to `reached` that nothing had to be done for."""
        return Gap(self.first, self.last, reached, self.upper)


@dataclass(frozen=True)
class CommittedEdge:
    """A committed range next to a missing one: its first number and lower bound, and the end of the one before it."""

    first: int
    lower: Key | None
    previous_last: int
    previous_upper: Key | None


def gaps(edges: list[CommittedEdge], last_number: int, last_upper: Key | None) -> Iterator[Gap]:
    """The gaps before `edges` (ranges whose predecessor is missing), then the open end after `last_number`."""
    for edge in edges:
        yield Gap(first=edge.previous_last + 1, last=edge.first - 1, lower=edge.previous_upper, upper=edge.lower)
    yield Gap(first=last_number + 1, last=None, lower=last_upper, upper=None)
