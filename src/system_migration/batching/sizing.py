"""How many rows the next batch takes. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

FIRST = 500
LARGEST = 10_000
WRITE_SECONDS = 0.25
BATCH_SECONDS = 5.0
GROWTH = 1.2


@dataclass(frozen=True)
class BatchSize:
    """A batch size that follows measurements, or the operator's, which stays."""

    rows: int
    fixed: bool = False

    @classmethod
    def starting(cls, wanted: int | None) -> BatchSize:
        """`wanted` rows and no others, or a cautious first size to adapt."""
        return cls(wanted, fixed=True) if wanted else cls(FIRST)

    def after(self, rows: int, total_seconds: float, write_seconds: float) -> BatchSize:
        """The size that would have met both time targets, reached in steps of at most a fifth more.

        A batch of fewer rows, planned before the size grew or at the end of a range, can speak for growth only: of
        few rows the fixed costs are most.
        """
        if self.fixed or not rows:
            return self
        ideal = rows * min(WRITE_SECONDS / max(write_seconds, 1e-6), BATCH_SECONDS / max(total_seconds, 1e-6))
        step = max(int(self.rows * GROWTH), self.rows + 1)  # a fifth of very few is nothing
        fitting = max(1, min(LARGEST, int(ideal), step))
        return replace(self, rows=max(self.rows, fitting) if rows < self.rows else fitting)

    def halved(self) -> BatchSize:
        """Half the size, after a timeout or a deadlock."""
        return self if self.fixed else replace(self, rows=max(1, self.rows // 2))
