"""Commands that steer a run which may be going in another process, and those that continue one here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from system_migration import wording
from system_migration.cli import identity, output, text
from system_migration.cli.commands_run import attempt, given_options
from system_migration.cli.options import allow_environment, command, executed_by, run_options, yes
from system_migration.cli.session import Session
from system_migration.cli.terminal import confirm_start, stop_on_signals
from system_migration.records import MigrationStatus, RunReport, as_json

if TYPE_CHECKING:
    from system_migration.migrator import Migrator

NOT_YET_PAUSED = "It still runs, and goes on: the pause that was asked for is taken back."


@command("pause")
@click.argument("name")
@allow_environment
@executed_by
def pause_command(session: Session, name: str, allow_environment: bool) -> None:
    """Ask a run that is going, anywhere, to stop at a clean checkpoint and wait.

    It finishes the batches in flight; an imperative migration finishes its up() first. Where the runner is dead, the
    migration is PAUSED at once. `migration resume NAME` goes on. --json prints the migration as `status` does.
    """
    with session.migrator() as migrator:
        status = migrator.pause(name, allow_environment=allow_environment)
    _show(session, status, "to pause")


@command("cancel")
@click.argument("name")
@allow_environment
@executed_by
def cancel_command(session: Session, name: str, allow_environment: bool) -> None:
    """End a run that is going or paused; only a start by name continues it.

    As `pause`, but the migration ends as FAILED. What is committed stays; `migration run NAME` continues there, and
    `migration rollback NAME` undoes it where that is possible. --json prints the migration as `status` does.
    """
    with session.migrator() as migrator:
        status = migrator.cancel(name, allow_environment=allow_environment)
    _show(session, status, "to end")


@command("resume")
@click.argument("name")
@yes
@identity.token_file
@run_options
def resume_command(session: Session, name: str, yes: bool, token_file: Path | None, **options: Any) -> int:
    """Continue a paused migration here.

    The same as `run NAME`, but refused when it is not PAUSED. A pause that the runner has not obeyed yet is taken
    back instead. --json prints {environment, reports}.
    """

    def work(migrator: Migrator) -> list[RunReport]:
        confirm_start(f"resume {wording.shown(name)}", migrator.environment, yes=yes)
        acting = identity.of_starter(session, migrator, token_file)
        with stop_on_signals(acting):
            report = acting.resume(name, given_options(session, options))
        return [] if report is None else [report]

    return attempt(session, work, text.run_lines, nothing=NOT_YET_PAUSED)


@command("retry")
@click.argument("name")
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="KEY",
    help="Only the held row with this key, as `issues` shows it; several columns: a JSON list. May be repeated.",
)
@yes
@identity.token_file
@run_options
def retry_command(
    session: Session, name: str, keys: tuple[str, ...], yes: bool, token_file: Path | None, **options: Any
) -> int:
    """Work on the held rows of a migration once more, and on no others.

    For rows that were mended, or code that now can take them; `migration issues NAME` lists them. --key, up to 1000
    times, chooses among them. Exits with 5 when none is held, or a chosen one is not. --json prints {environment,
    reports}.
    """
    options["keys"] = keys or None

    def work(migrator: Migrator) -> list[RunReport]:
        confirm_start(f"retry {wording.shown(name)}", migrator.environment, yes=yes)
        acting = identity.of_starter(session, migrator, token_file)
        with stop_on_signals(acting):
            return [acting.retry(name, given_options(session, options))]

    return attempt(session, work, text.run_lines, nothing="")


def _show(session: Session, status: MigrationStatus, asked: str) -> None:
    if session.json:
        output.document(as_json(status))
    elif status.request is not None:
        output.lines(
            [
                f"{wording.shown(status.name)} was asked {asked}; its runner obeys within a batch. "
                "If it died a moment ago, ask again when its lease is over (MIGRATION_LEASE_SECONDS)."
            ]
        )
    else:
        output.lines([f"{wording.shown(status.name)} is now {status.status}."])
