"""The command that approves what a dry run has shown, or takes that back."""

from __future__ import annotations

from pathlib import Path

import click

from system_migration import wording
from system_migration.cli import identity, output
from system_migration.cli.options import allow_environment, command, executed_by
from system_migration.cli.session import Session
from system_migration.records import Approval, MigrationStatus, as_json


@command("approve")
@click.argument("name")
@click.option("--report", metavar="HASH", help="The hash of the dry run, or at least its first 12 digits.")
@click.option("--withdraw", is_flag=True, help="Take the approval back instead.")
@identity.token_file
@allow_environment
@executed_by
def approve_command(
    session: Session, name: str, report: str | None, withdraw: bool, token_file: Path | None, allow_environment: bool
) -> None:
    """Approve what a dry run has shown, for another developer to start in production.

    For REQUIRE_APPROVAL=true. The token proves who approves: from --token-file, MIGRATION_TOKEN, or typed. Whatever
    changes before the start voids it: the file, an option, a reset. Exits with 5 when the report says nothing of a run
    as it would be now. --json prints {migration, report, runId, approvedBy, ...}, with --withdraw the migration as
    `status` does.
    """
    if report is not None and withdraw:
        raise click.UsageError("Give --report HASH or --withdraw, not both.")
    if report is None and not withdraw:
        raise click.UsageError("Say what to approve with --report HASH, or give --withdraw.")
    with session.migrator() as migrator:
        done: Approval | MigrationStatus
        acting = identity.proven(session, migrator, token_file, ask=not withdraw)
        if report is None:
            done, said = acting.withdraw_approval(name, allow_environment=allow_environment), "has no approval now"
        else:
            done = acting.approve(name, report, allow_environment=allow_environment)
            said = f"is approved by {wording.shown(done.approved_by)} for report {done.report}"
    if session.json:
        output.document(as_json(done))
    else:
        output.lines([f"{wording.shown(name)} {said}."])
