"""Reading the rows of a batch, no more bytes at once than its budget. No lock is taken and no transaction left open."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Select
from sqlalchemy.exc import DBAPIError

from system_migration.batching.keys import Key
from system_migration.batching.target import Target
from system_migration.batching.writes import RawRow
from system_migration.migration import Progress
from system_migration.store.database import Database
from system_migration.store.dialects import Fault
from system_migration.store.patience import Patience

_PAGE = Patience(in_the_way=2.0, away=math.inf)
"""A page that takes longer than it may is asked for again, and then a smaller one."""
BATCH_BYTES = 2 * 1024 * 1024
"""What the unbounded columns of a batch may weigh together. A heavier row is a batch of its own."""
GATHERED_ROWS = 100
"""Smaller pages are read plainly: there is little to gain, and their rows may be heavy."""
DISAPPOINTMENTS = 3
"""After so many pages in a row that could not be gathered, gathering is not tried any more."""


@dataclass(frozen=True)
class Page:
    """Rows of a range in key order, and the key of the last one; `exhausted` if the range has no more.

    Where the database itself changes the rows none are read, and only `reached` tells whether there are any.
    """

    rows: Sequence[RawRow]
    reached: Key | None
    exhausted: bool


@dataclass
class Reader:
    """Reads for one run. `heaviest` is the weight in bytes of its heaviest row when the run began.

    `by_name` has also those rows read that the database itself changes, so that they can be named.
    """

    database: Database
    target: Target
    progress: Progress
    heaviest: int = 0
    by_name: bool = False
    _disappointments: int = field(default=0, init=False)

    @property
    def leaves_rows(self) -> bool:
        """Whether rows stay where they are: the database itself changes whole ranges of them."""
        return self.target.assigned is not None and not self.by_name

    def page(self, lower: Key | None, upper: Key | None, limit: int | None) -> Page:
        """Up to `limit` rows that need the change, fewer if they are heavy; at least one if there is one."""
        if self.leaves_rows:
            return self._page_to_assign(lower, upper, limit)
        if limit is not None and self.heaviest * limit > BATCH_BYTES:
            limit = self._fitting(lower, upper, limit)
        query = self.target.batch(lower, upper, limit)
        worthwhile = limit is not None and limit >= GATHERED_ROWS
        rows = self.database.ask(
            lambda connection: self._rows(connection, query, worthwhile), self.progress.waiting, patience=_PAGE
        )
        reached = self.target.key_of(rows[-1]) if rows else None
        return Page(rows, reached, limit is None or len(rows) < limit)

    def _rows(self, connection: Connection, query: Select[Any], worthwhile: bool) -> Sequence[RawRow]:
        """The rows of a page, gathered where that works. Whatever stands in the way of it must not end a run."""
        if worthwhile and self._disappointments < DISAPPOINTMENTS:
            self._disappointments += 1  # also if the connection is lost: it may be what the server does not survive
            try:
                rows = self.target.gather(connection, query)
            except DBAPIError as error:
                if self.database.dialect.fault(error) in (Fault.RETRY, Fault.LOST):
                    raise
                rows = None
            if rows is not None:
                self._disappointments = 0
                return rows
        return self.target.fetch(connection, query)

    def _page_to_assign(self, lower: Key | None, upper: Key | None, limit: int | None) -> Page:
        reached = None if limit is None else self._one_key(self.target.edge(lower, upper, limit))
        if reached is not None:
            return Page((), reached, exhausted=False)
        return Page((), self._one_key(self.target.last(lower, upper)), exhausted=True)

    def named_rows(self, keys: Sequence[Key]) -> list[RawRow]:
        """Named rows as they are now, those that are still there and still need the change, in key order."""

        def look(connection: Connection) -> list[RawRow]:
            portions = self.target.portions(keys)
            return [row for part in portions for row in self.target.fetch(connection, self.target.named_todo(part))]

        return self.database.ask(look, self.progress.waiting)

    def highest_key(self) -> Key | None:
        """The highest key of the table now."""
        return self._one_key(self.target.highest())

    def _one_key(self, query: Select[Any]) -> Key | None:
        row = self.database.ask(lambda connection: connection.execute(query).one_or_none(), self.progress.waiting)
        return None if row is None else tuple(row)

    def _fitting(self, lower: Key | None, upper: Key | None, limit: int) -> int:
        """How many rows weigh no more than the budget."""
        query = self.target.weights(lower, upper, limit)
        weights = self.database.ask(lambda connection: connection.execute(query).scalars().all(), self.progress.waiting)
        total = 0
        for count, weight in enumerate(weights):
            total += weight
            if total > BATCH_BYTES:
                return max(1, count)
        return limit
