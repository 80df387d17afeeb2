"""Who acts on this command line, where that has to be proven: the developer whose token it is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from system_migration.cli.session import Session
from system_migration.cli.terminal import ask_hidden
from system_migration.errors import ConfigurationError, Refused
from system_migration.settings import given_token

if TYPE_CHECKING:
    from system_migration.migrator import Migrator

token_file = click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A private file with your token, which proves who you are [env: MIGRATION_TOKEN has the token itself].",
)


def of_starter(session: Session, migrator: Migrator, file: Path | None) -> Migrator:
    """The migrator, acting for the developer whose token was given; asked for only where a start needs an approval."""
    if file is None and not (session.settings.require_approval and migrator.needs_approval):
        return migrator
    return proven(session, migrator, file)


def proven(session: Session, migrator: Migrator, file: Path | None, *, ask: bool = True) -> Migrator:
    """The same for who approves. Without a token it acts for nobody who is proven: `Migrator` says what comes of that.

    Raises `Refused` for a token of nobody's, and `ConfigurationError` where it cannot be told whose it is.
    """
    token = _read(file) if file is not None else given_token(os.environ)
    if token is None and ask:
        token = ask_hidden("Your token, which proves who you are:")
    return migrator.acting_as(_name_of(session, token), identity="token") if token else migrator


def _name_of(session: Session, token: str) -> str:
    from system_migration.token_file import TokenFile

    if session.settings.tokens is None:
        raise ConfigurationError("MIGRATION_TOKENS is not set. Name in it the file that says whose token is whose.")
    name = TokenFile(Path(session.settings.tokens)).name_of(token.strip())
    if name is None:
        raise Refused("This token is not one of the token file's. `migration serve --make-token NAME` makes one.")
    if session.executed_by not in (None, name):
        raise ConfigurationError("The token says who acts. Leave out --executed-by.")
    return name


def _read(file: Path) -> str:
    """Raises `ConfigurationError` for a file that cannot be read, or that others may read.

    Its name is not told: whoever mistook the option gave the token itself.
    """
    from system_migration.token_file import demand_own

    try:
        with file.open(encoding="utf-8") as opened:
            demand_own(file, os.fstat(opened.fileno()))
            return opened.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise ConfigurationError(
            f"The file of your token cannot be read ({reason}). Give --token-file the name of a file, not the token."
        ) from None
