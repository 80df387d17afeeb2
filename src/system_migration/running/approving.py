"""Approving what a dry run has shown, and taking that back: one entry in the audit each, and nothing else."""

from __future__ import annotations

import re

from sqlalchemy import Connection

from system_migration import evidence
from system_migration.errors import Refused
from system_migration.migration import Migration
from system_migration.running.workspace import Workspace
from system_migration.store import approvals, migrations
from system_migration.store.approvals import APPROVE, WITHDRAW, Kept
from system_migration.store.migrations import MigrationRow

_HASH = re.compile(r"[0-9a-f]{12,64}", re.ASCII)


def approve(workspace: Workspace, migration: type[Migration], report: str) -> None:
    """Record the approval of the dry run with this hash, or with this beginning of it. Raises `Refused`.

    One transaction, which also lets a start fail that looked before it: dying half-way leaves everything as it was.
    """
    wanted, name = report.strip().lower(), migration.name
    identity = workspace.actor.identity
    if identity is None:
        raise Refused(
            f"Nothing proves who approves {name}. Give your token with --token-file or MIGRATION_TOKEN, or approve it "
            "through the API or the page."
        )
    if _HASH.fullmatch(wanted) is None:
        raise Refused(f"A report is named by 12 to 64 hexadecimal digits. `migration show {name}` has its hash.")

    def step(connection: Connection) -> bool:
        row = _unclaimed(connection, workspace, migration)
        kept = _only(approvals.reports(connection, workspace.environment, name, wanted), name)
        _demand_current(kept, migration, row)
        approvals.move_on(connection, row)
        basis = kept.report["basis"]
        said = {name: basis[name] for name in ("version", "code", "generation", "parameters")}
        detail = {"report": kept.report["hash"], "identity": identity} | said
        workspace.note(connection, name, APPROVE, detail, kept.run_id)
        return True

    workspace.act(name, [APPROVE], step)


def withdraw(workspace: Workspace, migration: type[Migration]) -> None:
    """Take the approval back, whoever gave it: it only ever keeps a start from going on. Raises `Refused` without one.

    A run that goes on is not touched: `pause` or `cancel` ends it.
    """
    name = migration.name

    def step(connection: Connection) -> bool:
        row = _unclaimed(connection, workspace, migration)
        approval = approvals.newest(connection, workspace.environment, name)
        if approval is None or approval.void is not None:
            raise Refused(f"Migration {name} has no approval that could be withdrawn.")
        approvals.move_on(connection, row)
        workspace.note(connection, name, WITHDRAW, {"report": approval.report, "by": approval.approved_by})
        return True

    workspace.act(name, [WITHDRAW], step)


def _unclaimed(connection: Connection, workspace: Workspace, migration: type[Migration]) -> MigrationRow:
    """The migration as it is, where no runner has it in its hands: that one relies on what it has found."""
    row = migrations.read_or_add(connection, workspace.environment, migration.name, migration.version)
    workspace.demand_unchanged(connection, row.name, row)
    if row.held_by is not None:
        raise workspace.held_elsewhere(connection, row.name, row.held_by)
    return row


def _only(found: list[Kept], name: str) -> Kept:
    """The newest dry run of the one hash that was found: the same hash again is the same evidence."""
    if not found:
        raise Refused(
            f"No dry run of {name} that ended well here has a report with this hash. `migration show {name}` has the "
            "hash of the newest one."
        )
    if len({each.report["hash"] for each in found}) > 1:
        raise Refused(f"More than one report of {name} begins with these digits. Give more of them.")
    return found[0]


def _demand_current(kept: Kept, migration: type[Migration], row: MigrationRow) -> None:
    if evidence.digest(kept.report) != kept.report["hash"]:
        raise Refused(f"The record of this dry run of {row.name} is not what its hash was made of. Make a new one.")
    if reason := evidence.outdated(kept.report["basis"], migration, row.generation):
        raise Refused(f"This report of {row.name} says nothing of a run now: {reason}. Make a new dry run.")
