"""`migration startup`: for an entrypoint that starts the application afterwards."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from system_migration import wording
from system_migration.cli import exit_codes, output
from system_migration.cli.failures import without_passwords
from system_migration.cli.options import command, executed_by, verbose
from system_migration.cli.session import Session
from system_migration.cli.terminal import stop_on_signals
from system_migration.errors import ConfigurationError

if TYPE_CHECKING:
    from system_migration.migrator import Migrator
    from system_migration.startup import StartupState


@command("startup")
@click.argument("server", nargs=-1, type=click.UNPROCESSED, metavar="[-- SERVER [ARGUMENT]...]")
@click.option("--server-holds", is_flag=True, help="SERVER itself holds requests back until it may serve.")
@verbose
@executed_by
def startup_command(session: Session, server: tuple[str, ...], server_holds: bool) -> int:
    """Do what a start of the application does about migrations, then become the server.

    RUN_MIGRATIONS_ON_STARTUP, AUTO_MIGRATE and ALLOW_PRODUCTION_AUTO_MIGRATE say what that is. What it starts, it runs
    to the end. What it may not start, what failed and a database that stays away for a minute keep no application
    from starting, unless a migration declares blocks_startup; then it waits, for MIGRATION_STARTUP_SECONDS at most.
    With SERVER it becomes that program in the end, and with --server-holds even while it must not serve yet, as soon
    as nothing runs here: it answers whoever asks how it is, and waits by itself.
    Exits with 0: start the application. 75: not yet; start this again.
    2: a setting is wrong. 130, 143: stopped at a clean checkpoint; do not start. --json prints
    {ready, state, migration, reason}.
    """
    from system_migration.startup_plan import Stage

    server_holds &= bool(server)
    with session.migrator(watched=True) as migrator:
        state, signal_number = _begin(session, migrator, until_ready=not server_holds)
    _show(session, state)
    if signal_number is not None:
        return exit_codes.SIGNAL + signal_number
    if state.stage is Stage.MISCONFIGURED:
        return exit_codes.USAGE
    if not state.ready and not server_holds:
        return exit_codes.NOT_YET
    return _become(server) if server else exit_codes.DONE


def _begin(session: Session, migrator: Migrator, *, until_ready: bool) -> tuple[StartupState, int | None]:
    """How it ended, and the signal that ended it early."""
    from system_migration.startup import Startup

    startup = Startup(migrator, executed_by=session.executed_by)
    with stop_on_signals(migrator):
        startup.begin()
        startup.wait(to_the_end=True, until_ready=until_ready)
        state, signal_number = startup.state(), migrator.stop_asked
        startup.stop()
    return state, signal_number


def _show(session: Session, state: StartupState) -> None:
    sentence = without_passwords(state.sentence)
    if session.json:
        document = {"ready": state.ready, "state": state.stage.value, "migration": state.migration}
        output.document(document | {"reason": sentence})
    else:
        output.lines([wording.paragraph(sentence)])


def _become(server: tuple[str, ...]) -> int:
    """Replace this process by the server, which then gets the signals that are sent to it."""
    try:
        os.execvp(server[0], server)
    except OSError as error:
        raise ConfigurationError(f"{server[0]!r} could not be started ({error.strerror}). Check the command.") from None
