"""Which ranges of the key are still to do, from the numbers in the ledger alone. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from system_migration.batching.keys import Key


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

    def closes_with(self, number: int) -> bool:
        """Whether the range `number` must take everything that is left of a closed gap."""
        return number == self.last


@dataclass(frozen=True)
class CommittedEdge:
    """A committed range, next to a missing one: its number, its bounds, and the one committed before it."""

    number: int
    lower: Key | None
    previous_number: int
    previous_upper: Key | None


def gaps(edges: list[CommittedEdge], last_number: int, last_upper: Key | None) -> list[Gap]:
    """The gaps before `edges` (ranges whose predecessor is missing), then the open end after `last_number`."""
    inner = [
        Gap(first=edge.previous_number + 1, last=edge.number - 1, lower=edge.previous_upper, upper=edge.lower)
        for edge in edges
    ]
    return [*inner, Gap(first=last_number + 1, last=None, lower=last_upper, upper=None)]
