"""How long to wait so that a run stays below a rate. Pure: time comes in from outside."""

from __future__ import annotations

BURST_SECONDS = 0.05
"""A batch holds at most the rows of so long: large batches with long pauses would still be felt."""


class RateLimit:
    """At most `rate` rows a second; None: no limit."""

    def __init__(self, rate: float | None = None) -> None:
        self._rate = rate
        self._free_at = float("-inf")

    def rows_at_once(self, wanted: int) -> int:
        """How many rows the next batch may have."""
        return wanted if self._rate is None else max(1, min(wanted, int(self._rate * BURST_SECONDS)))

    def wait_after(self, rows: int, moment: float) -> float:
        """Seconds to wait after a batch of `rows` was begun at `moment` (monotonic seconds)."""
        if self._rate is None:
            return 0.0
        self._free_at = max(self._free_at, moment) + rows / self._rate
        return self._free_at - moment
