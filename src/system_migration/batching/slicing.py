"""How the rows of a batch are cut up for those who transform them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Slicing:
    """How many rows are worth their way to a worker, by the seconds that one row took so far.

    A slice takes at least `shortest` seconds, or handing it over would cost more than the work, and at most `longest`:
    where a batch is cut, one worker waits for the slice of another. Before a row was measured it has `unmeasured` rows
    at the most, None for as many as there are.
    """

    shortest: float = 0.002
    longest: float = 0.1
    unmeasured: int | None = None

    def parts(self, count: int, workers: int, row_seconds: float, measured_now: float = 0.0) -> Iterator[slice]:
        """Slices over `count` rows. `row_seconds` is what a row took before, 0 when none did; `measured_now` wins."""
        per_row = measured_now or row_seconds
        largest = max(1, int(self.longest / per_row)) if per_row else self.unmeasured or max(1, count)
        smallest = int(self.shortest / row_seconds) if row_seconds else 1
        return slices(count, workers, min(smallest, largest), largest)


def slices(count: int, workers: int, smallest: int = 1, largest: int | None = None) -> Iterator[slice]:
    """Slices over `count` rows that shrink towards the end, so that all workers finish at about the same time."""
    start = 0
    while start < count:
        wanted = max(1, smallest, (count - start) // (2 * workers))
        size = min(count - start, wanted if largest is None else min(wanted, largest))
        yield slice(start, start + size)
        start += size
