"""What every run works with: the database, who acts, who watches, and the wish to stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from system_migration.clock import Clock
from system_migration.records import Origin
from system_migration.running.pulse import Voice
from system_migration.store.audit import Actor
from system_migration.store.database import Database


@dataclass(frozen=True)
class Workspace:
    """The surroundings of a run, the same for every migration of one call.

    `run_ids` has the ids that new attempts are to bear; `origin` says through which door the start came, if it was
    said. `progress` is one run's own: it remembers what it was told last.
    """

    database: Database
    environment: str
    actor: Actor
    lease_seconds: float
    progress: Voice
    ask: Callable[[str], str | None]
    clock: Clock
    stop_signal: Callable[[], int | None]
    run_ids: Iterator[str]
    origin: Origin | None = None
