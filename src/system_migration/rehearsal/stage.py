"""Where promises are tried: a migration, scratch databases for it, and what earlier promises have found out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property

from sqlalchemy import Engine, delete, update

from system_migration.batch_migration import BatchMigration
from system_migration.migration import Migration
from system_migration.migrator import Migrator
from system_migration.records import DryRunReport, Issue, RunOptions, RunReport
from system_migration.registry import Registry
from system_migration.rehearsal import fingerprints
from system_migration.rehearsal.copies import Copies
from system_migration.rehearsal.fingerprints import Change, Snapshot
from system_migration.rehearsal.generated import Generated, generated
from system_migration.settings import Settings
from system_migration.states import Status
from system_migration.store import tables
from system_migration.store.database import Database
from system_migration.store.times import after

BATCHES = 3
_PAST = -3600.0


@dataclass
class Scratch:
    """One scratch database, and the migration on it, always through the same migrator."""

    stage: Stage
    engine: Engine
    migrator: Migrator

    @property
    def database(self) -> Database:
        """The migrator's own connections, so that they can be watched: only a rehearsal looks in there."""
        return self.migrator._database

    def run(self, options: RunOptions | None = None) -> RunReport:
        """Run the migration by name. Raises what the run raises."""
        [report] = self.migrator.run(self.stage.name, options or self.stage.options)
        return report

    def issues(self) -> list[Issue]:
        """The held rows."""
        return self.migrator.issues(self.stage.name)

    def snapshot(self) -> Snapshot:
        """All rows now."""
        with self.engine.connect() as connection:
            return fingerprints.take(connection, self.stage.keys)

    def bury_runner(self) -> None:
        """Let a killed runner's lease be over, as waiting would; and blame no row for its death, for it was ours."""
        past = after(_PAST)
        with self.engine.begin() as connection:
            connection.execute(update(tables.lease).values(expires_at=past, takeover_at=past))
            connection.execute(delete(tables.death))


@dataclass
class Stage:
    """All that a promise is handed. The first promises leave here what they have found out."""

    registry: Registry
    name: str
    copies: Copies
    settings: Settings
    main: Scratch = field(init=False)
    before: Snapshot = field(init=False)
    after: Snapshot = field(init=False)
    dry_run: DryRunReport | None = None
    report: RunReport = field(init=False)
    keys: dict[str, tuple[str, ...]] = field(init=False)
    other: Scratch = field(init=False)
    _shared: ExitStack = field(default_factory=ExitStack, init=False)

    @property
    def migration(self) -> type[Migration]:
        return self.registry[self.name]

    @property
    def batches(self) -> type[BatchMigration] | None:
        """The migration, if it works in batches."""
        return self.migration if issubclass(self.migration, BatchMigration) else None

    @contextmanager
    def fresh(self) -> Iterator[Scratch]:
        """A scratch database as all of them begin."""
        with self.copies.fresh() as engine, self.migrator_on(engine) as migrator:
            yield Scratch(self, engine, migrator)

    @contextmanager
    def migrator_on(self, engine: Engine) -> Iterator[Migrator]:
        """A migrator with connections of its own, closed at the end. What the migration requires is out of the way."""
        with Migrator(engine, self.registry, self.settings, executed_by="rehearsal") as migrator:
            for required in self.migration.requires:
                if migrator.show(required).status.status == Status.PENDING:
                    migrator.skip(required, "not part of this rehearsal")
            yield migrator

    @contextmanager
    def opened(self) -> Iterator[None]:
        """The scratch databases that promises share live as long as the block."""
        with self._shared:
            self.main = self.open_another()
            self.keys = fingerprints.primary_keys(self.main.engine)
            self.before = self.main.snapshot()
            yield

    def open_another(self) -> Scratch:
        """A scratch database that lives as long as the stage."""
        self.other = self._shared.enter_context(self.fresh())
        return self.other

    def completed_elsewhere(self) -> Scratch:
        """A second scratch database on which the migration has completed. Raises what a run raises."""
        if self.other is self.main:
            self.open_another().run()
        return self.other

    @cached_property
    def options(self) -> RunOptions:
        """Few batches, so that there are edges between them, and one worker, so that they come in their order."""
        rows = self.dry_run.rows if self.dry_run is not None else None
        return RunOptions(batch_size=max(1, -(-(rows or 1) // BATCHES)), workers=1)

    @cached_property
    def changed(self) -> list[Change]:
        """What the migration changed in the first run."""
        return list(fingerprints.changes(self.before, self.after))

    @cached_property
    def generated(self) -> Generated:
        """What the database makes up by itself, in the tables that there are after the first run."""
        return generated(self.main.engine)

    def settled(self, snapshot: Snapshot) -> Snapshot:
        """It without what the database has made up, so that scratch databases can be compared."""
        return self.generated.settled(snapshot, self.before, self.changed)

    def differences(self, one: Snapshot, other: Snapshot) -> list[Change]:
        """What differs between two ends of the same work: values that may differ by nature are not compared."""
        found = list(fingerprints.changes(self.settled(one), self.settled(other)))
        if self.migration.deterministic:
            return found
        moving = {(change.table, name) for change in self.changed for name in change.columns}
        return [
            change
            for change in found
            if change.kind != "changed" or any((change.table, name) not in moving for name in change.columns)
        ]
