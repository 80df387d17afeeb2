"""The one object a host builds. Every verb of the library is a method here; the doors only parse, call and render.

What only a run needs is imported when one begins: looking is the common case, and must start fast.
"""

from __future__ import annotations

import builtins
import copy
import getpass
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from types import TracebackType
from typing import TYPE_CHECKING
from uuid import uuid4

from sqlalchemy import Engine

from system_migration import overview, undoing
from system_migration.announcing import Announcer, Notify
from system_migration.auditing import Auditing, keys_of
from system_migration.clock import Clock, SystemClock
from system_migration.errors import (
    HeldElsewhere,
    Interrupted,
    MigrationSystemError,
    Refused,
    Withdrawn,
)
from system_migration.lease import host_name
from system_migration.looking import Looking
from system_migration.migration import Progress, SilentProgress
from system_migration.records import (
    Approval,
    DryRunReport,
    MigrationStatus,
    Origin,
    Pruned,
    RunOptions,
    RunReport,
)
from system_migration.registry import Registry
from system_migration.schema_history import SchemaHistory
from system_migration.settings import Settings
from system_migration.states import Status
from system_migration.store import tracking
from system_migration.store.audit import Actor
from system_migration.store.database import IDLE_SECONDS, Database
from system_migration.store.migrations import MigrationRow
from system_migration.telling import FLUSH_SECONDS
from system_migration.tracked import Tracked

if TYPE_CHECKING:
    from system_migration.running.workspace import Workspace

_POLL_SECONDS = 0.5
KEYS_AT_ONCE = 1_000
"""How many held rows a retry may name: each is kept with its start."""


class _StopSignal:
    """The signal that asks for a stop, once one has; shared by all that act through one migrator."""

    number: int | None = None


class Migrator(Looking, Auditing):
    """Runs the migrations of a registry against the database of an engine.

    It connects the way `engine` does, through connections of its own, which `close()` gives back (or use it as a
    context manager). Methods raise the errors of `system_migration.errors` and nothing else on purpose.

    Each function of `notify` is called with a `Notification` when a run begins and ends, in a thread of its own:
    whatever it does, no run feels it. The webhook of the settings is one more.
    """

    def __init__(
        self,
        engine: Engine,
        registry: Registry,
        settings: Settings | None = None,
        *,
        progress: Progress | None = None,
        executed_by: str | None = None,
        ask: Callable[[str], str | None] = lambda prompt: None,
        clock: Clock | None = None,
        notify: Iterable[Notify] = (),
    ) -> None:
        self.registry = registry
        self.settings = settings or Settings()
        idle_seconds = min(IDLE_SECONDS, max(1.0, self.settings.lease_seconds))
        self._database = Database(engine, self._heed, idle_seconds, signer=self.settings.audit_key)
        self._actor = Actor(executed_by or f"{_user()}@{host_name()}", host_name())
        self._progress = progress or SilentProgress()
        self._announcer = Announcer(self._database, self.settings, notify)
        self._ask = ask
        self._clock = clock or SystemClock()
        self._tracked = Tracked(self._database, self.settings.environment)
        self._history_of_schema = SchemaHistory(self.settings.alembic_config)
        self._stop = _StopSignal()
        self._origin: Origin | None = None
        self._seen: int | None = None
        self._withdrawn_by: str | None = None
        # Not a generator: two threads that act through one migrator may ask in the same moment.
        self._run_ids: Iterator[str] = iter(lambda: str(uuid4()), "")

    def __enter__(self) -> Migrator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self, wait: float = FLUSH_SECONDS) -> None:
        """Close our own connections; the host's engine is untouched. Waits at most so many seconds, as `flush` does."""
        self._announcer.close(wait)
        self._database.close()

    def flush(self, seconds: float) -> bool:
        """Wait until those who are to be told of runs know all, for at most so long; whether they do."""
        return self._announcer.flush(seconds)

    def untold(self) -> builtins.list[str]:
        """Those who do not know all yet, by name."""
        return self._announcer.untold()

    def request_stop(self, signal_number: int) -> None:
        """Ask a run in this process to finish the batch in flight and raise `Interrupted`. Safe in a signal handler."""
        self._stop.number = signal_number

    def acting_as(
        self,
        executed_by: str,
        progress: Progress | None = None,
        *,
        origin: Origin | None = None,
        seen: int | None = None,
        identity: str | None = None,
    ) -> Migrator:
        """The same migrator, its connections and its stop shared, that acts and records in another one's name.

        With an `origin` it is good for one start: the record tells where it came from, and its run bears that id.
        With `seen` it is good for one act on one migration, whose `revision` that is: what writes raises
        `ChangedMeanwhile` where the record has moved on. A dry run writes nothing, and looks at what is there.
        `identity` is for a door that knows who it is: "account" or "token" says what proved it to the door.
        """
        other = copy.copy(self)
        other._actor = Actor(executed_by, self._actor.host, identity)
        other._progress = progress or self._progress
        other._seen = seen
        if origin is not None:
            other._origin, other._run_ids = origin, chain([origin.run_id], self._run_ids)
        return other

    def withdraw(self, by: str) -> None:
        """Let the dry run or verification that goes on through this very object raise `Withdrawn` at its next look-up.

        A run is not touched: `cancel` ends it.
        """
        self._withdrawn_by = by

    @property
    def stop_asked(self) -> int | None:
        """The signal that asked for a stop, once one has."""
        return self._stop.number

    @property
    def progress(self) -> Progress:
        """Where its runs report how far they are."""
        return self._progress

    # --- running -------------------------------------------------------------------------------------------------

    def run(self, name: str | None = None, options: RunOptions | None = None) -> builtins.list[RunReport]:
        """Run what is pending in order, or one migration by name; stop at the first that does not complete.

        With nothing pending this is one SELECT. An error carries the reports of those finished before it.
        """
        options = options or RunOptions()
        reports: builtins.list[RunReport] = []
        try:
            snapshot = self._snapshot()
            self._check_window_is_named(name, options)
            self._check_no_keys(options)
            names = [self.registry[name].name] if name else overview.to_do(self.registry, snapshot, in_hand=True)
            if names:
                self._tracked.ready_to_write(options.allow_environment)
            for each in names:
                self._check_requirements(each)
                report = self._run_one(each, options, named=name is not None)
                if report is not None:
                    reports.append(report)
        except MigrationSystemError as error:
            error.reports = reports
            raise
        return reports

    def _check_window_is_named(self, name: str | None, options: RunOptions) -> None:
        if name is None and (options.from_key is not None or options.to_key is not None):
            raise Refused("A range of keys belongs to one table. Name the migration that --from-key and --to-key mean.")

    def _check_no_keys(self, options: RunOptions) -> None:
        if not options.held_only:
            self._refuse_keys(options, "a run")
        self._check_keys(options)

    def _check_keys(self, options: RunOptions) -> None:
        if options.keys is not None and not 1 <= len(options.keys) <= KEYS_AT_ONCE:
            raise Refused(
                f"A retry of chosen rows is of 1 to {KEYS_AT_ONCE:,} keys, not of {len(options.keys):,}. "
                "Without keys it is of all held rows."
            )

    def _refuse_keys(self, options: RunOptions, what: str) -> None:
        if options.keys is not None:
            raise Refused(f"Only held rows can be chosen by their keys. `retry` works on them; {what} is of all rows.")

    def _run_one(self, name: str, options: RunOptions, *, named: bool) -> RunReport | None:
        from system_migration.running.clustering import chosen
        from system_migration.running.runner import Runner

        options = chosen(options, self.settings)
        while True:
            try:
                return Runner(self._workspace(), self.registry[name], options).run(named=named)
            except HeldElsewhere as held:
                if not options.wait or type(held) is not HeldElsewhere:
                    raise
                self._progress.waiting(f"{name} is being run by {held.held_by}")
                self._wait_a_moment()
                row = self._snapshot().rows.get(name)
                if row is not None and row.status is Status.COMPLETED:
                    return None  # whoever ran it has done it

    def _wait_a_moment(self) -> None:
        self._heed()
        self._clock.sleep(_POLL_SECONDS)

    def _heed(self) -> None:
        if self._stop.number is not None:
            raise Interrupted(self._stop.number)

    def _check_requirements(self, name: str) -> None:
        rows = self._snapshot().rows
        for required in self.registry[name].requires:
            row = rows.get(required)
            if row is None or row.status not in (Status.COMPLETED, Status.SKIPPED):
                state = row.status if row else Status.PENDING
                raise Refused(f"Migration {name} requires {required}, which is {state}. Run {required} first.")

    def dry_run(
        self, name: str | None = None, options: RunOptions | None = None, *, full: bool = False
    ) -> builtins.list[DryRunReport]:
        """Preflight and transform for real, change nothing, report. A refusal is in the report, not raised."""
        from system_migration.running import clustering, recording

        options = clustering.chosen(options or RunOptions(), self.settings)
        if options.from_key is not None or options.to_key is not None:
            raise Refused("A dry run looks at the whole table. Leave out the range of keys.")
        self._refuse_keys(options, "a dry run")
        snapshot = self._snapshot()
        names = [self.registry[name].name] if name else overview.to_do(self.registry, snapshot)
        stored = bool(names) and self._tracked.ready_to_report(options.allow_environment)
        rows = snapshot.rows
        return [
            recording.dry_run(self._looking(), self.registry[each], rows.get(each), options, full=full, stored=stored)
            for each in names
        ]

    def verify(self, name: str | None = None) -> builtins.list[RunReport]:
        """Verify one COMPLETED migration, or all of them, and record the result. `error` says what did not hold."""
        from system_migration.running import recording

        rows = self._snapshot().rows
        if name is not None:
            row = rows.get(self.registry[name].name)
            self._demand_unchanged(name, row)
            if not self._is_completed(row):
                state = row.status if row is not None else Status.PENDING
                raise Refused(f"Migration {name} is {state}; only a COMPLETED one can be verified.")
        names = [name] if name else [each for each in self.registry.names if self._is_completed(rows.get(each))]
        if names:
            self._tracked.ready_to_write(allow_environment=False)
        return [recording.verify(self._looking(), self.registry[each], rows[each]) for each in names]

    def _is_completed(self, row: MigrationRow | None) -> bool:
        return row is not None and row.status is Status.COMPLETED

    def retry(self, name: str, options: RunOptions | None = None) -> RunReport:
        """Work on the held rows of a batch migration once more, and on no others. Refused when none is held.

        With `keys` on those rows alone, however often the run is taken over; refused when one of them is not held.
        """
        from system_migration.running.clustering import chosen
        from system_migration.running.runner import Runner

        migration = self.registry[name]
        options = chosen(replace(options or RunOptions(), held_only=True), self.settings)
        self._check_keys(options)
        self._tracked.ready_to_write(options.allow_environment)
        return Runner(self._workspace(), migration, options).retry()

    def rollback(self, name: str, options: RunOptions | None = None) -> RunReport:
        """Undo a migration that says it can be undone. A finished rollback starts the next generation."""
        from system_migration.running.rollback import Rollback

        options = options or RunOptions()
        migration = self.registry[name]
        self._refuse_keys(options, "a rollback")
        self._check_not_required(name)
        if migration.rollbackable:
            self._tracked.ready_to_write(options.allow_environment)
        return Rollback(self._workspace(), migration, options).rollback()

    def dry_rollback(self, name: str, options: RunOptions | None = None) -> DryRunReport:
        """Compare every journalled row with what the migration made of it, change nothing, report."""
        from system_migration.running import recording

        options, migration, row = options or RunOptions(), self.registry[name], self._snapshot().rows.get(name)
        self._refuse_keys(options, "a rollback")
        stored = self._tracked.ready_to_report(options.allow_environment)

        def check() -> None:
            self._check_not_required(name)

        return recording.dry_rollback(self._looking(), migration, row, options, check, stored=stored)

    def _check_not_required(self, name: str) -> None:
        if reason := undoing.dependent(self.registry, self._snapshot().rows, name):
            raise Refused(f"Migration {reason}")

    # --- deciding ------------------------------------------------------------------------------------------------

    def skip(self, name: str, reason: str, *, allow_environment: bool = False) -> MigrationStatus:
        """Mark a PENDING or FAILED migration as not to be run here."""
        from system_migration.running import decisions

        decisions.skip(self._deciding(name, allow_environment), self.registry[name], reason)
        return self._status_of(name)

    def reset(self, name: str, reason: str, *, allow_environment: bool = False) -> MigrationStatus:
        """Make a migration PENDING again and start its next generation: all of its work may be done once more."""
        from system_migration.running import decisions

        decisions.reset(self._deciding(name, allow_environment), self.registry[name], reason)
        return self._status_of(name)

    def approve(self, name: str, report: str, *, allow_environment: bool = False) -> Approval:
        """Say that a run may do what the dry run with this hash, or a beginning of it, has shown.

        Needs an actor whose identity is proven. Another developer starts it then, with the same options; a run that
        completes uses it up, and whatever changes meanwhile voids it.
        """
        from system_migration.running import approving

        approving.approve(self._deciding(name, allow_environment), self.registry[name], report)
        approval = self.approval(name).approval
        assert approval is not None
        return approval

    def withdraw_approval(self, name: str, *, allow_environment: bool = False) -> MigrationStatus:
        """Take back the approval of a run that has not begun. A run that goes on is not touched by it."""
        from system_migration.running import approving

        approving.withdraw(self._deciding(name, allow_environment), self.registry[name])
        return self._status_of(name)

    def pause(self, name: str, *, allow_environment: bool = False) -> MigrationStatus:
        """Ask the run that is going, wherever it goes, to stop at a clean checkpoint and wait for `resume`.

        It obeys within a batch; an `up` in its transaction ends first. Where the runner is dead, it is PAUSED at once.
        """
        return self._request("pause", name, allow_environment)

    def cancel(self, name: str, *, allow_environment: bool = False) -> MigrationStatus:
        """As `pause`, but it ends as FAILED and only a start by name continues it. Also ends a PAUSED one, at once."""
        return self._request("cancel", name, allow_environment)

    def _request(self, request: str, name: str, allow_environment: bool) -> MigrationStatus:
        from system_migration.running import control
        from system_migration.store.control import Request

        self._require_known(name)  # its file may be gone; what runs must still be stoppable
        self._tracked.ready_to_write(allow_environment)
        control.ask(self._workspace(), name, Request(request))
        return self._status_of(name)

    def resume(self, name: str, options: RunOptions | None = None) -> RunReport | None:
        """Continue a PAUSED migration in this process. None when it still ran, and its pause was taken back in time."""
        from system_migration.running import decisions

        options = options or RunOptions()
        migration = self.registry[name]
        self._check_no_keys(options)
        if self.withdraw_pause(name, options):
            return None
        row = self._row_of(name)
        self._demand_unchanged(name, row)
        decisions.check_resumable(row, name)
        self._check_requirements(name)
        return self._run_one(migration.name, options, named=True)

    def withdraw_pause(self, name: str, options: RunOptions | None = None) -> bool:
        """Take back a pause that the run, wherever it goes on, has not obeyed yet. False when there is none."""
        from system_migration.running import control

        options = options or RunOptions()
        return control.withdraw(self._deciding(name, options.allow_environment), name, options)

    def _deciding(self, name: str, allow_environment: bool) -> Workspace:
        self.registry[name]  # raises UnknownMigration
        self._tracked.ready_to_write(allow_environment)
        return self._workspace()

    def _demand_unchanged(self, name: str, row: MigrationRow | None) -> None:
        """Raise `ChangedMeanwhile` before anything else is said of a row that is not as the actor has seen it.

        What writes asks again, in its transaction.
        """
        workspace = self._workspace()
        self._tracked.read(lambda c: workspace.demand_unchanged(c, name, row), None)

    def _status_of(self, name: str) -> MigrationStatus:
        snapshot = self._snapshot()
        return overview.status_of(self.registry, snapshot, name, self._waits_for_schema(snapshot))

    def prune(self, name: str, *, allow_environment: bool = False) -> Pruned:
        """Delete the journal of a finished migration: it takes no room any more, and cannot be rolled back any more."""
        from system_migration.running.pruning import prune

        migration = self.registry[name]
        self._tracked.ready_to_write(allow_environment)
        return prune(self._workspace(), migration)

    # --- the database --------------------------------------------------------------------------------------------

    def init(self) -> bool:
        """Create the tracking tables and bind the database to the environment; True when this call did."""
        return self._tracked.init()

    def init_sql(self) -> str:
        """The SQL that creates the tracking tables, or upgrades older ones, for a role that may."""
        return tracking.creation_sql(self._database)

    def adopt(self) -> str:
        """Rebind this database, with its history, to the environment. For a restored copy, or a renamed environment.

        With REQUIRE_APPROVAL production's own database stays production's.
        """
        return self._tracked.adopt(self._actor, keep_production=self.settings.require_approval)

    def audit_rekey(self, *, allow_environment: bool = False) -> str:
        """Let the audit chain go on under this process's key, or begin it; the key's id. Recorded as an event.

        Raises `Refused` where it is the chain's key already, and where no earlier key of the settings proves where the
        chain ends. One transaction: dying half-way leaves the former key.
        """
        keys = keys_of(self.settings)
        self._tracked.rekey(self._actor, keys, allow_environment)
        return keys[0].id

    # --- pieces --------------------------------------------------------------------------------------------------

    def _workspace(self) -> Workspace:
        from system_migration.running.pulse import Voice
        from system_migration.running.workspace import Workspace

        return Workspace(
            database=self._database,
            environment=self.environment,
            actor=self._actor,
            lease_seconds=self.settings.lease_seconds,
            progress=Voice(self._progress, self._announcer.tell),
            schema=self._history_of_schema,
            ask=self._ask,
            clock=self._clock,
            stop_signal=lambda: self._stop.number,
            run_ids=self._run_ids,
            origin=self._origin,
            seen=self._seen,
            require_approval=self.settings.require_approval,
        )

    def _looking(self) -> Workspace:
        """The surroundings of what changes nothing, and so may be ended alone."""
        return replace(self._workspace(), stop_signal=self._heed_withdrawal)

    def _heed_withdrawal(self) -> int | None:
        if self._withdrawn_by is not None:
            raise Withdrawn(self._withdrawn_by)
        return self._stop.number


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"  # a container may run under a number that has no name
