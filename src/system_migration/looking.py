"""What can be asked without starting anything: every verb that only reads. `Migrator` adds those that write."""

from __future__ import annotations

import builtins
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from sqlalchemy import Connection

from system_migration import approvals, overview, undoing
from system_migration import code as sources
from system_migration.errors import UnknownRun
from system_migration.migration import Migration
from system_migration.records import (
    ApprovalState,
    Batch,
    Event,
    Finding,
    Followed,
    Issue,
    IssueCount,
    Listed,
    LogLine,
    Run,
    Shown,
    Start,
    StatusReport,
    Unfinished,
)
from system_migration.registry import Registry
from system_migration.schema_history import SchemaHistory
from system_migration.settings import PRODUCTION, Settings
from system_migration.states import Status
from system_migration.store import audit, batches, following, issues, rates, runs, schema_revision, starts
from system_migration.store.database import Database
from system_migration.store.migrations import MigrationRow, Snapshot
from system_migration.tracked import Tracked


class Looking:
    """Answers questions about the migrations of a registry. Nothing here writes or takes a lock.

    Where nothing was ever written, everything is pending and the rest is empty.
    """

    registry: Registry
    settings: Settings
    _database: Database
    _tracked: Tracked
    _history_of_schema: SchemaHistory

    @property
    def environment(self) -> str:
        """The environment's name: as given, else as the database is bound, else development (SQLite only)."""
        return self._tracked.environment

    def status(self) -> StatusReport:
        """Where every migration stands. One SELECT; writes nothing, takes no lock.

        Where a migration waits for a schema revision, another one asks Alembic's table for it.
        """
        snapshot = self._snapshot()
        return overview.report(self.registry, snapshot, self.environment, self._waits_for_schema(snapshot))

    def list(self) -> builtins.list[Listed]:
        """What the migration files declare, in the order in which they run."""
        return self.registry.listed()

    def pending(self) -> builtins.list[str]:
        """The migrations that a plain `run` would take, in order."""
        return overview.to_do(self.registry, self._snapshot())

    def show(self, name: str) -> Shown:
        """One migration with its runs, events and latest dry-run report."""
        snapshot = self._snapshot()
        status = overview.status_of(self.registry, snapshot, name, self._waits_for_schema(snapshot))
        row = snapshot.rows.get(name)
        listed = next((item for item in self.registry.listed() if item.name == name), None)
        return Shown(
            status=status,
            listed=listed,
            generation=row.generation if row else 1,
            runs=self._history(name, 20),
            events=self._tracked.read(lambda c: audit.trail(c, self.environment, name, None, 20), []),
            report=self._tracked.read(lambda c: runs.latest_report(c, self.environment, name), None),
            rollback=self._tracked.read(lambda c: undoing.sentence(c, self.registry, snapshot.rows, name), ""),
            approval=self._approval(name, row) if name in self.registry else None,
        )

    @property
    def needs_approval(self) -> bool:
        """Whether a run here needs the approval of another developer: REQUIRE_APPROVAL is set, and it is production."""
        if not self.settings.require_approval:
            return False
        return self._tracked.read(lambda c: approvals.is_required(c, self.environment), self.environment == PRODUCTION)

    def approval(self, name: str) -> ApprovalState:
        """Whether a run of a migration needs an approval here, the newest one, and what could be approved now."""
        return self._approval(self.registry[name].name, self._row_of(name))

    def _approval(self, name: str, row: MigrationRow | None) -> ApprovalState:
        migration, needed = self.registry[name], self.settings.require_approval

        def ask(connection: Connection) -> ApprovalState:
            return approvals.state(connection, self.environment, migration, row, setting=needed)

        return self._tracked.read(ask, ApprovalState(needed and self.environment == PRODUCTION, None, None, None))

    def history(self, name: str | None = None, limit: int = 100, *, before: str | None = None) -> builtins.list[Run]:
        """Attempts, newest first; those older than the run `before`, if one is named: the last of the page before."""
        if name is not None:
            self._require_known(name)
        return self._history(name, limit, before)

    def _history(self, name: str | None, limit: int, before: str | None = None) -> builtins.list[Run]:
        def ask(connection: Connection, lacking: Collection[str]) -> builtins.list[Run]:
            return runs.history(connection, self.environment, name, limit, before, lacking=lacking)

        return self._tracked.read_older(ask, [])

    def follow(self, run_ids: Collection[str]) -> builtins.list[Followed]:
        """How far these runs are, whichever process works on them. One SELECT; unknown ids are left out."""

        def ask(connection: Connection, lacking: Collection[str]) -> builtins.list[Followed]:
            return following.follow(connection, self.environment, run_ids, lacking=lacking)

        return self._tracked.read_older(ask, [])

    def rates(self, names: Collection[str]) -> Mapping[str, float]:
        """Rows a second that the current runs of these migrations committed in about the last minute.

        A run that is younger counts from its first batch; one without a batch in that time is left out. One SELECT.
        """

        def ask(connection: Connection, lacking: Collection[str]) -> Mapping[str, float]:
            return rates.rates(connection, self.environment, names, lacking=lacking)

        return self._tracked.read_older(ask, {}) if names else {}

    def run_by_id(self, run_id: str) -> Followed:
        """One run as it stands now. Raises `UnknownRun`."""
        found = self.follow([run_id])
        if not found:
            raise UnknownRun(run_id)
        return found[0]

    def report_of(self, run_id: str) -> Mapping[str, Any] | None:
        """The report that a dry run was kept with, as plain JSON values; None for any other run."""
        report: Mapping[str, Any] | None = self._tracked.read(lambda c: runs.report_of(c, run_id), None)
        return report

    def current_run(self, name: str) -> Run | None:
        """The newest attempt that changed, or is changing, where this migration stands."""
        row = self._row_of(name)
        run_id = row.run_id if row is not None else None
        if run_id is None:
            return None

        def ask(connection: Connection, lacking: Collection[str]) -> Run | None:
            return runs.find_run(connection, self.environment, run_id, lacking=lacking)

        return self._tracked.read_older(ask, None)

    def run_of_request(self, request_id: str) -> tuple[Run, Start | None] | None:
        """The run that came of the start with this id, and that start, where it is on the record."""

        def ask(connection: Connection, lacking: Collection[str]) -> tuple[Run, Start | None] | None:
            return starts.by_request(connection, self.environment, request_id, lacking=lacking)

        return self._tracked.read_older(ask, None)

    def last_start(self, name: str) -> Start | None:
        """How the last runner of the attempt by which this migration stands was started; None without one."""
        row = self._row_of(name)
        if row is None or row.run_id is None:
            return None
        run_id = str(row.run_id)
        return self._tracked.read(lambda c: starts.newest(c, self.environment, name, run_id), None)

    def unfinished_from(self, *doors: str) -> builtins.list[Unfinished]:
        """The runs without an end whose last runner was started through one of these doors."""
        going = [row for row in self._snapshot().rows.values() if row.status is Status.RUNNING]

        def find(connection: Connection) -> Iterator[Unfinished]:
            for row in going:
                start = starts.newest(connection, self.environment, row.name, str(row.run_id))
                if start is not None and start.door in doors and row.run_kind is not None:
                    yield Unfinished(str(row.run_id), row.name, row.run_kind, row.stale, start)

        return self._tracked.read(lambda c: builtins.list(find(c)), []) if going else []

    def lines_after(
        self, run_id: str, after: int = 0, *, level: str = "debug", limit: int = 200
    ) -> builtins.list[LogLine]:
        """The log of a run from behind the line whose id is `after`, oldest first."""
        return self._tracked.read(lambda c: audit.lines_after(c, run_id, after, limit, level), [])

    def lines_before(
        self, run_id: str, before: int | None = None, *, level: str = "debug", limit: int = 200
    ) -> builtins.list[LogLine]:
        """The newest lines of a run's log, or those from before the line whose id is `before`; oldest first."""
        return self._tracked.read(lambda c: audit.lines_before(c, run_id, before, limit, level), [])

    def audit(self, name: str | None = None, *, before: int | None = None, limit: int = 100) -> builtins.list[Event]:
        """Who did what, newest first: of one migration, or of all and of the environment itself.

        With `before`, those from before the entry with this id: the last of the page before.
        """
        if name is not None:
            self._require_known(name)
        return self._tracked.read(lambda c: audit.trail(c, self.environment, name, before, limit), [])

    def event_of_request(self, name: str, request: str) -> Event | None:
        """What came of the request with this id, as `Origin` has it, to a migration."""
        return self._tracked.read(lambda c: audit.of_request(c, self.environment, name, request), None)

    def source(self, name: str) -> str | None:
        """The text of the file that defines a migration, as its code is judged by; None where there is none."""
        if name not in self.registry:
            self._require_known(name)
            return None
        return sources.source(self.registry[name])

    def events_after(self, run: Run, after: int = 0, *, limit: int = 200) -> builtins.list[Event]:
        """The audit entries of a run from behind the one whose id is `after`, oldest first."""
        place = self.environment, run.migration, run.id
        return self._tracked.read(lambda c: audit.events_after(c, *place, after, limit), [])

    def batches(self, name: str, *, run_id: str | None = None, limit: int = 100) -> builtins.list[Batch]:
        """The committed batches of a migration, or of one of its runs, newest first."""
        place = self.environment, name, run_id, limit
        found: builtins.list[Batch] = self._tracked.read(lambda c: batches.listing(c, *place), [])
        if not found:
            self._require_known(name)  # last, for a screen that asks again and again
        return found

    def logs(
        self, name: str, *, run_id: str | None = None, level: str = "debug", limit: int = 200
    ) -> builtins.list[LogLine]:
        """The newest `limit` stored log lines of a migration at or above `level`, oldest first."""
        self._require_known(name)
        return self._tracked.read(lambda c: audit.lines(c, self.environment, name, run_id, level, limit), [])

    def issues(self, name: str) -> builtins.list[Issue]:
        """The held rows of a migration's current generation; after a rollback, the rows that it left as they are."""
        place = self._where_held(name)
        return self._tracked.read(lambda c: issues.listing(c, *place), [])

    def issues_after(
        self, name: str, after: str | None = None, *, limit: int = 200, code: str | None = None
    ) -> builtins.list[Issue]:
        """A page of `issues`: those behind the place of the one whose id is `after`, be it held still or not.

        With a `code`, those that are held for this reason. Raises `ValueError` where `after` is no id.
        """
        environment, _, generation, codes = self._where_held(name)
        if code is not None:
            codes = (code,) if codes is None or code in codes else ()
        return self._tracked.read(lambda c: issues.page(c, environment, name, generation, codes, after, limit), [])

    def issue_counts(self, name: str) -> builtins.list[IssueCount]:
        """How many rows are held for each reason, those of the most frequent one first; `issues` lists them."""
        place = self._where_held(name)
        return self._tracked.read(lambda c: issues.counts(c, *place), [])

    def issue_of(self, name: str, key: str) -> Issue | None:
        """What is held against the row whose key is written like this; of several columns, as a JSON list.

        Raises `ValueError` where it cannot be a key of this table.
        """
        place = self._where_held(name)
        return self._tracked.read(lambda c: issues.find(c, *place, key), None)

    def _where_held(self, name: str) -> tuple[str, str, int, tuple[str, ...] | None]:
        row = self._require_known(name)
        if row is not None and row.status is Status.ROLLED_BACK:
            return self.environment, name, row.generation - 1, issues.NOT_RESTORED
        return self.environment, name, row.generation if row is not None else 1, None

    def last_completed(self) -> str | None:
        """The migration that completed last: what a rollback without a name means."""
        rows = [row for row in self._snapshot().rows.values() if row.status is Status.COMPLETED and row.finished_at]
        newest = max(rows, key=lambda row: str(row.finished_at), default=None)
        return newest.name if newest else None

    def doctor(self) -> builtins.list[Finding]:
        """Look at everything a run depends on, and say what to do about what is wrong. Writes nothing."""
        from system_migration.running import examination

        def to_do(snapshot: Snapshot) -> builtins.list[tuple[type[Migration], str | None]]:
            waits = self._waits_for_schema(snapshot)
            return [(self.registry[name], waits.get(name)) for name in overview.to_do(self.registry, snapshot)]

        return examination.examine(self._database, self.settings.environment, self._snapshot, to_do)

    def _waits_for_schema(self, snapshot: Snapshot) -> dict[str, str]:
        """What the migrations that wait for a schema revision wait for, by name."""
        concerned = overview.waiting_for_schema(self.registry, snapshot)
        if not concerned:
            return {}
        current = self._tracked.read(schema_revision.current, None)
        missing = {each.name: self._history_of_schema.told(each, current) for each in concerned}
        return {name: reason for name, reason in missing.items() if reason}

    def _snapshot(self) -> Snapshot:
        return self._tracked.snapshot()

    def _row_of(self, name: str) -> MigrationRow | None:
        return self._tracked.snapshot(name).rows.get(name)

    def _require_known(self, name: str) -> MigrationRow | None:
        row = self._row_of(name)
        if row is None:
            self.registry[name]  # raises UnknownMigration
        return row
