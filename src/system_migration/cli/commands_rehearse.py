"""`rehearse`: a migration put through everything that a night can bring, on scratch copies of the database."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from system_migration import wording
from system_migration.cli import exit_codes, output
from system_migration.cli.options import command
from system_migration.cli.session import Session
from system_migration.cli.terminal import confirm_start
from system_migration.errors import Withdrawn
from system_migration.records import as_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from system_migration.migrator import Migrator
    from system_migration.rehearsal.report import Rehearsal

LINE_SECONDS = 2.0


@command("rehearse")
@click.argument("name")
@click.option(
    "--rows",
    type=click.IntRange(1, 1_000_000),
    default=1_000,
    show_default=True,
    metavar="N",
    help="Of a table with more than N rows copy a sample of N, and what its foreign keys need.",
)
@click.option("--scratch", metavar="URL", help="A server for the scratch databases (default: the database's own).")
@click.option("--yes", is_flag=True, help="Do not ask before making scratch databases on a production server.")
def rehearse_command(session: Session, name: str, rows: int, scratch: str | None, yes: bool) -> int:
    """Rehearse a migration on scratch copies: run, run again, kill, resume, damage, undo.

    The database itself is only read. Names the first promise that the migration breaks, with the keys of rows that
    show it. Exits with 1 when one is broken, with 5 when no copies can be made. In production it asks for the
    environment's name before it makes scratch databases beside the real one, or needs --yes or --scratch. --json prints
    {name, ok, promises, notCovered, seconds, firstBroken}.
    """
    from system_migration.engines import connect

    server = connect(scratch) if scratch is not None else None
    try:
        with session.migrator() as migrator:
            migrator.registry[name]  # a wrong name is told before anything is asked
            if server is None:
                confirm_start(_verb(name), migrator.environment, yes=yes)
            rehearsal = _rehearse(session, migrator, name, rows, server)
    finally:
        if server is not None:
            server.dispose()
    if session.json:
        output.document(as_json(rehearsal))
    else:
        output.lines(map(wording.shown, rehearsal.text().splitlines()))
    return exit_codes.DONE if rehearsal.ok else exit_codes.FAILED


def _verb(name: str) -> str:
    return f"rehearse {wording.shown(name)} on scratch databases beside the real one,"


def _rehearse(session: Session, migrator: Migrator, name: str, rows: int, scratch: Engine | None) -> Rehearsal:
    from system_migration.engines import connect
    from system_migration.rehearsal.copies import copied
    from system_migration.rehearsal.rehearsing import rehearse

    source, tell = connect(session.settings.required_database_url()), _teller()
    tell("the database is only read; the work is done on scratch copies, which are removed at the end")
    try:
        with _stopped_by_signals():
            with copied(source, migrator.registry[name], rows=rows, progress=tell, scratch=scratch) as copies:
                return rehearse(migrator.registry, name, copies, settings=session.settings, progress=tell)
    finally:
        source.dispose()


def _teller() -> Callable[[str], None]:
    """Prints a line for each new step, and for the same step again (what it says before a colon) only now and then."""
    last, at = "", 0.0

    def tell(sentence: str) -> None:
        nonlocal last, at
        step = sentence.partition(":")[0]
        if step != last or time.monotonic() - at >= LINE_SECONDS:
            last, at = step, time.monotonic()
            output.notice(f"rehearsal: {wording.shown(sentence)}")

    return tell


class _Signal(KeyboardInterrupt):
    """No `Exception`: what a promise makes of a migration's errors must not swallow it."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__()


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Within this block the first Ctrl-C or SIGTERM ends the rehearsal and removes its copies.

    A second one ends at once: the copies stay, until a later rehearsal removes them.
    """
    process, asked = os.getpid(), False

    def stop(number: int, frame: Any) -> None:
        nonlocal asked
        if asked or os.getpid() != process:  # a child that a promise forked
            os._exit(exit_codes.SIGNAL + number)
        asked = True
        raise _Signal(number)

    earlier = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except _Signal as stopped:
        withdrawn = Withdrawn(signal.Signals(stopped.number).name)
        withdrawn.signal_number = stopped.number
        raise withdrawn from None
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
