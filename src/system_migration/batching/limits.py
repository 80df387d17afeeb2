"""How many rows a run may change: a filter that is wrong is stopped inside of the batch that passes the limit."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from system_migration.errors import MigrationFailed


class ChangeLimit:
    """Counts the rows that batches change, those of uncommitted ones included. Shared by all threads of a run."""

    def __init__(self, name: str, most: int | None = None, so_far: int = 0) -> None:
        self._name, self._most, self._count = name, most, so_far
        self._turn = threading.Lock()

    def add(self, changed: int) -> None:
        """Count rows that are committed already."""
        with self._turn:
            self._count += changed

    @contextmanager
    def reservation(self) -> Iterator[Reservation]:
        """Within the block a batch may be approved; what it takes is given back if the block raises."""
        reserved = Reservation(self)
        try:
            yield reserved
        except BaseException:
            self.add(-reserved.rows)
            raise

    def take(self, changed: int) -> None:
        """Count `changed` rows, or raise `MigrationFailed` if they are too many."""
        with self._turn:
            if self._most is not None and self._count + changed > self._most:
                raise MigrationFailed(
                    self._name,
                    f"it would change more than {self._most:,} rows, the most that were allowed; the batch that passed "
                    f"this limit was rolled back, {self._count:,} rows stay changed. Check "
                    "which rows it selects; to go on, run it again with a higher limit.",
                )
            self._count += changed


class Reservation:
    """What one batch has taken of the limit."""

    def __init__(self, limit: ChangeLimit) -> None:
        self._limit, self.rows = limit, 0

    def approve(self, changed: int) -> None:
        """Take `changed` rows. Raises `MigrationFailed` if they are too many."""
        self._limit.take(changed)
        self.rows = changed
