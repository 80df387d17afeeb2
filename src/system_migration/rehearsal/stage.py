"""Where promises are tried: a migration, scratch databases for it, and what earlier promises have found out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

from sqlalchemy import Engine, update

from system_migration.batch_migration import BatchMigration
from system_migration.migration import Migration
from system_migration.migrator import Migrator
from system_migration.records import DryRunReport, Issue, RunOptions, RunReport
from system_migration.registry import Registry
from system_migration.rehearsal import fingerprints
from system_migration.rehearsal.copies import Copies
from system_migration.rehearsal.fingerprints import Change, Snapshot
from system_migration.settings import Settings
from system_migration.store import tables
from system_migration.store.times import after

BATCHES = 3
_PASSED = -3600.0


@dataclass
class Scratch:
    """One scratch database, and runs of the migration on it."""

    stage: Stage
    engine: Engine

    @contextmanager
    def migrator(self) -> Iterator[Migrator]:
        """A migrator with connections of its own, closed at the end. What the migration requires is out of the way."""
        stage = self.stage
        with Migrator(self.engine, stage.registry, stage.settings, executed_by="rehearsal") as migrator:
            for required in stage.migration.requires:
                if migrator.show(required).status.status == "PENDING":
                    migrator.skip(required, "not part of this rehearsal")
            yield migrator

    def run(self, options: RunOptions | None = None) -> RunReport:
        """Run the migration by name, from a fresh migrator. Raises what the run raises."""
        with self.migrator() as migrator:
            [report] = migrator.run(self.stage.name, options or self.stage.options)
            return report

    def issues(self) -> list[Issue]:
        """The held rows."""
        with self.migrator() as migrator:
            return migrator.issues(self.stage.name)

    def snapshot(self) -> Snapshot:
        """All rows now."""
        with self.engine.connect() as connection:
            return fingerprints.take(connection, self.stage.keys)

    def expire_lease(self) -> None:
        """Let a killed runner's lease be over, as waiting would."""
        past = after(_PASSED)
        with self.engine.begin() as connection:
            connection.execute(update(tables.lease).values(expires_at=past, takeover_at=past))


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
        with self.copies.fresh() as engine:
            yield Scratch(self, engine)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """The scratch database that the first promises share lives as long as the block."""
        with self.fresh() as scratch:
            self.main, self.keys = scratch, fingerprints.primary_keys(scratch.engine)
            self.before = scratch.snapshot()
            yield

    @cached_property
    def options(self) -> RunOptions:
        """Few batches, so that there are edges between them, and one worker, so that they come in their order."""
        rows = self.dry_run.rows if self.dry_run is not None else None
        return RunOptions(batch_size=max(1, -(-(rows or 1) // BATCHES)), workers=1)

    @cached_property
    def changed(self) -> list[Change]:
        """What the migration changed in the first run."""
        return list(fingerprints.changes(self.before, self.after))
