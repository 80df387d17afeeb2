"""What was asked of this run of the benchmarks."""

from __future__ import annotations

from dataclasses import dataclass

DATABASES = ("postgresql", "mariadb", "sqlite")


@dataclass(frozen=True)
class Plan:
    """How large, on which databases, and which writers. A scale below 1 tries the code; its figures mean nothing.

    `only` is a part of the names of the writers to measure; one UPDATE, which is the unit, always runs.
    """

    scale: float = 1.0
    databases: tuple[str, ...] = DATABASES
    only: str = ""

    def rows(self, full_size: int) -> int:
        """A number of rows, scaled; never none."""
        return max(1, round(full_size * self.scale))
