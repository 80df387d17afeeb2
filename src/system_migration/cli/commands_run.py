"""Commands that start something: they watch its progress, pass signals on, and report how it ended.

With --json each prints {environment, reports: [...]}, and on failure also error: {code, message}.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import click

from system_migration import wording
from system_migration.cli import exit_codes, failures, identity, output, text
from system_migration.cli.options import (
    command,
    executed_by,
    rollback_options,
    run_options,
    verbose,
    window_options,
    yes,
)
from system_migration.cli.session import Session
from system_migration.cli.terminal import confirm_last, confirm_start, stop_on_signals
from system_migration.cli.text_dry_run import dry_rollback_lines, dry_run_lines
from system_migration.errors import MigrationFailed, MigrationSystemError, Refused, VerificationFailed
from system_migration.records import DryRunReport, RunOptions, RunReport, as_json
from system_migration.settings import PRODUCTION

if TYPE_CHECKING:
    from system_migration.migrator import Migrator

R = TypeVar("R", RunReport, DryRunReport)

NOTHING_PENDING = "Nothing to do: no migration is pending."
NOTHING_COMPLETED = "Nothing to do: no migration is completed."


@command("run")
@click.argument("name", required=False)
@click.option("--dry-run", is_flag=True, help="Change no data: the same as `migration dry-run`.")
@yes
@identity.token_file
@window_options
@run_options
def run_command(
    session: Session, name: str | None, dry_run: bool, yes: bool, token_file: Path | None, **options: Any
) -> int:
    """Run every pending migration, or the one that is named.

    Stops at the first failure; started again, it continues where it stopped. Naming a completed migration looks for
    rows it missed. In production it asks for the environment's name, or needs --yes. Ctrl-C and SIGTERM finish the
    batch in flight. With --from-key or --to-key it keeps to a part of the table; if rows outside of it remain, it ends
    as PAUSED, with exit code 0. With REQUIRE_APPROVAL in production another developer has to approve it first. --json
    prints {environment, reports}, on failure with error: {code, message}.
    """
    if dry_run:
        _refuse_window(options)
        return _dry_run(session, name, given_options(session, options), full=False)
    return _run(session, name, given_options(session, options), token_file, yes=yes)


@command("run-one")
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Change no data: the same as `migration dry-run NAME`.")
@yes
@identity.token_file
@window_options
@run_options
def run_one_command(
    session: Session, name: str, dry_run: bool, yes: bool, token_file: Path | None, **options: Any
) -> int:
    """Run one migration: another spelling of `run NAME`."""
    if dry_run:
        _refuse_window(options)
        return _dry_run(session, name, given_options(session, options), full=False)
    return _run(session, name, given_options(session, options), token_file, yes=yes)


@command("dry-run")
@click.argument("name", required=False)
@click.option("--full", is_flag=True, help="Examine all rows, not a sample of them.")
@run_options
def dry_run_command(session: Session, name: str | None, full: bool, **options: Any) -> int:
    """Run the real code, change no data, and report what would happen.

    Reports the rows that would change and that would be held, samples, the expected duration, and what a dry run
    cannot cover. Exits with 5 when a run would be refused. --json prints {environment, reports}.
    """
    return _dry_run(session, name, given_options(session, options), full=full)


@command("verify")
@click.argument("name", required=False)
@verbose
@executed_by
def verify_command(session: Session, name: str | None) -> int:
    """Check completed migrations again, on a fresh connection.

    All completed ones without a name. Exits with 1 when one does not verify. --json prints {environment, reports}.
    """

    def work(migrator: Migrator) -> list[RunReport]:
        with stop_on_signals(migrator):
            return migrator.verify(name)

    return attempt(session, work, text.run_lines, _unverified, nothing="Nothing to verify: none is completed.")


@command("rollback")
@click.argument("name", required=False)
@click.option("--dry-run", is_flag=True, help="Change no data: report the rows that would be restored, and the others.")
@yes
@rollback_options
def rollback_command(session: Session, name: str | None, dry_run: bool, yes: bool, **options: Any) -> int:
    """Undo a migration: the one that is named, or the last completed one.

    Without a name it says which one it means and asks; without a terminal it needs the name or --yes. In production
    it asks for the environment's name, or needs --yes. Exits with 5 when the migration cannot be rolled back.
    Rows that were changed since are left as they are and listed by `issues`; with --max-issues it stops when they are
    more. --json prints {environment, reports}.
    """
    if dry_run:
        return _dry_rollback(session, name, given_options(session, options))

    def work(migrator: Migrator) -> list[RunReport]:
        target = name or migrator.last_completed()
        if target is None:
            return []
        if name is None and migrator.environment != PRODUCTION:
            confirm_last(target, migrator.environment, yes=yes)
        confirm_start(f"roll back {wording.shown(target)}", migrator.environment, yes=yes)
        with stop_on_signals(migrator):
            return [migrator.rollback(target, given_options(session, options))]

    return attempt(session, work, text.run_lines, nothing=NOTHING_COMPLETED)


def _run(session: Session, name: str | None, options: RunOptions, token_file: Path | None, *, yes: bool) -> int:
    def work(migrator: Migrator) -> list[RunReport]:
        if not yes and migrator.environment == PRODUCTION:
            if name is None and not migrator.pending():
                return []
            confirm_start(_start_of(migrator, name), migrator.environment, yes=yes)
        acting = identity.of_starter(session, migrator, token_file)
        with stop_on_signals(acting):
            return acting.run(name, options)

    return attempt(session, work, text.run_lines, nothing=NOTHING_PENDING)


def _start_of(migrator: Migrator, name: str | None) -> str:
    """What would be started, in words for the person who must agree to it."""
    if name is None:
        return "run the pending migrations"
    for_good = any(listed.name == name and not listed.rollbackable for listed in migrator.registry.listed())
    return f"run {wording.shown(name)}{', which cannot be rolled back,' if for_good else ''}"


def _dry_run(session: Session, name: str | None, options: RunOptions, *, full: bool) -> int:
    def work(migrator: Migrator) -> list[DryRunReport]:
        with stop_on_signals(migrator):
            return migrator.dry_run(name, options, full=full)

    return attempt(session, work, dry_run_lines, _unfit, nothing=NOTHING_PENDING)


def _dry_rollback(session: Session, name: str | None, options: RunOptions) -> int:
    def work(migrator: Migrator) -> list[DryRunReport]:
        target = name or migrator.last_completed()
        if target is None:
            return []
        with stop_on_signals(migrator):
            return [migrator.dry_rollback(target, options)]

    return attempt(session, work, dry_rollback_lines, _not_undoable, nothing=NOTHING_COMPLETED)


def _refuse_window(options: Mapping[str, Any]) -> None:
    if options["from_key"] is not None or options["to_key"] is not None:
        raise click.UsageError("A dry run looks at the whole table: leave out --from-key and --to-key.")


def given_options(session: Session, options: Mapping[str, Any]) -> RunOptions:
    """What the operator said at a start."""
    return RunOptions(verbose=session.verbose, **options)


class _Verdict(NamedTuple):
    """How an attempt ended short: the error, and the words for someone who has the reports before them."""

    error: MigrationSystemError
    brief: str


def _no_verdict(reports: Sequence[Any]) -> _Verdict | None:
    return None


def _unverified(reports: Sequence[RunReport]) -> _Verdict | None:
    bad = [report for report in reports if report.error is not None]  # without a check of its own, nothing failed
    if not bad:
        return None
    error = VerificationFailed(bad[0].name, bad[0].error or "the check did not hold")
    return _Verdict(error, f"{len(bad)} of {wording.counted(len(reports), 'migration')} did not verify.")


def _unfit(reports: Sequence[DryRunReport]) -> _Verdict | None:
    for report in reports:
        if report.refusal:
            error = Refused(f"A run of {report.name} would be refused. {report.refusal}")
            return _Verdict(error, f"A run of {report.name} would be refused.")
        if report.error:
            return _Verdict(MigrationFailed(report.name, report.error), f"The dry run of {report.name} failed.")
    return None


def _not_undoable(reports: Sequence[DryRunReport]) -> _Verdict | None:
    for report in reports:
        if report.refusal:
            return _Verdict(Refused(report.refusal), f"A rollback of {report.name} would be refused.")
    return None


def attempt(
    session: Session,
    work: Callable[[Migrator], list[R]],
    render: Callable[[Sequence[R], str], list[str]],
    judge: Callable[[Sequence[R]], _Verdict | None] = _no_verdict,
    *,
    nothing: str,
) -> int:
    """Do the work watched, then show the reports there are, also when it ended in an error."""
    with session.migrator(watched=True) as migrator:
        environment = migrator.environment
        error: MigrationSystemError | None = None
        try:
            reports = work(migrator)
        except MigrationSystemError as raised:
            error, reports = raised, cast("list[R]", list(raised.reports))
    verdict = judge(reports) if error is None else _Verdict(error, failures.without_passwords(str(error)))
    if session.json:
        document = {"environment": environment, "reports": as_json(reports)}
        output.document(document | ({"error": failures.as_document(verdict.error)} if verdict else {}))
    else:
        output.lines(render(reports, verdict.brief if verdict else "") if reports or verdict else [nothing])
        if verdict:
            output.notice(f"migration: {wording.paragraph(verdict.brief)}")
    return exit_codes.exit_code(verdict.error) if verdict else exit_codes.DONE
