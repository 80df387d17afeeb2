"""What was asked of this run of the benchmarks."""

from __future__ import annotations

from dataclasses import dataclass

DATABASES = ("postgresql", "mariadb", "sqlite")


@dataclass(frozen=True)
class Plan:
    """How large, and on which databases. A scale below 1 tries the code; its figures mean nothing."""

    scale: float = 1.0
    databases: tuple[str, ...] = DATABASES

    def rows(self, full_size: int) -> int:
        """A number of rows, scaled; never none."""
        return max(1, round(full_size * self.scale))
