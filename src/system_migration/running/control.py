"""Pause, cancel and resume, asked from any process: a request where a runner lives, done at once where none does."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from sqlalchemy import Connection

from system_migration.errors import Cancelled, Refused
from system_migration.facts import CANCELLED, PAUSED, WhichRun
from system_migration.records import RunOptions
from system_migration.running.claim import what_was_asked
from system_migration.running.requests import pause_reason
from system_migration.running.workspace import Workspace
from system_migration.states import Outcome, RunKind, Status
from system_migration.store import control, issues, leases, meanwhile, migrations, runs
from system_migration.store.control import Request
from system_migration.store.migrations import MigrationRow
from system_migration.store.runs import Attempt
from system_migration.store.times import now


def ask(workspace: Workspace, name: str, request: Request) -> None:
    """Pause or cancel what runs. Returns when that is asked for, or, where the runner is dead, when it is done.

    Raises `Refused` where nothing can be asked. One transaction: dying half-way leaves everything as it was.
    """
    with workspace.database.read() as connection:
        _demand_target(connection, workspace, name, request)
    asked, at_once = f"{request}_asked", f"{request}_at_once"

    ended: MigrationRow | None = None

    def act(connection: Connection) -> bool:
        nonlocal ended
        checked = _demand_target(connection, workspace, name, request)
        lease = _lease_of_the_dead(connection, workspace, name)
        if lease is not None:
            ended = _end_at_once(connection, workspace, checked, request, lease.fence)
            leases.release(connection, lease)
        elif checked.status is not Status.RUNNING:
            raise Refused(f"Migration {name} is just being started by {checked.held_by}. Ask again in a moment.")
        elif not control.ask(connection, checked, request, workspace.actor.name):
            raise meanwhile.changed(connection, workspace.environment, name)
        action = asked if lease is None else at_once
        workspace.note(connection, name, action, run_id=checked.run_id)
        return True

    workspace.act(name, [asked, at_once], act)
    if ended is not None:
        _tell_end(workspace, ended, request)


def _tell_end(workspace: Workspace, row: MigrationRow, request: Request) -> None:
    """What the runner would have told, if it lived."""
    what = row.name, row.environment, str(row.run_id), row.run_kind or RunKind.RUN, row.generation
    run, done = WhichRun(*what, workspace.actor.name, workspace.actor.host), (row.records_processed, row.issues)
    if request is Request.PAUSE:
        workspace.progress.ended(PAUSED, *done, error=pause_reason(workspace.actor.name), of=run)
    else:
        end = Cancelled(row.name, workspace.actor.name)
        workspace.progress.ended(CANCELLED, *done, error=end.reason, error_type=type(end).__name__, of=run)


def withdraw(workspace: Workspace, name: str, options: RunOptions) -> bool:
    """Take back a pause that the runner has not obeyed yet; False when there is none to take back.

    The `options` are those of the resume that asks for it: they are only kept, so that the same one is known again.
    """

    def act(connection: Connection) -> bool:
        row = migrations.read(connection, workspace.environment, name)
        workspace.demand_unchanged(connection, name, row)
        if row is None or row.status is not Status.RUNNING or row.request != Request.PAUSE:
            return False
        if not control.withdraw(connection, row):
            workspace.demand_unchanged(connection, name, migrations.read(connection, workspace.environment, name))
            return False
        workspace.note(connection, name, "pause_withdrawn", what_was_asked(workspace, options), row.run_id)
        return True

    return workspace.act(name, ["pause_withdrawn"], act)


def _demand_target(connection: Connection, workspace: Workspace, name: str, request: Request) -> MigrationRow:
    """The row, where the request makes sense. Raises `Refused` with what the migration is instead."""
    row = migrations.read(connection, workspace.environment, name)
    workspace.demand_unchanged(connection, name, row)
    takes = {Status.RUNNING} if request is Request.PAUSE else {Status.RUNNING, Status.PAUSED}
    if row is not None and (row.status in takes or row.held_by is not None):
        return row
    state = row.status if row is not None else Status.PENDING
    raise Refused(f"Migration {name} is {state}; nothing runs that could be {_DONE[request]}.")


_DONE = {Request.PAUSE: "paused", Request.CANCEL: "cancelled"}


def _lease_of_the_dead(connection: Connection, workspace: Workspace, name: str) -> leases.Claim | None:
    """The lease, if nobody holds it; so that no runner starts, and none that was only frozen writes any more."""
    held_by = f"{workspace.actor.name} on {workspace.actor.host}"
    return leases.acquire(connection, workspace.environment, name, str(uuid4()), held_by, workspace.lease_seconds)


def _end_at_once(
    connection: Connection, workspace: Workspace, seen: MigrationRow, request: Request, fence: int
) -> MigrationRow:
    """Write what the runner would have written, once it can commit nothing any more. The row as it was before."""
    by = workspace.actor.name
    attempt = _shut_out(connection, seen, fence)
    row = migrations.read(connection, seen.environment, seen.name)  # again: its last batch may have been waited for
    assert row is not None
    workspace.demand_unchanged(connection, row.name, row)
    held = issues.count(connection, row.environment, row.name, row.generation)
    reason = pause_reason(by) if request is Request.PAUSE else Cancelled(row.name, by).reason
    if attempt is not None:
        outcome = Outcome.PAUSED if request is Request.PAUSE else Outcome.FAILED
        done = row.records_processed
        runs.finish(connection, attempt, outcome, records_processed=done, issues=held, error=reason)
    values: dict[str, Any] = {"error": reason, "finished_at": now(), "issues": held}
    values["records_processed"] = row.records_processed
    if request is Request.PAUSE:
        migrations.transition(connection, row, Status.PAUSED, **values)
    else:
        migrations.transition(connection, row, Status.FAILED, cancelled_by=by, **values)
    return row


def _shut_out(connection: Connection, row: MigrationRow, fence: int) -> Attempt | None:
    """The attempt that a dead runner left open, under our fence. None where the migration does not run."""
    if row.status is not Status.RUNNING or row.run_id is None or row.run_kind is None:
        return None
    attempt = Attempt(row.run_id, row.environment, row.name, row.generation, row.run_kind, fence)
    runs.raise_fence(connection, attempt)
    return attempt
