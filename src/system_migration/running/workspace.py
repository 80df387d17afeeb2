"""What every run works with: the database, who acts, who watches, and the wish to stop."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from system_migration.clock import Clock
from system_migration.errors import HeldElsewhere, MigrationSystemError, Refused
from system_migration.facts import WhichRun
from system_migration.records import Origin
from system_migration.running.pulse import Voice
from system_migration.schema_history import SchemaHistory
from system_migration.store import audit, meanwhile
from system_migration.store.audit import Actor
from system_migration.store.database import Database
from system_migration.store.dialects import Fault
from system_migration.store.migrations import MigrationRow
from system_migration.store.runs import Attempt


@dataclass(frozen=True)
class Workspace:
    """The surroundings of a run, the same for every migration of one call.

    `run_ids` has the ids that new attempts are to bear; `origin` says through which door the start came, if it was
    said. `seen` is the revision of the migration by which the actor decided, if that was said. `progress` is one run's
    own: it remembers what it was told last. With `require_approval` production is changed only as was approved.
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
    schema: SchemaHistory
    origin: Origin | None = None
    seen: int | None = None
    require_approval: bool = False

    def which_run(self, attempt: Attempt) -> WhichRun:
        """Which run it is, for who is told of it."""
        what = attempt.name, attempt.environment, attempt.id, attempt.kind, attempt.generation
        return WhichRun(*what, self.actor.name, self.actor.host)

    def demand_unchanged(self, connection: Connection, name: str, row: MigrationRow | None) -> None:
        """Raise `ChangedMeanwhile` where the actor decided by another state than `row`, as it is now.

        It holds for as long as nobody else can write: to be asked in the transaction that does, with the lease won, or
        before a compare-and-set on that row.
        """
        if self.seen is not None and (row.revision if row is not None else 0) != self.seen:
            raise meanwhile.changed(connection, self.environment, name)

    def note(
        self,
        connection: Connection,
        name: str,
        action: str,
        detail: Mapping[str, Any] | None = None,
        run_id: str | None = None,
    ) -> None:
        """Record what the actor has just changed on the migration's row. Raises `ChangedMeanwhile` for a second time.

        A request that comes again may find what it was decided by: a pause that was taken back leaves the revision from
        before. Asked with the row locked by the change, no other can be between this look and the entry.
        """
        origin = self.origin.detail() if self.origin is not None else {}
        if self.origin is not None and audit.of_request(connection, self.environment, name, self.origin.run_id):
            raise meanwhile.changed(connection, self.environment, name)
        audit.add_event(connection, self.environment, name, action, self.actor, {**(detail or {}), **origin}, run_id)

    def act(self, name: str, actions: Collection[str], step: Callable[[Connection], bool]) -> bool:
        """What `step` answers, run in one write transaction that records one of these actions if it does anything.

        A commit whose answer is lost is looked for in that record: else the step would find its own deed, and take it
        for somebody else's. Raises `Refused` where others keep this one from writing for too long.
        """
        place = self.environment, name
        since = self.database.ask(lambda connection: audit.newest_id(connection, *place), self.progress.waiting)

        def landed(connection: Connection) -> bool | None:
            return audit.did(connection, *place, self.actor, actions, since) or None

        try:
            return self.database.transact(step, self.progress.waiting, landed=landed)
        except DBAPIError as error:
            if self.database.dialect.fault(error) is not Fault.RETRY:
                raise
            raise Refused(
                f"Migration {name} is inside a transaction that lets nobody else write. Ask again when it is over."
            ) from error

    def held_elsewhere(self, connection: Connection, name: str, held_by: str) -> MigrationSystemError:
        """What to raise where another runner has the lease. It may have it only since the actor looked."""
        if self.seen is None:
            return HeldElsewhere(name, held_by)
        return meanwhile.begun(connection, self.environment, name, held_by)
