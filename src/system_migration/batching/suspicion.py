"""Ranges that runners died of: taken alone and in ever smaller batches, until the row that kills is held."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from system_migration.batching.deaths import must_hold, rows_allowed
from system_migration.batching.ranges import Gap
from system_migration.store import deaths
from system_migration.store.database import Database
from system_migration.store.runs import Attempt

KILLED_THE_RUNNER = "killed_the_runner"
KILLED_MESSAGE = "runners died again and again with this row in their hands, the last time with this row alone"


@dataclass(frozen=True)
class Suspect:
    """What the deaths of earlier runners say about the next batch of a gap.

    `allowed` is the number of rows it may have, None for no limit. Alone in flight, so that no other range is blamed.
    """

    allowed: int | None = None
    must_hold: bool = False

    @property
    def must_be_alone(self) -> bool:
        """Whether nothing else may be under way with this batch."""
        return self.allowed is not None

    @classmethod
    def look(
        cls,
        database: Database,
        run: Attempt,
        pass_number: int,
        gap: Gap,
        planned: int,
        waiting: Callable[[str], None],
    ) -> Suspect:
        """What is known about a gap. `planned` is the number of rows a batch has without deaths."""

        def look(connection: Connection) -> Suspect:
            died = deaths.deaths_of(connection, run, pass_number, gap)
            if not must_hold(planned, died):
                return cls(rows_allowed(planned, died))
            return cls(1, must_hold=deaths.died_at(connection, run, pass_number, gap.first))

        return database.ask(look, waiting)

    def after_a_batch(self, gap: Gap) -> Suspect:
        """What is left of the suspicion behind a batch that went well."""
        if not gap.is_closed or self.allowed is None:
            return INNOCENT
        return replace(self, allowed=2 * self.allowed, must_hold=False)


INNOCENT = Suspect()
