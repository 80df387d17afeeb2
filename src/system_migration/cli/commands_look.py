"""Commands that only read: each calls one `Migrator` method and shows what it returned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from system_migration import wording
from system_migration.cli import exit_codes, output, text
from system_migration.cli.options import command
from system_migration.cli.session import Session
from system_migration.errors import UnreadableKey
from system_migration.records import Issue, as_json

if TYPE_CHECKING:
    from system_migration.migrator import Migrator


@command("status")
@click.option("--check", is_flag=True, help="Exit with 3 when `run` would have work, or something half-done waits.")
def status_command(session: Session, check: bool) -> int:
    """Show where every migration stands, and what `run` would do next.

    Reads only, and waits for nobody. In brackets: interrupted or stale (the runner stopped or died; the next run
    continues), not verified, rows held, code changed since the run began.
    """
    with session.migrator() as migrator:
        report = migrator.status()
    for warning in report.warnings:
        output.notice(f"warning: {wording.paragraph(warning)}")
    if session.json:
        output.document(as_json(report))
    else:
        output.lines(text.status_lines(report))
    unfinished = report.pending or wording.needs_a_person(report)
    return exit_codes.WORK_PENDING if check and unfinished else exit_codes.DONE


@command("list")
def list_command(session: Session) -> None:
    """List the migrations that the files declare; needs no database.

    --json prints a list of {name, version, description, rollbackable, manual, requires, file}.
    """
    listed = session.registry().listed()
    if session.json:
        output.document(as_json(listed))
    else:
        output.lines(text.listed_lines(listed))


@command("pending")
def pending_command(session: Session) -> None:
    """Name the migrations that `run` would take, in order.

    --json prints the list of names.
    """
    with session.migrator() as migrator:
        names = migrator.pending()
    if session.json:
        output.document(names)
    else:
        output.lines([wording.shown(name) for name in names] or ["Nothing is pending."])


@command("show")
@click.argument("name")
def show_command(session: Session, name: str) -> None:
    """Show everything known about one migration.

    Its declaration, status, runs, events and, with --json, the report of its latest dry run.
    """
    with session.migrator() as migrator:
        found = migrator.show(name)
    if session.json:
        output.document(as_json(found))
    else:
        output.lines(text.shown_lines(found))


@command("issues")
@click.argument("name")
@click.option("--key", metavar="KEY", help="Only the row with this key; of several columns, as a JSON list.")
def issues_command(session: Session, name: str, key: str | None) -> None:
    """List the rows that a migration could not change and holds.

    --json prints a list of {key, code, message, at}; a key of several columns is a list.
    """
    with session.migrator() as migrator:
        issues = migrator.issues(name) if key is None else _issue_of(migrator, name, key)
    if session.json:
        output.document(as_json(issues))
    else:
        output.lines(text.issue_lines(issues))


def _issue_of(migrator: Migrator, name: str, key: str) -> list[Issue]:
    try:
        found = migrator.issue_of(name, key)
    except ValueError:
        raise click.UsageError(str(UnreadableKey(name))) from None
    return [] if found is None else [found]


@command("logs")
@click.argument("name")
@click.option("--run", "run_id", metavar="ID", help="Only this run; `migration history NAME` lists them.")
@click.option(
    "--level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="debug",
    show_default=True,
    help="Only lines of this level or above.",
)
@click.option(
    "--limit", type=click.IntRange(1, 100_000), metavar="N", default=200, show_default=True, help="The newest N lines."
)
def logs_command(session: Session, name: str, run_id: str | None, level: str, limit: int) -> None:
    """Print the stored log of a migration's runs, oldest line first.

    --json prints a list of {at, level, message, runId}.
    """
    with session.migrator() as migrator:
        lines = migrator.logs(name, run_id=run_id, level=level, limit=limit)
    if session.json:
        output.document(as_json(lines))
    else:
        output.lines(text.log_lines(lines))


@command("history")
@click.argument("name", required=False)
@click.option("--batches", is_flag=True, help="The committed batches of the migration NAME instead.")
@click.option("--run", "run_id", metavar="ID", help="With --batches: only those of this run.")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), metavar="N", default=100, show_default=True, help="At most N of them."
)
def history_command(session: Session, name: str | None, batches: bool, run_id: str | None, limit: int) -> None:
    """List past runs, or the batches of a migration, newest first.

    Runs, dry runs, verifications and rollbacks of all migrations, or of the one that is named. With --batches what
    each batch did, how long it took and when it was committed. --json prints a list.
    """
    if batches:
        _show_batches(session, name, run_id, limit)
        return
    if run_id is not None:
        raise click.UsageError("--run belongs to --batches.")
    with session.migrator() as migrator:
        runs = migrator.history(name, limit)
    if session.json:
        output.document(as_json(runs))
    else:
        output.lines(text.history_lines(runs))


def _show_batches(session: Session, name: str | None, run_id: str | None, limit: int) -> None:
    if name is None:
        raise click.UsageError("--batches needs the NAME of a migration.")
    with session.migrator() as migrator:
        batches = migrator.batches(name, run_id=run_id, limit=limit)
    if session.json:
        output.document(as_json(batches))
    else:
        output.lines(text.batch_lines(batches))
