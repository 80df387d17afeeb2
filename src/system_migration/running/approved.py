"""May this start go on? Asked in the transaction that takes the lease: no approval that was seen before proves it."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection

from system_migration import approvals, evidence
from system_migration.errors import NotApproved
from system_migration.migration import Migration
from system_migration.records import Approval, RunOptions
from system_migration.running.workspace import Workspace
from system_migration.states import RunKind
from system_migration.store import approvals as store
from system_migration.store.audit import Actor
from system_migration.store.migrations import MigrationRow


class _Obstacle(NamedTuple):
    """Why it may not, and what to do where no report can be named for that."""

    reason: str
    next_step: str | None = None


def demand(
    connection: Connection,
    workspace: Workspace,
    migration: type[Migration],
    row: MigrationRow,
    kind: RunKind,
    options: RunOptions,
    *,
    unattended: bool,
) -> None:
    """Raise `NotApproved` unless another developer approved what is to be done, where that is required.

    A rollback needs no approval: it is the way out. An `unattended` start, of which no person can be asked, needs one
    by anybody. Until the end of the transaction nobody can withdraw what was found.
    """
    if kind is not RunKind.RUN or not workspace.require_approval:
        return
    if not approvals.is_required(connection, workspace.environment):
        return
    store.hold(connection, workspace.database.dialect, row)
    approval = approvals.standing(connection, workspace.environment, migration, row.generation)
    found = _lacking(approval, options) if approval is None or unattended else _all(approval, options, workspace.actor)
    if found is None and approval is not None:
        found = _unsigned(connection, workspace, approval)
    if found is not None:
        place = connection, workspace.environment, migration, row.generation, options
        raise NotApproved(row.name, found.reason, found.next_step or _how(migration.name, approvals.fitting(*place)))


def _all(approval: Approval, options: RunOptions, starter: Actor) -> _Obstacle | None:
    return _lacking(approval, options) or _one_person(approval, starter)


def _lacking(approval: Approval | None, options: RunOptions) -> _Obstacle | None:
    """What an approval lacks for a start with these options, whoever starts."""
    if approval is None:
        return _Obstacle("it has no approval")
    if approval.void is not None:
        return _Obstacle(f"the approval by {approval.approved_by} holds no more, as {approval.void}")
    if others := evidence.differences(approval, options):
        return _Obstacle(f"the start differs from the approved dry run in: {others}")
    return None


def _unsigned(connection: Connection, workspace: Workspace, approval: Approval) -> _Obstacle | None:
    """Where this process has the audit key, an approval without its signature may be anybody's who writes to tables."""
    key = workspace.database.signer
    if key is None or store.is_signed(connection, workspace.environment, approval.migration, key):
        return None
    return _Obstacle(f"the approval by {approval.approved_by} is not signed with MIGRATION_AUDIT_KEY as it is set here")


def _one_person(approval: Approval, starter: Actor) -> _Obstacle | None:
    """Whether approver and starter may be one person. Names are compared as people read them: in any case."""
    by = approval.approved_by
    if starter.identity is None:
        step = "Give your token with --token-file or MIGRATION_TOKEN, or start it through the API or the page."
        return _Obstacle("nothing proves who starts it", step)
    if starter.identity != approval.identity:
        kinds = f"it was approved with {_with(approval.identity)} and is started with {_with(starter.identity)}"
        step = "Start it the way it was approved, or have it approved the way it is started."
        return _Obstacle(f"{kinds}, and nothing tells whether these are two people", step)
    if starter.name.strip().casefold() == by.strip().casefold():
        return _Obstacle(f"{by} approved it, and cannot start it as well", "Let another developer start or approve it.")
    return None


def _with(identity: str) -> str:
    return {"account": "an account", "token": "a token"}.get(identity, identity)


def _how(name: str, report: str | None) -> str:
    if report is not None:
        digits = report[: approvals.SHOWN_DIGITS]
        return f"Another developer approves it with `migration approve {name} --report {digits}`."
    return f"Make a dry run with the same options, `migration dry-run {name}`, and let another developer approve it."
