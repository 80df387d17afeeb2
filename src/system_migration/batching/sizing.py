"""How many rows the next batch takes. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

FIRST = 100
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
        """The size that would have met both time targets, reached in steps of at most a fifth more."""
        if self.fixed or rows < self.rows:
            return self
        ideal = self.rows * min(WRITE_SECONDS / max(write_seconds, 1e-6), BATCH_SECONDS / max(total_seconds, 1e-6))
        step = max(int(self.rows * GROWTH), self.rows + 1)  # a fifth of very few is nothing
        return replace(self, rows=max(1, min(LARGEST, int(ideal), step)))

    def halved(self) -> BatchSize:
        """Half the size, after a timeout or a deadlock."""
        return self if self.fixed else replace(self, rows=max(1, self.rows // 2))
