"""Winning the right to run: one transaction takes the lease, reads everything again, and decides what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection

from system_migration import code
from system_migration.batch_migration import BatchMigration
from system_migration.batching.deaths import TOLERATED
from system_migration.batching.ranges import Gap
from system_migration.errors import Paused, Refused
from system_migration.lease import HeldLease, ensure_row
from system_migration.migration import Migration
from system_migration.records import Origin, RunOptions
from system_migration.running import approved, rights
from system_migration.running.workspace import Workspace
from system_migration.states import RunKind, Status
from system_migration.store import audit, control, deaths, journal, leases, ledger, migrations, runs, starts
from system_migration.store.leases import Claim, Previous
from system_migration.store.migrations import MigrationRow
from system_migration.store.runs import Attempt

_LOCK_SECONDS = 1.0
"""A takeover looks up from its wait for an old transaction this often: to say so, and to heed a wish to stop."""


@dataclass(frozen=True)
class Claimed:
    """A lease won, the state as read after winning, and the unfinished attempt to continue, if there is one.

    `options` are those to work with: an unattended start goes on with a run as that was asked for, and a retry keeps
    to its rows.
    """

    lease: HeldLease
    row: MigrationRow
    kind: RunKind
    inherited: Attempt | None
    options: RunOptions


Decision = Callable[[Connection, MigrationRow], RunKind | None]
"""What a row as read after winning calls for; None when there is nothing to do. Raises `Refused`."""


def what_was_asked(workspace: Workspace, options: RunOptions) -> dict[str, Any]:
    """What the record keeps of a start: the options, and where it came from. A later start can repeat it from this."""
    given = options.given()
    return ({"options": given} if given else {}) | (workspace.origin.detail() if workspace.origin else {})


def claim(workspace: Workspace, migration: type[Migration], options: RunOptions, decide: Decision) -> Claimed | None:
    """Take the lease of a migration, or raise `HeldElsewhere` or `Refused`; None when nothing is left to do.

    Everything known before is read again here: another runner may have finished in between. Where the actor decided by
    what is true no longer, that is `ChangedMeanwhile`. An unfinished attempt is
    put under the new fence in the same transaction, so its old runner can commit nothing any more.
    """
    with rights.needed(workspace.database.dialect, rights.ON_TRACKING):
        return _claim(workspace, migration, options, decide)


def _claim(workspace: Workspace, migration: type[Migration], options: RunOptions, decide: Decision) -> Claimed | None:
    environment, name = workspace.environment, migration.name
    database, waiting = workspace.database, workspace.progress.waiting
    ensure_row(database, environment, name, workspace.progress.waiting)
    # Asked without a lock first: on SQLite a runner inside a long transaction lets nobody else begin to write.
    database.ask(lambda connection: _demand_free(connection, workspace, name), waiting)
    # A UUID of this claim: if the answer to its commit is lost, the next attempt knows the lease for its own.
    us, held_by = str(uuid4()), f"{workspace.actor.name} on {workspace.actor.host}"

    def take(connection: Connection) -> Claimed | None:
        anchor = workspace.clock.monotonic()
        before = leases.previous(connection, database.dialect, environment, name)
        taken = leases.acquire(connection, environment, name, us, held_by, workspace.lease_seconds)
        if taken is None:
            holder = leases.holder(connection, environment, name) or "a runner that has just died"
            raise workspace.held_elsewhere(connection, name, holder)
        row = migrations.read_or_add(connection, environment, name, migration.version)
        if before.holder != us:  # else an earlier attempt of this very claim has looked, and may have changed it
            workspace.demand_unchanged(connection, name, row)
        kind = decide(connection, row)
        if kind is None:
            leases.release(connection, taken)
            return None
        begun = _as_begun(connection, workspace, options, row)
        approved.demand(connection, workspace, migration, row, kind, begun[1], unattended=options.unattended)
        inherited = _inherit(connection, *begun, migration, row, taken, before)
        asked = _keeping_to_its_rows(connection, begun[1], inherited)
        lease = HeldLease(database, taken, workspace.clock, anchor, waiting, says=workspace.progress.said)
        return Claimed(lease, row, kind, inherited, asked)

    # A takeover waits for the old runner's open batch: at most until the server ends an idle transaction.
    return database.transact(take, waiting, lock_seconds=_LOCK_SECONDS)


def _demand_free(connection: Connection, workspace: Workspace, name: str) -> None:
    if holder := leases.holder(connection, workspace.environment, name):
        raise workspace.held_elsewhere(connection, name, holder)


def _as_begun(
    connection: Connection, workspace: Workspace, options: RunOptions, row: MigrationRow
) -> tuple[Workspace, RunOptions]:
    """What is asked; of an unattended start, which asks for nothing, what was asked of the run that it goes on with.

    Its record then tells the same again: an operator's throttle holds however often the run changes hands, and the
    door through which it was started still knows it for its own.
    """
    if not options.unattended or row.status is not Status.RUNNING:
        return workspace, options
    start = starts.newest(connection, row.environment, row.name, str(row.run_id))
    if start is None:
        return workspace, options
    origin = Origin(start.door, start.request, start.named) if start.door and start.request else None
    return replace(workspace, origin=origin), start.options


def _keeping_to_its_rows(connection: Connection, options: RunOptions, inherited: Attempt | None) -> RunOptions:
    """What is asked, for no other held rows than those that the retry was begun for."""
    if inherited is None or not inherited.held_only:
        return options
    begun = starts.first(connection, inherited.environment, inherited.name, inherited.id)
    return replace(options, keys=begun.options.keys if begun is not None else None)


def _inherit(
    connection: Connection,
    workspace: Workspace,
    options: RunOptions,
    migration: type[Migration],
    row: MigrationRow,
    taken: Claim,
    before: Previous,
) -> Attempt | None:
    """The unfinished attempt, put under our fence; its deaths are counted if its runner died."""
    if row.status is not Status.RUNNING or row.run_id is None or row.run_kind is None:
        return None
    part = row.from_key, row.to_key, row.held_only
    attempt = Attempt(row.run_id, workspace.environment, row.name, row.generation, row.run_kind, taken.fence, *part)
    runs.take_over(connection, attempt.id, attempt.fence, code.checksum(migration))
    if before.holder == taken.holder:
        return attempt  # an earlier attempt of this very claim has noted the takeover
    migrations.take_over(connection, row)
    if not before.released and attempt.kind is RunKind.RUN and issubclass(migration, BatchMigration):
        _count_deaths(connection, attempt)
    detail = {"fence": attempt.fence, "died": not before.released} | what_was_asked(workspace, options)
    audit.add_event(connection, attempt.environment, attempt.name, "takeover", workspace.actor, detail, attempt.id)
    return attempt


def _count_deaths(connection: Connection, attempt: Attempt) -> None:
    newest = max(1, ledger.last_pass(connection, attempt))
    gaps = ledger.missing(connection, attempt, newest)
    deaths.count_deaths(connection, attempt, newest, gaps)
    if len(gaps) == 1 and deaths.deaths_of(connection, attempt, newest, gaps[0]) > TOLERATED:
        # No runner gets any further, and nothing is missing before the end: it may be the next pass that kills them.
        deaths.count_deaths(connection, attempt, newest + 1, [Gap(1, None, None, None)])


def decide_run(migration: type[Migration], options: RunOptions, *, named: bool) -> Decision:
    """What `run` does with a migration, by its status (design, section 4)."""

    def decide(connection: Connection, row: MigrationRow) -> RunKind | None:
        match row.status:
            case Status.COMPLETED if not named:
                return None
            case Status.SKIPPED | Status.ROLLED_BACK if not named:
                return None
            case Status.PAUSED if not named:
                raise Paused(row.name, row.error or "it was paused.", f"Go on with `migration run {row.name}`.")
            case Status.FAILED if not named and (row.cancelled or row.run_kind is RunKind.ROLLBACK):
                return None
            case Status.FAILED if options.unattended:
                raise Refused(
                    f"Migration {row.name} is FAILED, and a start of the application never tries again. When the "
                    f"cause is mended, `migration run {row.name}` continues it."
                )
            case Status.COMPLETED if not (issubclass(migration, BatchMigration) and migration.defines("pending")):
                raise Refused(
                    f"Migration {row.name} is COMPLETED, and nothing tells which rows it missed. To do all of its "
                    f"work again, start over with `migration reset {row.name} --reason ...`."
                )
            case Status.RUNNING | Status.FAILED | Status.PAUSED:
                check_code(connection, migration, row, options)
        continues_rollback = row.status is Status.PAUSED and row.run_kind is RunKind.ROLLBACK
        if row.status in (Status.FAILED, Status.PAUSED) and not continues_rollback:
            _check_not_half_undone(connection, row)
        if named and row.request is not None:
            control.withdraw(connection, row)  # nobody obeyed it, and now a start is wanted
        return row.run_kind if row.status in (Status.RUNNING, Status.PAUSED) else RunKind.RUN

    return decide


def _check_not_half_undone(connection: Connection, row: MigrationRow) -> None:
    place = Attempt("", row.environment, row.name, row.generation, RunKind.RUN, 0)
    if journal.undone_from(connection, place) is not None:
        raise Refused(
            f"A rollback of {row.name} has undone a part of its work, so it cannot go on. End the rollback with "
            f"`migration rollback {row.name}`, then run it again by name."
        )


def check_code(connection: Connection, migration: type[Migration], row: MigrationRow, options: RunOptions) -> None:
    """Raise `Refused` when other code than the run began with would continue half-done work."""
    if options.accept_code_change or not code.changed(migration, row.code_algorithm, row.code_checksum):
        return
    half_done = row.applied or row.intent or row.status is Status.RUNNING
    if half_done or ledger.has_batches(connection, row.environment, row.name, row.generation):
        raise Refused(
            f"The code of {row.name} changed since its run began, and part of its work is done. If the change is the "
            "fix, continue with --accept-code-change; what is done stays as the old code made it."
        )
