"""What a range that runners died of is still trusted with. Pure: `store.deaths` counts, the loop obeys.

`planned` is the number of rows that a batch has without deaths: the configured or the first size, the same for every
runner, never the adapted one. So each successor finds out what the dead one tried.
"""

from __future__ import annotations

TOLERATED = 1
"""Deaths that say nothing about the rows: machines are switched off, too."""


def rows_allowed(planned: int, deaths: int) -> int | None:
    """How many rows a batch of this range may have: half as many after each death, at last one; None: no limit."""
    if deaths <= TOLERATED:
        return None
    return max(1, planned >> (deaths - TOLERATED))


def must_hold(planned: int, deaths: int) -> bool:
    """Whether the last runner died of this range although it took a single row of it, its first."""
    before = rows_allowed(planned, deaths - 1)
    return deaths > TOLERATED and (planned if before is None else before) == 1
